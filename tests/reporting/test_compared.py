"""Tests between editors of different runs are those of a run that has them all."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from kgt_editor import reporting
from kgt_editor.reporting.names import CASE_MEASURES
from kgt_editor.results import compact
from kgt_editor.results.paired import comparisons
from kgt_editor.results.summary import read_numbers

EDITORS = ("none", "kgt", "rome", "mend")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def part(whole: Path, editors: tuple[str, ...], builder: ModuleType, figures_only: bool = False) -> Path:
    """A run of some of the editors of another one."""
    folder = whole.with_name(f"run-{'-'.join(editors)}")
    folder.mkdir()
    for name in ("records.jsonl", "cells.jsonl"):
        kept = [line for line in lines(whole / name) if line["editor"] in editors]
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in kept))
    for name in ("manifest.json", "summary.json"):
        (folder / name).write_bytes((whole / name).read_bytes())
    builder.change(folder / "manifest.json", run=folder.name, config={"editors": list(editors)})
    if figures_only:
        compact.write(folder / compact.FILE, lines(folder / "records.jsonl"))
        (folder / "records.jsonl").unlink()
    return folder


@pytest.fixture
def whole(builder: ModuleType, tmp_path: Path) -> Path:
    return builder.write_run(tmp_path / "whole", EDITORS, kept=True, sizes=(10, 20), size=20)


@pytest.mark.parametrize("figures_only", [False, True])
def test_they_are_those_of_one_run_of_all_editors(whole: Path, builder: ModuleType, figures_only: bool) -> None:
    parts = [part(whole, editors, builder, figures_only) for editors in (("none", "kgt"), ("rome",), ("mend",))]
    runs, _ = reporting.load(parts)
    rows = reporting.across_runs(runs, reporting.choose(reporting.rows_frame(runs))[0])
    found = rows.set_index(["editor", "size"])
    cells = {(name, size): own for (name, size), own in read_numbers(*map(lines, files(whole))).items()}
    wanted = comparisons(cells)
    assert wanted is not None
    assert set(rows["reference"]) == {"kgt"}
    checked = 0
    for row in wanted["rows"]:
        for measure in CASE_MEASURES:
            if one := row["metrics"].get(measure):
                assert found.loc[(row["editor"], row["size"]), f"{measure}_p"] == pytest.approx(one["p"], abs=0.01)
                checked += 1
    for best in wanted["best"]:
        for measure, one in best["metrics"].items():
            for editor, p in one["p"].items() if one else ():
                assert found.loc[(editor, best["size"]), f"{measure}_best"] == one["editor"]
                assert found.loc[(editor, best["size"]), f"{measure}_best_p"] == pytest.approx(p, abs=0.01)
                checked += 1
    assert checked > 50


def files(run: Path) -> tuple[Path, Path]:
    return run / "cells.jsonl", run / "records.jsonl"


def test_a_report_of_figures_alone_has_the_numbers_of_the_records(whole: Path, builder: ModuleType) -> None:
    bare = part(whole, EDITORS, builder, figures_only=True)
    shown = []
    for folder in (whole, bare):
        runs, _ = reporting.load([folder])
        rows, _ = reporting.choose(reporting.rows_frame(runs))
        shown.append([block.frame() for table in reporting.make_tables(rows) for block in table.blocks])
        told = " ".join(reporting.without_records(runs))
        assert ("records.csv.gz in place of records.jsonl, so no list of edits: run-none" in told) == (folder == bare)
    for one, other in zip(*shown, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=1e-4)


def test_a_run_without_figures_keeps_what_its_summary_says(whole: Path, builder: ModuleType) -> None:
    parts = [part(whole, editors, builder) for editors in (("none", "kgt"), ("rome",))]
    runs, _ = reporting.load(parts)
    rows = reporting.choose(reporting.rows_frame(runs))[0]
    runs[1].cases = None
    assert reporting.across_runs(runs, rows).equals(rows)
