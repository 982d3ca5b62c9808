"""KnowEdit (Zhang et al. 2024, "A Comprehensive Study of Knowledge Editing for Large Language Models").

Its parts ZsRE, wiki_counterfact and wiki_recent ask, beside the edit, what it has to carry along (portability) and what
it has to leave alone (locality), each in kinds of its own, which keep their names here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgt_editor.data import fields
from kgt_editor.data.base import DataSet
from kgt_editor.data.counterfact import deal
from kgt_editor.data.record import Probe, Record
from kgt_editor.errors import UsageError

#: Facts of the edited subject's other relations, which are asked like those of other data sets, too.
SAME_SUBJECT = "Relation_Specificity"
NO_CHANGE = "the new answer is a true one"
NO_SUBJECT = "the subject is not in the prompt"


def load_knowedit(path: str | Path) -> DataSet:
    """Read one of KnowEdit's files, as JSON lines or a list.

    A record's role is that of its subject, as in CounterFact (:func:`kgt_editor.data.counterfact.deal`). Records that
    are no edits are left out and counted in ``skipped``.

    Raises:
        UsageError: the file cannot be read, a record is broken, or none is an edit.
    """
    records, skipped = fields.edits(path, no_edit, parse)
    return replace(deal("knowedit", records), skipped=skipped)


def no_edit(row: Any, where: str) -> str | None:
    """Why a well-formed record is no edit; None where it is one.

    Raises:
        UsageError: a field is missing or not what it should be.
    """
    row = fields.an_object(row, where)
    if fields.text(row, "target_new", where) in fields.texts(row, "ground_truth", where):
        return NO_CHANGE
    return None if fields.text(row, "subject", where) in fields.text(row, "prompt", where) else NO_SUBJECT


def parse(row: Any, where: str, position: int) -> Record:
    """One record. ``wiki_recent`` has no answer from before the edit.

    Args:
        row: the parsed JSON value.
        where: its place, for messages.
        position: its case number.

    Raises:
        UsageError: a field is missing or not what it should be, or the subject is not in the prompt.
    """
    row = fields.an_object(row, where)
    subject, prompt = fields.subject_and_prompt(row, "prompt", where)
    probes = tuple(
        probe for side in ("portability", "locality") for probe in _probes(row, side, where) if probe.prompt != prompt
    )
    truths = fields.texts(row, "ground_truth", where)
    return fields.record(
        where,
        case_id=fields.number(row, "case_id", where, position),
        subject=subject,
        relation_id="",
        prompt=prompt.replace(subject, "{}", 1),
        target_new=fields.text(row, "target_new", where),
        target_true=truths[0] if truths else "",
        paraphrase_prompts=fields.texts(row, "rephrase_prompt", where),
        same_subject_prompts=tuple(dict.fromkeys(probe.prompt for probe in probes if probe.kind == SAME_SUBJECT)),
        probes=probes,
    )


def _probes(row: Mapping[str, Any], side: str, where: str) -> Iterator[Probe]:
    for kind, listed in fields.mapping(row, side, where).items():
        inside = f"{where}, {side}, {kind}"
        if not isinstance(listed, list):
            raise UsageError(f"{inside}: is not a list of questions")
        for number, one in enumerate(listed):
            place = f"{inside}, question {number}"
            question = fields.an_object(one, place)
            answers = fields.texts({"ground_truth": _flat(question.get("ground_truth"))}, "ground_truth", place)
            if answers:  # without one nothing says whether it is answered rightly
                yield Probe(kind, fields.text(question, "prompt", place), answers, carried=side == "portability")


def _flat(truths: Any) -> Any:
    """Answers with their aliases, a list of lists in ``wiki_recent``, as one list."""
    if isinstance(truths, list) and all(isinstance(item, list) for item in truths):
        return [alias for item in truths for alias in item]
    return truths
