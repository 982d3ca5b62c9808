"""One user's graph: the base graph with the user's own adds and removes, and the journal that explains them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kgt_editor.errors import UsageError
from kgt_editor.graph.linking import HeadIndex, link
from kgt_editor.graph.store import Graph
from kgt_editor.graph.triple import Triple


@dataclass(frozen=True, slots=True)
class Edit:
    """One entry of the journal.

    Attributes:
        number: counts from 1 and is never used twice.
        query: the question that was answered.
        answer: the user's answer.
        added, removed: what changed in the graph; adds that were there and removes that were not are left out.
    """

    number: int
    query: str
    answer: str
    added: tuple[Triple, ...] = ()
    removed: tuple[Triple, ...] = ()


class PersonalGraph:
    """The base graph under one user's overlay.

    ``add`` and ``remove`` are the paper's G (+) z = G u {z} and G (-) z = G \\ {z} (section 4.3). Removing a base
    triple hides it from this user; the base itself never changes. What a triple's state is, is decided by the last
    edit in force that touches it, and by the base where there is none: so edits can be undone in any order, and
    undoing all of them gives the base.
    """

    def __init__(self, base: Graph) -> None:
        self.base = base
        self.head_index = HeadIndex()
        self._added: dict[str, dict[Triple, None]] = {}
        self._hidden: dict[str, dict[Triple, None]] = {}
        self._size = len(base)
        self._relations: dict[str, int] = {}
        self._journal: dict[int, Edit] = {}
        self._next = 1
        # Triple -> numbers of the edits in force that touch it, oldest first, with what they left behind.
        self._states: dict[Triple, dict[int, bool]] = {}

    # What is in the graph

    def triples_from(self, head: str) -> list[Triple]:
        """The triples that start at ``head``: the base's first, in its order, then the user's, oldest first."""
        base = self.base.triples_from(head)
        hidden = self._hidden.get(head)
        kept = [triple for triple in base if triple not in hidden] if hidden else list(base)
        return kept + list(self._added.get(head, ()))

    def heads(self) -> set[str]:
        """Every entity that starts a triple."""
        base = {head for head in self.base.heads() if head not in self._hidden or self.triples_from(head)}
        return base | set(self._added)

    def relations(self) -> list[str]:
        """The relation phrases of the base and of the user's own triples."""
        known = dict.fromkeys(self.base.relations())
        return list(known | dict.fromkeys(self._relations))

    def __contains__(self, triple: object) -> bool:
        if not isinstance(triple, Triple):
            return False
        if triple in self._added.get(triple.head, ()):
            return True
        return triple in self.base and triple not in self._hidden.get(triple.head, ())

    def __len__(self) -> int:
        return self._size

    @property
    def added(self) -> list[Triple]:
        """The triples this user has and the base has not."""
        return [triple for listed in self._added.values() for triple in listed]

    @property
    def removed(self) -> list[Triple]:
        """The base triples hidden from this user."""
        return [triple for listed in self._hidden.values() for triple in listed]

    def link(self, text: str, joined: bool = False) -> str | None:
        """The head ``text`` is about, see :func:`kgt_editor.graph.linking.link`."""
        return link(text, self.head_index, self.base.head_index(), joined)

    # Changing it

    def add(self, triple: Triple, query: str = "", answer: str = "") -> Edit:
        """G (+) z, as an edit of its own."""
        return self.commit(query, answer, added=[triple])

    def remove(self, triple: Triple, query: str = "", answer: str = "") -> Edit:
        """G (-) z, as an edit of its own."""
        return self.commit(query, answer, removed=[triple])

    def commit(self, query: str, answer: str, added: Iterable[Triple] = (), removed: Iterable[Triple] = ()) -> Edit:
        """Make the changes of one edit, the adds before the removes, and enter them in the journal."""
        taken = dict.fromkeys(removed)
        really_added = tuple(z for z in dict.fromkeys(added) if z not in taken and z not in self)
        really_removed = tuple(z for z in taken if z in self)
        edit = Edit(self._next, query, answer, really_added, really_removed)
        self._next += 1
        self._journal[edit.number] = edit
        for triple in edit.added:
            self._states.setdefault(triple, {})[edit.number] = True
            self._settle(triple)
        for triple in edit.removed:
            self._states.setdefault(triple, {})[edit.number] = False
            self._settle(triple)
        return edit

    def undo(self, number: int | None = None) -> Edit:
        """Take back one edit, the last one unless ``number`` says which; other edits stay in force.

        Raises:
            UsageError: there is no such edit (any more).
        """
        if number is None:
            number = next(reversed(self._journal), 0)
        edit = self._journal.pop(number, None)
        if edit is None:
            raise UsageError(f"edit {number} cannot be undone: the journal holds no such edit")
        for triple in (*edit.added, *edit.removed):
            del self._states[triple][number]
            self._settle(triple)
        return edit

    def _settle(self, triple: Triple) -> None:
        """Bring the overlay of one triple in line with the edits in force."""
        states = self._states[triple]
        in_base = triple in self.base
        wanted = next(reversed(states.values())) if states else in_base
        if not states:
            del self._states[triple]
        if wanted == (triple in self):
            return
        self._size += 1 if wanted else -1
        if in_base:
            _toggle(self._hidden, triple, present=not wanted)
            return
        _toggle(self._added, triple, present=wanted)
        count = self._relations.pop(triple.relation, 0) + (1 if wanted else -1)
        if count:
            self._relations[triple.relation] = count
        if triple.head in self._added:
            self.head_index.add(triple.head)
        else:
            self.head_index.discard(triple.head)

    # Explaining it

    @property
    def journal(self) -> list[Edit]:
        """The edits in force, oldest first."""
        return list(self._journal.values())

    def explain(self, triple: Triple) -> Edit | None:
        """The feedback that put the triple there or took it away last; None where only the base decides."""
        states = self._states.get(triple)
        return self._journal[next(reversed(states))] if states else None

    def copy(self) -> PersonalGraph:
        """An independent copy over the same base."""
        twin = PersonalGraph(self.base)
        twin.head_index = self.head_index.copy()
        twin._added = {head: dict(listed) for head, listed in self._added.items()}
        twin._hidden = {head: dict(listed) for head, listed in self._hidden.items()}
        twin._size = self._size
        twin._relations = dict(self._relations)
        twin._journal = dict(self._journal)
        twin._next = self._next
        twin._states = {triple: dict(states) for triple, states in self._states.items()}
        return twin


def _toggle(table: dict[str, dict[Triple, None]], triple: Triple, present: bool) -> None:
    listed = table.setdefault(triple.head, {})
    if present:
        listed[triple] = None
    else:
        del listed[triple]
    if not listed:
        del table[triple.head]
