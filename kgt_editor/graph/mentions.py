"""What a text mentions of a user's graph."""

from __future__ import annotations

from kgt_editor.graph.linking import Match, head_for, link, matches, stands_alone
from kgt_editor.graph.names import HeadIndex
from kgt_editor.graph.overlay import Overlay
from kgt_editor.graph.store import Graph
from kgt_editor.graph.triple import Triple


class Mentions:
    """A base graph under one user's overlay, as texts name its entities.

    Attributes:
        base: what all users share.
    """

    base: Graph
    _overlay: Overlay

    @property
    def head_index(self) -> HeadIndex:
        """The names of the entities that the user's own triples start at, aliases among them."""
        return self._overlay.head_index

    def matches(self, text: str, joined: bool = False) -> list[Match]:
        """Every head that ``text`` mentions, with scores, see :func:`kgt_editor.graph.linking.matches`."""
        return matches(text, self.head_index, self.base.head_index(), joined)

    def consequences(self, text: str, joined: bool = False) -> tuple[Match, dict[Triple, Triple]] | None:
        """An entity of ``text`` about which something follows from the user's triples, and what from which."""
        known = self._overlay.consequences
        found = [one for one in matches(text, known.head_index, HeadIndex(), joined) if stands_alone(text, one)]
        return (found[0], known.of(found[0].head)) if found else None

    def link(self, text: str, joined: bool = False) -> str | None:
        """The head ``text`` is most likely about; None where it mentions none."""
        return link(text, self.head_index, self.base.head_index(), joined)

    def head_for(self, subject: str) -> str:
        """The head under which facts about ``subject`` belong, see :func:`kgt_editor.graph.linking.head_for`."""
        return head_for(subject, self.head_index, self.base.head_index())
