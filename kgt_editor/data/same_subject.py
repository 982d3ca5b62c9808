"""Other questions on an edited subject: what an edit of one of its facts has to leave alone.

A look-up that finds the subject and answers whatever is asked with the edit's target passes every test on other
subjects, and on facts that nobody edits. These questions show it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kgt_editor.data.record import Record


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt that asks for a relation ("P103") of a subject, both as records write them."""

    subject: str
    relation: str
    prompt: str


def with_questions(records: Sequence[Record], more: Iterable[Question] = ()) -> list[Record]:
    """Records with the questions for their subjects' other relations as same-subject prompts.

    Asked are the edit prompts of the other records on the subject, and ``more``; of each relation the first. Records
    that bring questions of their own keep those, and records without a relation get none.
    """
    known: dict[str, dict[str, str]] = defaultdict(dict)
    listed = [Question(record.subject, record.relation, record.query) for record in records if record.relation]
    for question in (*listed, *more):
        known[question.subject].setdefault(question.relation, question.prompt)
    return [
        record
        if record.same_subject_prompts or not record.relation
        else replace(
            record,
            same_subject_prompts=tuple(
                prompt for relation, prompt in known[record.subject].items() if relation != record.relation
            ),
        )
        for record in records
    ]
