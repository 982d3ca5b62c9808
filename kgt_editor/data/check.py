"""A validator for files of edits: what they hold, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgt_editor.data import counterfact, counterfact_hard, knowedit, mquake, qaedit, zsre
from kgt_editor.data.reading import read_rows
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError
from kgt_editor.requests import subject_place

SHOWN = 10

#: Kinds of problems, in the order of the report.
KINDS = {
    "file": "the file breaks off or is no JSON",
    "field": "a field is missing or of the wrong form",
    "subject": "the subject is absent from a prompt, or only a part of a word of it",
    "target": "the new target equals the true one",
    "duplicate": "the same edit, or the same case number, a second time",
    "encoding": "text that was decoded wrongly somewhere",
}


@dataclass(frozen=True, slots=True)
class Offender:
    """One offender: its place, what kind of problem it is, and the message that names the field."""

    where: str
    kind: str
    message: str


@dataclass
class FileReport:
    """What a file holds.

    Attributes:
        counts: records, distinct subjects, relations and targets, prompts of each sort.
        layouts: how many records are in which layout, a name of ``_PARSERS``.
        absent: optional fields that records lack, with the number of records.
        notes: what is worth knowing and no fault.
        problems: how many of each of :data:`KINDS`.
        offenders: the first :data:`SHOWN` of them.
    """

    path: Path
    counts: dict[str, int] = field(default_factory=dict)
    layouts: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    offenders: list[Offender] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def add(self, where: str, kind: str, message: str) -> None:
        """Count a problem and keep it if it is among the first."""
        self.problems[kind] += 1
        if len(self.offenders) < SHOWN:
            self.offenders.append(Offender(where, kind, message))


_OPTIONAL = {
    "rome": ("paraphrase_prompts", "neighborhood_prompts", "attribute_prompts", "generation_prompts", "pararel_idx"),
    "flat": ("rephrase_prompt", "locality_prompt", "locality_ground_truth"),
    "hard": (),
    "zsre": ("rephrase", "loc", "loc_ans"),
    "knowedit": ("ground_truth", "rephrase_prompt"),
    "qaedit": ("rephrase",),
}
_PARSERS = {
    "rome": counterfact.parse,
    "flat": counterfact.parse,
    "hard": counterfact_hard.parse,
    "zsre": zsre.parse,
    "knowedit": knowedit.parse,
    "qaedit": qaedit.parse,
}
# The field by which a layout is known; what has none of them, nor a requested_rewrite, is EasyEdit's flat one.
_MARKS = {"zsre": "src", "hard": "edit_statement", "knowedit": "portability", "qaedit": "rephrase"}


def check_file(path: str | Path) -> FileReport:
    """Look at every record of a file whose layout is known: those of ROME, EasyEdit, EREN, zsRE, KnowEdit, QAEdit,
    MQuAKE.

    Raises:
        UsageError: there is no such file. What is wrong inside it is reported, not raised.
    """
    path = Path(path)
    if not path.is_file():
        list(read_rows(path))  # says why
    report, seen = FileReport(path), _Seen()
    rows = read_rows(path)
    position = 0
    while True:
        try:
            where, row = next(rows)
        except StopIteration:
            break
        except UsageError as error:
            kind = "encoding" if "not UTF-8" in str(error) else "file"
            report.add(f"after {position} records", kind, str(error))
            break
        _check_row(report, seen, where, row, position)
        position += 1
    report.counts = {
        "records": position,
        **{name: len(values) for name, values in seen.distinct.items()},
        **seen.prompts,
    }
    return report


class _Seen:
    """What earlier records held."""

    def __init__(self) -> None:
        self.cases: dict[int, str] = {}
        self.edits: dict[tuple[str, ...], str] = {}
        self.answers: dict[str, str] = {}
        self.distinct: dict[str, set[str]] = {
            name: set() for name in ("subjects", "relations", "new targets", "true targets")
        }
        self.prompts: Counter[str] = Counter()


def _check_row(report: FileReport, seen: _Seen, where: str, row: Any, position: int) -> None:
    layout = "rome"
    if isinstance(row, dict) and "requested_rewrite" not in row:
        layout = next((name for name, mark in _MARKS.items() if mark in row), "flat")
    elif isinstance(row, dict) and isinstance(row["requested_rewrite"], list):
        layout = "mquake"
    for name in _texts_with_faults(row):
        report.add(where, "encoding", f"{where}: {name}")
    try:
        if layout == "zsre" and (reason := zsre.no_edit(row)):
            report.add(
                where, "field" if "empty" in reason else "target", f"{where}: field 'alt' {row['alt']!r}: {reason}"
            )
            return
        if layout == "knowedit" and knowedit.no_edit(row, where) == knowedit.NO_CHANGE:
            report.add(where, "target", f"{where}: field 'target_new' {row['target_new']!r}: {knowedit.NO_CHANGE}")
            return
        if layout == "mquake":
            _check_case(report, seen, where, mquake.parse_case(row, where, position))
            return
        record = _PARSERS[layout](row, where, position)
    except UsageError as error:
        message = str(error)
        report.add(where, "subject" if "the subject" in message else "field", message)
        return
    report.layouts[layout] += 1
    report.absent.update(name for name in _OPTIONAL[layout] if row.get(name) in (None, [], ""))
    _count(seen, record)
    if layout == "hard":
        report.notes.update({f"left out: {why}": n for why, n in counterfact_hard.left_out(row, where, record).items()})
    _check_record(report, seen, where, record)


def _check_case(report: FileReport, seen: _Seen, where: str, case: mquake.Case) -> None:
    """A case of several edits, which other cases may share."""
    report.layouts["mquake"] += 1
    for record in mquake.records_of(case):
        _count(seen, record)
        seen.distinct.setdefault("different edits", set()).add(record.query)
        _check_edit(report, where, record)


def _check_edit(report: FileReport, where: str, record: Record) -> None:
    if record.subject and record.subject in record.query and subject_place(record.query, record.subject) is None:
        told = f"the subject {record.subject!r} is only a part of a word of {record.query!r}"
        report.add(where, "subject", f"{where}: field 'prompt': {told}; no editor can edit it")
    if record.target_new.casefold() == record.target_true.casefold():
        report.add(where, "target", f"{where}: the new target {record.target_new!r} equals the true one")


def _count(seen: _Seen, record: Record) -> None:
    seen.distinct["subjects"].add(record.subject)
    seen.distinct["relations"].update([record.relation_id] if record.relation_id else [])
    seen.distinct["new targets"].add(record.target_new)
    seen.distinct["true targets"].update([record.target_true] if record.target_true else [])
    for name in ("paraphrase", "neighbourhood", "same_subject", "attribute", "generation"):
        seen.prompts[f"{name.replace('_', '-')} prompts"] += len(getattr(record, f"{name}_prompts"))
    for probe in record.probes:
        seen.prompts[f"{probe.kind} questions"] += 1


def _check_record(report: FileReport, seen: _Seen, where: str, record: Record) -> None:
    for name in ("paraphrase_prompts", "generation_prompts"):
        for prompt in getattr(record, name):
            if record.subject not in prompt:
                report.add(
                    where, "subject", f"{where}: field '{name}': the subject {record.subject!r} is not in {prompt!r}"
                )
    _check_edit(report, where, record)
    if record.case_id in seen.cases:
        earlier = seen.cases[record.case_id]
        report.add(where, "duplicate", f"{where}: field 'case_id': {record.case_id} is that of {earlier}, too")
    seen.cases.setdefault(record.case_id, _short(where))
    edit = (record.query, record.subject, record.target_new, record.target_true)
    if edit in seen.edits:
        report.add(
            where,
            "duplicate",
            f"{where}: the edit {record.query!r} -> {record.target_new!r} is that of {seen.edits[edit]}, too",
        )
    seen.edits.setdefault(edit, _short(where))
    if seen.answers.setdefault(record.query, record.target_new) != record.target_new:
        report.notes["edits give a query another answer than an earlier one"] += 1


def _short(where: str) -> str:
    return where.rsplit(", ", 1)[-1]


def _texts_with_faults(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts_with_faults(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_with_faults(inner, name)
    elif isinstance(value, str):
        fault = encoding_fault(value)
        if fault:
            yield f"field '{name}' {fault}: {value[:60]!r}"


def encoding_fault(text: str) -> str | None:
    """What shows that a text was once decoded wrongly; None where nothing does.

    UTF-8 read as Latin-1 or Windows-1252 can be read back, which text that is meant as it stands hardly ever can.
    """
    if text.isascii():
        return "holds a control character" if any(c < " " and c not in "\t\r\n" for c in text) else None
    if "\ufffd" in text:
        return "holds a replacement character"
    if any((c < " " and c not in "\t\r\n") or "\x7f" <= c < "\xa0" for c in text):
        return "holds a control character"
    if any("\ud800" <= c <= "\udfff" for c in text):
        return "holds half of a surrogate pair"
    for encoding in ("cp1252", "latin-1"):
        try:
            text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return f"is UTF-8 that was read as {encoding}"
    return None
