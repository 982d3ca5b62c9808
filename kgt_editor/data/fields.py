"""Fields of a parsed record, checked; an error names the place of the record and the field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kgt_editor.data.reading import read_rows
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: JSON's escapes can name half of a character pair."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def an_object(row: Any, where: str) -> Mapping[str, Any]:
    """The record itself."""
    if not isinstance(row, dict):
        raise UsageError(f"{where}: must be an object, not {type(row).__name__}")
    return row


def mapping(row: Mapping[str, Any], field: str, where: str) -> Mapping[str, Any]:
    """A field that is an object."""
    value = row.get(field)
    if not isinstance(value, dict):
        raise UsageError(f"{where}: field '{field}' is {'missing' if value is None else 'not an object'}")
    return value


def text(row: Mapping[str, Any], field: str, where: str) -> str:
    """A field that is a text, not empty, without surrounding space."""
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        how = "missing" if value is None else "not a text" if not isinstance(value, str) else "empty"
        raise UsageError(f"{where}: field '{field}' is {how}")
    if not is_text(value):
        raise UsageError(f"{where}: field '{field}' holds half of a surrogate pair, which is no character")
    return value.strip()


def optional_text(row: Mapping[str, Any], field: str, where: str) -> str:
    """The same, or "" where the field is absent, null or empty."""
    return "" if row.get(field) in (None, "") else text(row, field, where)


def texts(row: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    """Distinct texts in the field's order; a single text counts as a list of one, an absent field as none."""
    value = row.get(field)
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise UsageError(f"{where}: field '{field}' is not a list of texts")
    if not all(map(is_text, listed)):
        raise UsageError(f"{where}: field '{field}' holds half of a surrogate pair, which is no character")
    return tuple(dict.fromkeys(item.strip() for item in listed if item.strip()))


def subject_and_prompt(row: Mapping[str, Any], field: str, where: str) -> tuple[str, str]:
    """The field ``subject`` and a prompt that holds it."""
    subject, prompt = text(row, "subject", where), text(row, field, where)
    if subject not in prompt:
        raise UsageError(f"{where}: field '{field}': the subject {subject!r} is not in {prompt!r}")
    return subject, prompt


def number(row: Mapping[str, Any], field: str, where: str, default: int | None) -> int | None:
    """A whole number, or ``default`` where the field is absent or null."""
    value = row.get(field)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{where}: field '{field}' is not a whole number")
    return value


def edits(
    path: str | Path, no_edit: Callable[[Any, str], str | None], parse: Callable[[Any, str, int], Record]
) -> tuple[list[Record], Counter[str]]:
    """The records of a file that are edits, and how many others there are, by reason.

    Args:
        path: the file, see :func:`kgt_editor.data.reading.read_rows`.
        no_edit: why a row is no edit; None where it is one.
        parse: a record of a row, its place and its position.

    Raises:
        UsageError: the file cannot be read, a record is broken, or none is an edit.
    """
    found: list[Record] = []
    skipped: Counter[str] = Counter()
    for position, (where, row) in enumerate(read_rows(path)):
        reason = no_edit(row, where)
        if reason:
            skipped[reason] += 1
        else:
            found.append(parse(row, where, position))
    if not found:
        raise UsageError(f"{path}: holds no edits: {', '.join(skipped)}")
    return found, skipped


def record(where: str, **values: Any) -> Record:
    """A record whose own complaints name its place, too."""
    try:
        return Record(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
