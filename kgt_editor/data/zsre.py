"""zsRE, question answering as editing (Levy et al. 2017), in the JSON of MEND and EasyEdit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgt_editor.data import fields
from kgt_editor.data.base import DataSet, KnownFact
from kgt_editor.data.counterfact import deal
from kgt_editor.data.reading import read_rows
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError


def load_zsre(path: str | Path) -> DataSet:
    """Read a zsRE file (MEND's ``zsre_mend_train.json``, ``zsre_mend_eval.json`` and the like).

    The locality questions are Natural Questions about something else with answers of their own. They cannot be
    neighbourhood prompts, which share the true answer of their record; they are the data set's known facts.
    Published files hold records without a new answer, or with the true one as the new: neither is an edit, and
    ``skipped`` counts them.

    Raises:
        UsageError: the file cannot be read, a record is broken, or none is an edit.
    """
    records: list[Record] = []
    asked: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    for position, (where, row) in enumerate(read_rows(path)):
        reason = no_edit(row)
        if reason:
            skipped[reason] += 1
            continue
        records.append(parse(row, where, position))
        question = fields.optional_text(row, "loc", where)
        if question:
            asked.setdefault(question, fields.text(row, "loc_ans", where))
    if not records:
        raise UsageError(f"{path}: holds no edits: {', '.join(skipped)}")
    dealt = deal("zsre", records)
    known = (*dealt.known_facts, *(KnownFact(question, answer) for question, answer in asked.items()))
    return replace(dealt, known_facts=known, skipped=skipped).hashed()


def no_edit(row: Any) -> str | None:
    """Why a well-formed record asks for no edit; None where it does."""
    if not isinstance(row, dict) or not isinstance(row.get("alt"), str):
        return None
    answers = row.get("answers")
    if not row["alt"].strip():
        return "the new answer is empty"
    if isinstance(answers, list) and row["alt"] in answers:
        return "the new answer is a true one"
    return None


def parse(row: Any, where: str, position: int) -> Record:
    """One record: ``src`` asks for ``answers[0]``, ``alt`` is the new answer, ``rephrase`` the question reworded.

    ``pred``, what MEND's own model had answered, and ``cond``, the same as a text, are not used.

    Raises:
        UsageError: a field is missing or not what it should be.
    """
    row = fields.an_object(row, where)
    subject, question = fields.subject_and_prompt(row, "src", where)
    answers = fields.texts(row, "answers", where)
    if not answers:
        raise UsageError(f"{where}: field 'answers' is missing")
    return fields.record(
        where,
        case_id=fields.number(row, "case_id", where, position),
        subject=subject,
        relation_id="",
        prompt=question.replace(subject, "{}", 1),
        target_new=fields.text(row, "alt", where),
        target_true=answers[0],
        paraphrase_prompts=fields.texts(row, "rephrase", where),
    )
