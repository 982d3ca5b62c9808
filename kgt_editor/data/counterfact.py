"""CounterFact (Meng et al. 2022), in ROME's layout or in EasyEdit's flat one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgt_editor.data import fields
from kgt_editor.data.base import DataSet, KnownFact, seeded_key
from kgt_editor.data.download import COUNTERFACT, fetch
from kgt_editor.data.reading import read_rows
from kgt_editor.data.record import Record
from kgt_editor.data.same_subject import Question, with_questions
from kgt_editor.errors import UsageError

# A subject's number in 0..99 is below the end of its role.
_ROLE_ENDS = {"records": 70, "training": 85, "validation": 90, "known": 100}


def load_counterfact(
    path: str | Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    questions: Iterable[Question] = (),
) -> DataSet:
    """CounterFact from a file, or from ROME's public address where none is given (see :mod:`..download`).

    Args:
        path: the file; it always wins over the download.
        progress: told the bytes fetched so far and in all.
        questions: on the records' subjects, see :func:`deal`.

    Raises:
        UsageError: see :func:`read_records`.
        KgtError: the download failed.
    """
    records = read_records(fetch(COUNTERFACT, progress=progress) if path is None else path)
    return deal("counterfact", records, questions)


def deal(name: str, records: Iterable[Record], questions: Iterable[Question] = ()) -> DataSet:
    """Deal records to the four roles of a data set.

    A hash of the subject decides: 70 % of the subjects are reported, 15 % train hypernetworks, 5 % serve tuning and
    warm-up, 10 % give facts that are never edited. So no subject has two roles, and a record keeps its role in
    every file that holds it. Neighbourhood and same-subject prompts that judge a reported record are taken out of the
    neighbourhood prompts of the training and validation records, and records about them are dropped there: an editor
    must not train on what it is judged by. A run that asks for more records than are reported edits all of them
    (:meth:`DataSet.reaching`).

    Args:
        name: of the data set.
        records: of the file.
        questions: on the records' subjects, besides those of the records themselves (:func:`with_questions`).
    """
    records = tuple(with_questions(tuple(records), questions))
    dealt: dict[str, list[Record]] = {name: [] for name in _ROLE_ENDS}
    for record in records:
        dealt[role(record.subject)].append(record)
    judged = {
        prompt
        for record in dealt["records"]
        for prompt in (*record.neighbourhood_prompts, *record.same_subject_prompts)
    }
    training = _without(dealt["training"], judged)
    validation = _without(dealt["validation"], judged)
    known = tuple(KnownFact(record.query, record.target_true) for record in dealt["known"] if record.target_true)
    return DataSet(name, tuple(dealt["records"]), training, validation, known, all_records=records).hashed()


def role(subject: str) -> str:
    """The role of a subject's records: ``records``, ``training``, ``validation`` or ``known``; see :func:`deal`."""
    point = int(seeded_key(0, subject)[:8], 16) % 100
    return next(name for name, end in _ROLE_ENDS.items() if point < end)


def _without(records: list[Record], judged: set[str]) -> tuple[Record, ...]:
    return tuple(
        replace(
            record, neighbourhood_prompts=tuple(text for text in record.neighbourhood_prompts if text not in judged)
        )
        for record in records
        if record.query not in judged
    )


def read_records(path: str | Path) -> list[Record]:
    """All records of a file in either layout: a JSON list or JSON lines, gzipped or not, told apart by content.

    Raises:
        UsageError: the file cannot be read as JSON or a record is broken; the message names file, record and field.
    """
    records: list[Record] = []
    seen: set[int] = set()
    for where, row in read_rows(path):
        record = parse(row, where, len(records))
        if record.case_id in seen:
            raise UsageError(f"{where}: field 'case_id': {record.case_id} occurs twice in the file")
        seen.add(record.case_id)
        records.append(record)
    return records


def parse(row: Any, where: str, position: int) -> Record:
    """One record in ROME's or EasyEdit's layout.

    ROME's: paraphrases are ``paraphrase_prompts``, or the distinct ``generation_prompts`` where there are none.
    EasyEdit's: the subject in ``prompt`` is put back to ``{}``; ``locality_prompt`` is a neighbourhood prompt only
    where its answer is the record's own true one.

    Args:
        row: the parsed JSON value.
        where: its place, for messages.
        position: its case number where it names none.

    Raises:
        UsageError: a field is missing or not what it should be.
    """
    row = fields.an_object(row, where)
    return _from_rome(row, where, position) if "requested_rewrite" in row else _from_flat(row, where, position)


def _from_rome(row: Mapping[str, Any], where: str, position: int) -> Record:
    rewrite = fields.mapping(row, "requested_rewrite", where)
    inside = f"{where}, requested_rewrite"
    targets = {name: fields.mapping(rewrite, name, inside) for name in ("target_new", "target_true")}
    generation = fields.texts(row, "generation_prompts", where)
    return fields.record(
        where,
        case_id=fields.number(row, "case_id", where, position),
        subject=fields.text(rewrite, "subject", inside),
        relation_id=fields.optional_text(rewrite, "relation_id", inside),
        prompt=fields.text(rewrite, "prompt", inside),
        target_new=fields.text(targets["target_new"], "str", f"{inside}, target_new"),
        target_true=fields.text(targets["target_true"], "str", f"{inside}, target_true"),
        paraphrase_prompts=fields.texts(row, "paraphrase_prompts", where) or generation,
        neighbourhood_prompts=fields.texts(row, "neighborhood_prompts", where),
        attribute_prompts=fields.texts(row, "attribute_prompts", where),
        generation_prompts=generation,
        target_new_id=fields.optional_text(targets["target_new"], "id", f"{inside}, target_new"),
        target_true_id=fields.optional_text(targets["target_true"], "id", f"{inside}, target_true"),
        pararel_idx=fields.number(row, "pararel_idx", where, None),
    )


def _from_flat(row: Mapping[str, Any], where: str, position: int) -> Record:
    subject, prompt = fields.text(row, "subject", where), fields.text(row, "prompt", where)
    if subject not in prompt:
        raise UsageError(f"{where}: field 'prompt': the subject {subject!r} is not in {prompt!r}")
    truth = fields.text(row, "ground_truth", where)
    comparable = (fields.optional_text(row, "locality_ground_truth", where) or truth) == truth
    return fields.record(
        where,
        case_id=fields.number(row, "case_id", where, position),
        subject=subject,
        relation_id=fields.optional_text(row, "relation_id", where),
        prompt=prompt.replace(subject, "{}", 1),
        target_new=fields.text(row, "target_new", where),
        target_true=truth,
        paraphrase_prompts=fields.texts(row, "rephrase_prompt", where),
        neighbourhood_prompts=fields.texts(row, "locality_prompt", where) if comparable else (),
    )
