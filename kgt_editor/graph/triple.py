"""The unit of knowledge."""

from __future__ import annotations

from typing import NamedTuple

from kgt_editor.errors import UsageError

#: Most characters of a head, relation or tail. ConceptNet's longest term has a few hundred.
MAX_CHARACTERS = 1000


class _Parts(NamedTuple):
    head: str
    relation: str
    tail: str


class Triple(_Parts):
    """A fact z = (e, r, e') (paper, section 3).

    A tuple, because a graph makes thousands of them a second.

    Attributes:
        head: entity the fact is about.
        relation: a phrase that stands between head and tail, see :func:`kgt_editor.graph.relations.verbalise`.
        tail: entity, or any other object.

    Raises:
        UsageError: a part is empty, or longer than ``MAX_CHARACTERS``.
    """

    __slots__ = ()

    def __new__(cls, head: str, relation: str, tail: str) -> Triple:
        """Check the parts and make the triple."""
        if not (head.strip() and relation.strip() and tail.strip()):
            raise UsageError(f"triple {(head, relation, tail)!r} has an empty part; head, relation and tail need text")
        if max(len(head), len(relation), len(tail)) > MAX_CHARACTERS:
            name, part = max(zip(cls._fields, (head, relation, tail), strict=True), key=lambda pair: len(pair[1]))
            raise UsageError(
                f"{name} {part[:40]!r}... has {len(part):,} characters; a triple's part may have {MAX_CHARACTERS:,}"
            )
        return super().__new__(cls, head, relation, tail)

    @property
    def line(self) -> str:
        """As people read it: ``head | relation | tail``."""
        return " | ".join(self)


def stored_triple(parts: tuple[str, str, str]) -> Triple:
    """The triple of a row that was checked when it was stored."""
    return tuple.__new__(Triple, parts)
