"""QAEdit (Yang et al. 2025, "The Mirage of Model Editing"): questions with their real answers.

The edit gives the model an answer that it lacks, so that there is none from before. What it writes by itself is to be
judged, not what it would say with the answer in front of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from kgt_editor.data import fields
from kgt_editor.data.base import DataSet, KnownFact
from kgt_editor.data.counterfact import deal
from kgt_editor.data.record import Probe, Record
from kgt_editor.errors import UsageError

#: Questions about something else.
UNRELATED = "unrelated"
NO_SUBJECT = "the subject is not in the prompt"


def load_qaedit(path: str | Path) -> DataSet:
    """Read QAEdit, as JSON lines or a list.

    The locality questions ask something else, with answers of their own; they are the data set's known facts, too.

    Raises:
        UsageError: the file cannot be read, a record is broken, or none is an edit.
    """
    records, skipped = fields.edits(path, no_edit, parse)
    dealt = deal("qaedit", records)
    asked = {probe.prompt: probe.answers[0] for record in dealt.records for probe in record.probes}
    known = tuple(KnownFact(prompt, answer) for prompt, answer in asked.items())
    return replace(dealt, known_facts=known, skipped=skipped).hashed()


def no_edit(row: Any, where: str) -> str | None:
    """Why a well-formed record is no edit; None where it is one.

    Raises:
        UsageError: a field is missing or not what it should be.
    """
    row = fields.an_object(row, where)
    return None if fields.text(row, "subject", where) in fields.text(row, "prompt", where) else NO_SUBJECT


def parse(row: Any, where: str, position: int) -> Record:
    """One record: ``prompt`` asks for ``target``, ``rephrase`` is the question in other words.

    Raises:
        UsageError: a field is missing or not what it should be, or the subject is not in the prompt.
    """
    row = fields.an_object(row, where)
    subject, prompt = fields.subject_and_prompt(row, "prompt", where)
    listed = row.get("locality", [])
    if not isinstance(listed, list):
        raise UsageError(f"{where}: field 'locality' is not a list of questions")
    probes = []
    for number, one in enumerate(listed):
        place = f"{where}, locality {number}"
        question = fields.an_object(one, place)
        answer = fields.text(question, "loc_ans", place)
        probes.append(Probe(UNRELATED, fields.text(question, "loc", place), (answer,), carried=False))
    return fields.record(
        where,
        case_id=fields.number(row, "id", where, position),
        subject=subject,
        relation_id="",
        prompt=prompt.replace(subject, "{}", 1),
        target_new=fields.text(row, "target", where),
        target_true="",
        paraphrase_prompts=fields.texts(row, "rephrase", where),
        probes=tuple(probes),
    )
