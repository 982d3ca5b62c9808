"""``records.csv.gz``: a run's figures without anybody's text."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.results import compact
from kgt_editor.results.schema import CASE_METRICS


def record(position: int, **changed: Any) -> dict[str, Any]:
    return {
        **{"editor": "kgt", "seed": 0, "size": 2, "case_id": 7 + position, "position": position},
        **{"edit_seconds": 0.0123, "failure": None, "request": {"query": "The capital of Ylva is"}, "said": "Orm"},
        "details": {"outcome": "held", "triples": [{"triple": ["Ylva", "capital", "Orm"], "change": "added"}]},
        "metrics": dict.fromkeys(CASE_METRICS) | {"efficacy_score": 1.0, "paraphrase_score": 1 / 3},
        "raw": {},
    } | changed


def test_the_figures_come_back_and_the_texts_do_not(tmp_path: Path) -> None:
    file = tmp_path / compact.FILE
    lines = [record(0), record(1, edit_seconds=None, failure="no room", metrics=None, raw=None, details=None)]
    compact.write(file, lines, triples=False)
    first, second = compact.read(file)
    assert {name: first[name] for name in ("editor", "seed", "size", "case_id", "position", "edit_seconds")} == {
        name: lines[0][name] for name in ("editor", "seed", "size", "case_id", "position", "edit_seconds")
    }
    assert first["metrics"] == dict.fromkeys(CASE_METRICS) | {"efficacy_score": 1.0, "paraphrase_score": 0.3333}
    assert first["details"] == {"outcome": "held"}
    assert (second["edit_seconds"], second["failure"], second["metrics"]) == (None, "no room", None)
    assert second["details"] == {"outcome": None}
    text = gzip.decompress(file.read_bytes()).decode()
    assert not any(word in text for word in ("Ylva", "Orm", "capital", "triples"))


def test_a_table_of_before_outcomes_were_told_is_read(tmp_path: Path) -> None:
    file = tmp_path / compact.FILE
    compact.write(file, [record(0)])
    rows = [line.split(",") for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    place = rows[0].index("outcome")
    older = "\n".join(",".join(value for number, value in enumerate(row) if number != place) for row in rows)
    file.write_bytes(gzip.compress(older.encode()))
    (line,) = compact.read(file)
    assert line["details"] == {"outcome": None}
    assert line["metrics"]["efficacy_score"] == 1.0


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda packed: packed[: len(packed) // 2], "cannot be read"),
        (lambda packed: b"editor,seed", "cannot be read"),
        (lambda packed: gzip.compress(b"editor,seed\nkgt,0\n"), "line 2: no record"),
        (lambda packed: gzip.compress(gzip.decompress(packed).replace(b"kgt,0,2", b"kgt,x,2")), "line 2: no record"),
    ],
)
def test_a_damaged_table_is_told_with_its_name(tmp_path: Path, damage: Any, told: str) -> None:
    file = tmp_path / compact.FILE
    compact.write(file, [record(0)])
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UsageError, match=rf"records\.csv\.gz.*{told}"):
        list(compact.read(file))


def test_an_unknown_outcome_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KgtError, match="none of 'held'"):
        compact.write(tmp_path / compact.FILE, [record(0, details={"outcome": "fine"})])
