"""The unit of knowledge."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from kgt_editor.errors import UsageError


@dataclass(frozen=True, slots=True, order=True)
class Triple:
    """A fact z = (e, r, e') (paper, section 3).

    Attributes:
        head: entity the fact is about.
        relation: a phrase that stands between head and tail, see :func:`kgt_editor.graph.relations.verbalise`.
        tail: entity, or any other object.

    Raises:
        UsageError: a part is empty.
    """

    head: str
    relation: str
    tail: str

    def __post_init__(self) -> None:
        if not (self.head.strip() and self.relation.strip() and self.tail.strip()):
            raise UsageError(f"triple {astuple(self)!r} has an empty part; head, relation and tail need text")
