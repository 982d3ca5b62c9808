"""What a journal holds: entries, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kgt_editor.graph.triple import Triple

#: Number of an edit, and which of its changes, counted from 0.
Place = tuple[int, int]
#: More often than this no answer stands in a prompt.
MOST_TOLD = 4


@dataclass(frozen=True, slots=True)
class Edit:
    """One entry of the journal.

    Attributes:
        number: counts from 1 for each user and is never used twice.
        query: the question that was answered.
        answer: the user's answer.
        added, removed: what changed in the graph; adds that were there and removes that were not are left out. In a
            change's place, the adds come first.
        before, after: P(answer | query) before and after the change, where the caller knows it.
        time: when it was made, in seconds since 1970 (UTC).
        undoes: number of the edit that this entry takes back; it changes nothing else.
        told: how often the answer has to stand in the prompt for the model to follow it.
    """

    number: int
    query: str
    answer: str
    added: tuple[Triple, ...] = ()
    removed: tuple[Triple, ...] = ()
    before: float | None = None
    after: float | None = None
    time: float = 0.0
    undoes: int | None = None
    told: int = 1

    def renumbered(self, offset: int) -> Edit:
        """The entry as it stands behind ``offset`` others."""
        undoes = None if self.undoes is None else self.undoes + offset
        return replace(self, number=self.number + offset, undoes=undoes)


@dataclass(frozen=True, slots=True)
class User:
    """A user of a journal: name, number of entries, and the times of the first and the last one."""

    name: str
    entries: int
    first: float | None
    last: float | None
