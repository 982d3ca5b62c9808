"""CounterFact-Hard (Chen et al. 2024, EREN): CounterFact as questions, with others on the edited subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgt_editor.data import fields
from kgt_editor.data.base import DataSet
from kgt_editor.data.counterfact import deal
from kgt_editor.data.reading import read_rows
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError

NO_QUESTION = "no in-scope question"
NO_SUBJECT = "the subject is in no wording of the edit"
NO_CHANGE = "the new answer is a true one"
IN_SCOPE = "a question on the same subject, or a neighbour, that is in scope"
OTHER_TRUTH = "a neighbour whose true answer is not that of the record"


def load_counterfact_hard(path: str | Path) -> DataSet:
    """Read CounterFact-Hard from JSON lines, or a list.

    A record's role is that of its subject, as in CounterFact itself (:func:`kgt_editor.data.counterfact.deal`).
    Records that are no edits are left out and counted in ``skipped``, prompts in ``skipped_prompts``.

    Raises:
        UsageError: the file cannot be read, a record is broken, a number occurs twice, or no record is an edit.
    """
    records: list[Record] = []
    skipped: Counter[str] = Counter()
    prompts: Counter[str] = Counter()
    seen: set[int] = set()
    for position, (where, row) in enumerate(read_rows(path)):
        reason = no_edit(row, where)
        if reason:
            skipped[reason] += 1
            continue
        record = parse(row, where, position)
        if record.case_id in seen:
            raise UsageError(f"{where}: field 'id': {record.case_id} occurs twice in the file")
        seen.add(record.case_id)
        records.append(record)
        prompts += left_out(row, where, record)
    if not records:
        raise UsageError(f"{path}: holds no edits: {', '.join(skipped) or 'it is empty'}")
    return replace(deal("counterfact-hard", records), skipped=skipped, skipped_prompts=prompts)


def no_edit(row: Any, where: str) -> str | None:
    """Why a well-formed record is no edit; None where it is one.

    Raises:
        UsageError: a field is missing or not what it should be.
    """
    row = fields.an_object(row, where)
    scope, truths = _scope(row, where)
    if not scope:
        return NO_QUESTION
    if any(new in truths for _, new in scope):
        return NO_CHANGE
    return None if _edit_prompt(row, where, scope) else NO_SUBJECT


def parse(row: Any, where: str, position: int) -> Record:
    """One record.

    The edit prompt is ``edit_statement`` without its answer. Where the statement does not name the subject, or does
    not end in the answer, it is the first in-scope question that names the subject. The other in-scope questions are
    the paraphrases, and ``same_subj`` the questions whose answer the edit should leave alone; several true answers of
    a question stand in the file as if they were those of several, so that they are not read. Neighbours are those of
    ``neighbor_subj`` whose true answer is the record's own: a neighbourhood score compares with no other.

    Args:
        row: the parsed JSON value.
        where: its place, for messages.
        position: its case number where it names none.

    Raises:
        UsageError: a field is missing or not what it should be, or the record is no edit (:func:`no_edit`).
    """
    row = fields.an_object(row, where)
    scope, truths = _scope(row, where)
    if not scope:
        raise UsageError(f"{where}: field 'edit_scope': {NO_QUESTION}")
    subject, prompt = fields.text(row, "subject_name", where), _edit_prompt(row, where, scope)
    if prompt is None:
        raise UsageError(f"{where}: field 'edit_statement': the subject {subject!r} is in no wording of the edit")
    query = prompt.replace("{}", subject)
    asked = {question for question, _ in scope} | {query}
    around, same = _unrelated(row, where)
    return fields.record(
        where,
        case_id=fields.number(row, "id", where, position),
        subject=subject,
        relation_id="",
        prompt=prompt,
        target_new=scope[0][1],
        target_true=truths[0],
        paraphrase_prompts=tuple(question for question, _ in scope if question != query),
        neighbourhood_prompts=tuple(
            prompt for prompt, truth in around.items() if truth == truths[0] and prompt not in asked
        ),
        same_subject_prompts=tuple(prompt for prompt in same if prompt not in asked),
    )


def left_out(row: Mapping[str, Any], where: str, record: Record) -> Counter[str]:
    """How many of a record's distinct questions :func:`parse` has left out, and why."""
    around, same = _unrelated(row, where)
    others = sum(truth != record.target_true for truth in around.values())
    kept = len(record.neighbourhood_prompts) + len(record.same_subject_prompts)
    return +Counter({OTHER_TRUTH: others, IN_SCOPE: len(around) + len(same) - others - kept})


def _scope(row: Mapping[str, Any], where: str) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """The distinct in-scope questions with the new answer, and the true answers."""
    listed = row.get("edit_scope")
    if not isinstance(listed, list):
        raise UsageError(f"{where}: field 'edit_scope' is {'missing' if listed is None else 'not a list'}")
    scope: dict[str, str] = {}
    for pair in listed:
        if not isinstance(pair, list) or len(pair) != 2:
            raise UsageError(f"{where}: field 'edit_scope' is not a list of questions with their answers")
        one = {"question": pair[0], "answer": pair[1]}
        scope[fields.text(one, "question", f"{where}, edit_scope")] = fields.text(one, "answer", f"{where}, edit_scope")
    if len(set(scope.values())) > 1:
        raise UsageError(f"{where}: field 'edit_scope': its questions have different new answers")
    truths = fields.texts(row, "edit_scope_true_ans", where)
    if scope and not truths:
        raise UsageError(f"{where}: field 'edit_scope_true_ans' is missing")
    return list(scope.items()), truths


def _edit_prompt(row: Mapping[str, Any], where: str, scope: list[tuple[str, str]]) -> str | None:
    subject, new = fields.text(row, "subject_name", where), scope[0][1]
    statement = fields.text(row, "edit_statement", where).removesuffix(".").rstrip()
    stem = statement.removesuffix(new)
    ends_in_answer = stem != statement and stem.endswith(" ")
    wordings = [*([stem.rstrip()] if ends_in_answer else []), *(question for question, _ in scope)]
    named = next((text for text in wordings if subject in text), None)
    return None if named is None else named.replace(subject, "{}", 1)


def _unrelated(row: Mapping[str, Any], where: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The neighbours' questions with their true answers, and those on the same subject; each once."""
    inside = f"{where}, unrelated"
    unrelated = fields.mapping(row, "unrelated", where)
    truths = fields.mapping(row, "unrelated_true_ans", where).get("neighbor_subj")
    asked = unrelated.get("neighbor_subj") or []
    fields.texts(unrelated, "neighbor_subj", inside)  # says what is wrong with them
    fields.texts({"neighbor_subj": truths}, "neighbor_subj", f"{where}, unrelated_true_ans")
    if not (isinstance(asked, list) and isinstance(truths, list) and len(asked) == len(truths)):
        raise UsageError(f"{where}: field 'neighbor_subj' must hold as many questions as true answers")
    around = {prompt.strip(): truth.strip() for prompt, truth in zip(asked, truths, strict=True) if prompt.strip()}
    return around, fields.texts(unrelated, "same_subj", inside)
