"""CounterFact (Meng et al. 2022) from a file, in ROME's layout or in EasyEdit's flat one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgt_editor.data.base import DataSet, KnownFact, content_hash, seeded_key
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError

_GZIP_MAGIC = b"\x1f\x8b"
# A subject's number in 0..99 is below the end of its role.
_ROLE_ENDS = {"records": 70, "training": 85, "validation": 90, "known": 100}


def load_counterfact(path: str | Path) -> DataSet:
    """Read a CounterFact file and deal its records to the four roles.

    A hash of the subject decides: 70 % of the subjects are reported, 15 % train hypernetworks, 5 % serve tuning and
    warm-up, 10 % give facts that are never edited. So no subject has two roles, and a record keeps its role in
    every file that holds it. Neighbourhood prompts that judge a reported record are taken out of the training and
    validation records, and records about them are dropped there: an editor must not train on what it is judged by.

    Raises:
        UsageError: see :func:`read_records`.
    """
    dealt: dict[str, list[Record]] = {role: [] for role in _ROLE_ENDS}
    for record in read_records(Path(path)):
        dealt[_role(record.subject)].append(record)
    judged = {prompt for record in dealt["records"] for prompt in record.neighbourhood_prompts}
    training = _without(dealt["training"], judged)
    validation = _without(dealt["validation"], judged)
    known = tuple(KnownFact(record.query, record.target_true) for record in dealt["known"])
    reported = tuple(dealt["records"])
    revision = content_hash(reported, training, validation, known)
    return DataSet("counterfact", reported, training, validation, known, revision)


def _role(subject: str) -> str:
    point = int(seeded_key(0, subject)[:8], 16) % 100
    return next(role for role, end in _ROLE_ENDS.items() if point < end)


def _without(records: list[Record], judged: set[str]) -> tuple[Record, ...]:
    return tuple(
        replace(
            record, neighbourhood_prompts=tuple(text for text in record.neighbourhood_prompts if text not in judged)
        )
        for record in records
        if record.query not in judged
    )


def read_records(path: Path) -> list[Record]:
    """All records of a file: a JSON list or JSON lines, gzipped or not, told apart by content.

    ROME's layout: paraphrases are ``paraphrase_prompts``, or the distinct ``generation_prompts`` where there are
    none. EasyEdit's flat layout: the subject in ``prompt`` is put back to ``{}``; ``locality_prompt`` is a
    neighbourhood prompt only where its answer is the record's own true one.

    Raises:
        UsageError: the file is missing, not JSON (with the line) or a record is broken (with record and field).
    """
    records: list[Record] = []
    seen: set[int] = set()
    for where, row in _rows(path):
        if not isinstance(row, dict):
            raise UsageError(f"{where}: must be an object, not {type(row).__name__}")
        if "requested_rewrite" in row:
            record = _from_rome(row, where, len(records))
        else:
            record = _from_flat(row, where, len(records))
        if record.case_id in seen:
            raise UsageError(f"{where}: field 'case_id': {record.case_id} occurs twice in the file")
        seen.add(record.case_id)
        records.append(record)
    if not records:
        raise UsageError(f"{path}: holds no records")
    return records


def _rows(path: Path) -> list[tuple[str, Any]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(_GZIP_MAGIC) else raw).decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give a CounterFact file with --data") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (OSError, EOFError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if text.lstrip().startswith("["):
        rows = _parse(text, f"{path}", 0)
        return [(f"{path}, record {number}", row) for number, row in enumerate(rows)]
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return [(f"{path}, line {number}", _parse(line, f"{path}", number - 1)) for number, line in lines]


def _parse(text: str, path: str, lines_before: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = lines_before + error.lineno
        raise UsageError(f"{path}, line {line}, column {error.colno}: not valid JSON: {error.msg}") from None


def _from_rome(row: Mapping[str, Any], where: str, position: int) -> Record:
    rewrite = _mapping(row, "requested_rewrite", where)
    inside = f"{where}, requested_rewrite"
    paraphrases = _texts(row, "paraphrase_prompts", where) or _texts(row, "generation_prompts", where)
    return _record(
        where,
        case_id=_number(row, where, position),
        subject=_text(rewrite, "subject", inside),
        relation_id=str(rewrite.get("relation_id") or ""),
        prompt=_text(rewrite, "prompt", inside),
        target_new=_text(_mapping(rewrite, "target_new", inside), "str", f"{inside}, target_new"),
        target_true=_text(_mapping(rewrite, "target_true", inside), "str", f"{inside}, target_true"),
        paraphrase_prompts=paraphrases,
        neighbourhood_prompts=_texts(row, "neighborhood_prompts", where),
    )


def _from_flat(row: Mapping[str, Any], where: str, position: int) -> Record:
    subject, prompt = _text(row, "subject", where), _text(row, "prompt", where)
    if subject not in prompt:
        raise UsageError(f"{where}: field 'prompt': the subject {subject!r} is not in {prompt!r}")
    truth = _text(row, "ground_truth", where)
    comparable = str(row.get("locality_ground_truth") or truth).strip() == truth
    return _record(
        where,
        case_id=_number(row, where, position),
        subject=subject,
        relation_id=str(row.get("relation_id") or ""),
        prompt=prompt.replace(subject, "{}", 1),
        target_new=_text(row, "target_new", where),
        target_true=truth,
        paraphrase_prompts=_texts(row, "rephrase_prompt", where),
        neighbourhood_prompts=_texts(row, "locality_prompt", where) if comparable else (),
    )


def _record(where: str, **values: Any) -> Record:
    try:
        return Record(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _mapping(row: Mapping[str, Any], field: str, where: str) -> Mapping[str, Any]:
    value = row.get(field)
    if not isinstance(value, dict):
        raise UsageError(f"{where}: field '{field}' is {'missing' if value is None else 'not an object'}")
    return value


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: field '{field}' is {'missing' if value is None else 'not a text'}")
    return value.strip()


def _texts(row: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    """Distinct texts in the field's order; a single text counts as a list of one, an absent field as none."""
    value = row.get(field)
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise UsageError(f"{where}: field '{field}' is not a list of texts")
    return tuple(dict.fromkeys(text.strip() for text in listed if text.strip()))


def _number(row: Mapping[str, Any], where: str, position: int) -> int:
    value = row.get("case_id", position)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{where}: field 'case_id' is not a whole number")
    return value
