"""A run's records as figures alone, in little room: ``records.csv.gz``, a line an editor, seed, size and case.

What was asked and what the model wrote, which may be somebody's text, is not in it.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kgt_editor.errors import UsageError
from kgt_editor.results.outcomes import outcome_of
from kgt_editor.results.schema import CASE_METRICS

FILE = "records.csv.gz"
_NUMBERS = ("seed", "size", "position", "case_id")
_TRIPLES = "triples"
#: The columns; ``triples`` (``+`` added, ``-`` removed) are left out where they would tell the data set's sentences.
COLUMNS = ("editor", *_NUMBERS, "edit_ms", "failure", "superseded", "outcome", *CASE_METRICS, _TRIPLES)


def write(path: Path, records: Iterable[Mapping[str, Any]], triples: bool = True) -> None:
    """Write the figures of the lines of a ``records.jsonl``; the same lines give the same bytes.

    Args:
        path: the file.
        records: the lines.
        triples: whether the triples of a graph's edits are told.
    """
    names = [name for name in COLUMNS if triples or name != _TRIPLES]
    with (
        gzip.GzipFile(path, "wb", mtime=0) as packed,  # without a time in it
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(_row, records))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines again, as ``records.jsonl`` has them, with what the columns hold: ``metrics`` and ``outcome`` too.

    Raises:
        UsageError: the file is no such table, or damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                try:
                    yield _line(row)
                except (KeyError, TypeError, ValueError) as error:
                    raise UsageError(f"{path}, line {number}: no record: {error}") from None
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None


def superseded(line: Mapping[str, Any]) -> bool:
    """Whether a later edit takes that of a record back."""
    return bool(line["raw"] and line["raw"].get("superseded"))


def _row(line: Mapping[str, Any]) -> dict[str, Any]:
    seconds, metrics = line["edit_seconds"], line["metrics"] or {}
    return {
        **{name: line[name] for name in ("editor", *_NUMBERS, "failure")},
        "edit_ms": None if seconds is None else round(1000 * seconds, 2),
        "superseded": int(superseded(line)),
        "outcome": outcome_of(line["details"]),
        **{name: _short(metrics.get(name)) for name in CASE_METRICS},
        _TRIPLES: "; ".join(
            f"{'+' if one['change'] == 'added' else '-'}{' | '.join(one['triple'])}"
            for one in (line["details"] or {}).get("triples", ())
        ),
    }


def _short(share: float | None) -> float | int | None:
    return None if share is None else round(share, 4) if share % 1 else int(share)


def _line(row: Mapping[str, str]) -> dict[str, Any]:
    metrics = {name: _number(row.get(name)) for name in CASE_METRICS}
    milliseconds = _number(row["edit_ms"])
    return {
        "editor": row["editor"],
        **{name: _whole(row[name]) for name in _NUMBERS},
        "edit_seconds": None if milliseconds is None else milliseconds / 1000,
        "failure": row["failure"] or None,
        "superseded": row["superseded"] == "1",
        "details": {"outcome": row.get("outcome") or None},
        "metrics": metrics if any(value is not None for value in metrics.values()) else None,
    }


def _whole(text: str) -> int:
    found = int(text)
    if not -(2**63) <= found < 2**63:
        raise ValueError(f"{text[:20]}... is too large")
    return found


def _number(text: str | None) -> float | None:
    return float(text) if text else None
