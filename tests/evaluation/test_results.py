from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.evaluation.metrics import CaseScores, PromptScore
from kgt_editor.lm.scoring import TargetScore
from kgt_editor.results.run_folder import check_writable
from kgt_editor.results.schema import METRICS, CaseResult, CellResult, record_line
from kgt_editor.results.summary import CellNumbers, read_numbers, summary_row
from kgt_editor.runs.environment import git_state


def case(number, right, seconds: float | None = 0.1, failure=None):
    new, true = TargetScore(-1.0, 1, right), TargetScore(-2.0 if right else -0.5, 1, not right)
    scores = CaseScores(PromptScore(new, true), (PromptScore(new, true),), ())
    return CaseResult(number, number, seconds, failure, scores)


def cell(seed, hits, recalled=(True, False)):
    cases = [case(number, hit) for number, hit in enumerate(hits)]
    return CellResult("fake", seed, len(cases), cases, list(recalled), 1000 + seed)


def row_of(*cells, **facts):
    return summary_row([CellNumbers.of(cell, "mean") for cell in cells], **facts)


def test_a_row_has_the_promised_names_and_numbers():
    cells = [cell(0, [True, True, False, True]), cell(1, [True, True, True, True])]
    cells[1].cases.append(case(9, False, None, "refused"))
    row = row_of(*cells, model="m", dataset="d", mode="single")
    assert set(row["metrics"]) == set(METRICS)
    assert row["metrics"]["efficacy_score"]["mean"] == pytest.approx((0.75 + 0.8) / 2)
    assert row["metrics"]["unedited_recall"]["mean"] == 0.5
    assert row["metrics"]["neighbourhood_score"] is None
    assert {"mean", "low", "high"} == set(row["metrics"]["efficacy_accuracy"])
    assert {"p50", "p95", "mean"} <= set(row["edit_seconds"])
    assert row["edit_seconds"]["mean"] == pytest.approx(0.1)
    assert (row["seeds"], row["failed_edits"], row["peak_memory_bytes"]) == ([0, 1], 1, 1001)
    assert row["first_failure"] == "refused"
    assert (row["editor"], row["model"], row["dataset"], row["mode"], row["size"]) == ("fake", "m", "d", "single", 4)


def test_memory_of_a_device_is_the_largest_of_the_cells():
    cells = [cell(seed, [True]) for seed in range(3)]
    assert row_of(*cells)["device_memory"] is None
    cells[0].device_memory, cells[2].device_memory = {"used": 5, "source": "nvml"}, {"used": 7, "source": "nvml"}
    assert row_of(*cells)["device_memory"] == {"used": 7, "source": "nvml"}


def test_what_became_of_the_edits_is_counted_over_all_seeds_where_an_editor_says_so():
    cells = [cell(seed, [True, True]) for seed in range(2)]
    assert row_of(*cells)["edit_outcomes"] is None
    for one, told in zip(cells, (("held", "restated"), ("held", "held")), strict=True):
        one.cases = [replace(each, details={"outcome": name}) for each, name in zip(one.cases, told, strict=True)]
    cells[1].cases.append(case(9, False, None, "refused"))
    assert row_of(*cells)["edit_outcomes"] == {"held": 3, "kept but not followed": 0, "restated": 1, "dropped": 0}
    cells[0].cases[0].details["outcome"] = "lost"
    with pytest.raises(KgtError, match="'lost'"):
        row_of(*cells)


def test_a_cell_in_which_every_edit_failed_has_no_latency():
    only = CellResult("fake", 0, 1, [case(0, False, None, "refused")], [], 1)
    assert row_of(only)["edit_seconds"] is None


def test_numbers_read_from_lines_are_those_of_the_cells():
    cells = [cell(1, [True, False, True]), cell(0, [True, True, True])]
    lines = [
        json.loads(json.dumps(record_line("fake", one.seed, 3, each, "mean"))) for one in cells for each in one.cases
    ]
    told = [{"editor": "fake", "seed": one.seed, "size": 3, "recalled": one.recalled} for one in cells]
    told = [line | {"peak_memory_bytes": one.peak_memory_bytes} for line, one in zip(told, cells, strict=True)]
    lines[0]["raw"]["silence"] = lines[1]["raw"]["silence"] = {"asked": 3, "silent": 2}
    found = read_numbers(told, [*lines, {**lines[0], "seed": 7}])  # of seed 7 there is no cell
    assert list(found) == [("fake", 3)]
    assert [one.seed for one in found["fake", 3]] == [0, 1]
    assert found["fake", 3][0].case_ids == [0, 1, 2]
    row = summary_row(found["fake", 3])
    assert row.pop("silence") == {"asked": 6, "silent": 4}
    assert row == {name: value for name, value in row_of(*reversed(cells)).items() if name != "silence"}


def test_numbers_that_are_not_finite_become_null_and_the_summary_holds():
    nan = TargetScore(float("nan"), 1, False)
    broken = CaseResult(0, 0, 0.1, None, CaseScores(PromptScore(nan, nan), (), (PromptScore(nan, nan),)))
    line = record_line("fake", 0, 1, broken, "mean")
    assert line["raw"]["edit"]["log_prob_new"] is None
    assert json.loads(json.dumps(line, allow_nan=False)) == json.loads(json.dumps(line))
    row = row_of(CellResult("fake", 0, 1, [broken], [], 1))
    assert row["metrics"]["efficacy_score"]["mean"] == row["metrics"]["neighbourhood_score"]["mean"] == 0.0
    assert row["metrics"]["paraphrase_score"] is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to the output folder .*file/results"):
        check_writable(tmp_path / "file" / "results")
    check_writable(tmp_path / "new" / "results")
    assert list((tmp_path / "new" / "results").iterdir()) == []


def test_the_commit_is_that_of_the_checkout_that_holds_the_package(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
            check=True,
            capture_output=True,
        )

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert git_state(package) is None
    git("init")
    assert git_state(package) is None
    git("add", ".")
    git("commit", "-m", "x")
    assert git_state(package)["dirty"] is False
    (package / "__init__.py").write_text("changed = 1\n")
    assert git_state(package)["dirty"] is True
