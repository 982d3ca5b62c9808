"""What comes back to a person who asks or tells something."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from kgt_editor.graph.entry import Edit
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.retrieval import RelevantTriple
from kgt_editor.talk.lines import as_told


class Fact(NamedTuple):
    """Something a user told.

    Attributes:
        number: of the entry in the journal, for :meth:`PersonalModel.undo`.
        triple: what the graph holds.
        question, answer: as they were told.
        when: in local time.
    """

    number: int
    triple: Triple
    question: str
    answer: str
    when: datetime

    def __str__(self) -> str:
        told = "" if self.question == self.answer else f"{as_told(self.question, self.answer)}, "
        return f"{self.number}. {self.triple.line}  ({told}{self.when:%Y-%m-%d})"

    def as_dict(self) -> dict[str, str | int]:
        """For programs: the triple's parts beside the rest, the time in ISO 8601."""
        triple = {"head": self.triple.head, "relation": self.triple.relation, "tail": self.triple.tail}
        told = {"question": self.question, "answer": self.answer, "when": self.when.isoformat(timespec="seconds")}
        return {"number": self.number, **triple, **told}


@dataclass(frozen=True)
class Answer:
    """What the model says, and why.

    Attributes:
        question: as it was asked.
        text: the answer.
        facts: the triples that bear on the question, the most probable first; none where the plain model answers.
    """

    question: str
    text: str
    facts: tuple[RelevantTriple, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Told:
    """What became of something that was told.

    Attributes:
        edit: the journal's entry.
        subject: whom or what it is about.
        followed: whether the model, asked the same again, says it.
        says: what it says then, up to 32 tokens.
    """

    edit: Edit
    subject: str
    followed: bool
    says: str

    def __str__(self) -> str:
        stored = "; ".join(triple.line for triple in self.edit.added) or "known already"
        gone = "".join(f"; no longer: {triple.line}" for triple in self.edit.removed)
        return f"{stored}{gone}{'' if self.followed else ' (kept, but asked again the model says otherwise)'}"
