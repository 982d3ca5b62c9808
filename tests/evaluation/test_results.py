from __future__ import annotations

import json
import subprocess

import pytest

from kgt_editor.errors import UsageError
from kgt_editor.evaluation.metrics import METRICS, CaseScores, PromptScore
from kgt_editor.evaluation.results import (
    CaseResult,
    CellResult,
    RunFolder,
    check_writable,
    config_hash,
    git_state,
    summary_row,
)
from kgt_editor.lm.device_memory import DeviceMemory
from kgt_editor.lm.scoring import TargetScore


def case(number, right, seconds: float | None = 0.1, failure=None):
    new, true = TargetScore(-1.0, 1, right), TargetScore(-2.0 if right else -0.5, 1, not right)
    scores = CaseScores(PromptScore(new, true), (PromptScore(new, true),), ())
    return CaseResult(number, number, seconds, failure, scores)


def cell(seed, hits, recalled=(True, False)):
    cases = [case(number, hit) for number, hit in enumerate(hits)]
    return CellResult("fake", seed, cases, list(recalled), 1000 + seed)


def test_a_row_has_the_promised_names_and_numbers():
    cells = [cell(0, [True, True, False, True]), cell(1, [True, True, True, True])]
    cells[1].cases.append(case(9, False, None, "refused"))
    row = summary_row(cells, "mean", model="m", dataset="d", mode="single", size=4)
    assert set(row["metrics"]) == set(METRICS)
    assert row["metrics"]["efficacy_score"]["mean"] == pytest.approx((0.75 + 0.8) / 2)
    assert row["metrics"]["unedited_recall"]["mean"] == 0.5
    assert row["metrics"]["neighbourhood_score"] is None
    assert {"mean", "low", "high"} == set(row["metrics"]["efficacy_accuracy"])
    assert {"p50", "p95", "mean"} <= set(row["edit_seconds"])
    assert row["edit_seconds"]["mean"] == pytest.approx(0.1)
    assert (row["seeds"], row["failed_edits"], row["peak_memory_bytes"]) == ([0, 1], 1, 1001)
    assert (row["editor"], row["model"], row["dataset"], row["mode"], row["size"]) == ("fake", "m", "d", "single", 4)


def test_memory_of_a_device_is_the_largest_of_the_cells():
    cells = [cell(seed, [True]) for seed in range(3)]
    assert summary_row(cells, "mean")["device_memory"] is None
    cells[0].device_memory, cells[2].device_memory = DeviceMemory(5, "nvml"), DeviceMemory(7, "nvml")
    assert summary_row(cells, "mean")["device_memory"] == {"used": 7, "source": "nvml"}


def test_a_cell_in_which_every_edit_failed_has_no_latency():
    only = CellResult("fake", 0, [case(0, False, None, "refused")], [], 1)
    assert summary_row([only], "mean")["edit_seconds"] is None


def test_run_folders_count_up_and_are_named_by_what_was_asked(tmp_path):
    paths = [RunFolder.create(tmp_path, "a/b world 5", config).path.name for config in ({"x": 1}, {"x": 1}, {"x": 2})]
    digest = config_hash({"x": 1})
    assert paths[:2] == [f"a_b_world_5-{digest}-1", f"a_b_world_5-{digest}-2"]
    assert paths[2] == f"a_b_world_5-{config_hash({'x': 2})}-1"
    assert len(digest) == 8


def test_lines_are_appended_and_stand_on_disk_at_once(tmp_path):
    folder = RunFolder.create(tmp_path, "run", {})
    folder.append_case("fake", 3, case(7, True), "mean")
    first = json.loads((folder.path / "records.jsonl").read_text())
    assert (first["editor"], first["seed"], first["case_id"]) == ("fake", 3, 7)
    assert first["metrics"]["efficacy_score"] == 1.0
    assert first["raw"]["edit"]["log_prob_new"] == -1.0
    folder.append_case("fake", 3, CaseResult(8, 1, 0.2, None, None), "mean")
    lines = (folder.path / "records.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["metrics"] is None


def test_a_json_file_is_replaced_whole(tmp_path):
    folder = RunFolder.create(tmp_path, "run", {})
    folder.write("summary.json", {"rows": []})
    with pytest.raises(ValueError, match="Out of range float"):
        folder.write("summary.json", {"rows": [float("nan")]})
    assert json.loads((folder.path / "summary.json").read_text()) == {"rows": []}
    assert [path.name for path in folder.path.iterdir()] == ["summary.json"]


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
