"""benchmarks/upkeep/compact_run.py: the figures of a run's folder, in little room and without anybody's paths.

And benchmarks/measure/edit_after_many.py, which makes the user's graph again from them.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kgt_editor.errors import UsageError
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("compact_run")


def score(new: float, true: float) -> dict[str, object]:
    return {
        **{"log_prob_new": new, "tokens_new": 1, "greedy_new": new > true},
        **{"log_prob_true": true, "tokens_true": 2, "greedy_true": true > new},
    }


def record(position: int, superseded: bool = False) -> dict[str, object]:
    share = None if superseded else 1.0
    metrics = {"neighbourhood_score": 0.6667, "neighbourhood_accuracy": None, "efficacy_accuracy": share}
    metrics |= {"efficacy_score": share, "paraphrase_score": share, "paraphrase_accuracy": share}
    raw = {"edit": score(-3.0, -4.0) if superseded else score(-1.0, -4.0), "paraphrases": [], "neighbourhood": []}
    return {
        **{"editor": "kgt", "seed": 0, "size": 3, "case_id": 10 + position, "position": position},
        **{"edit_seconds": 0.01 * (position + 1), "failure": None, "metrics": metrics},
        "raw": raw | ({"superseded": True} if superseded else {}),
        "details": {"triples": [{"triple": ["dog", "likes", "fish"], "change": "added"}]},
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "model-data-sequential-3-abc"
    folder.mkdir()
    manifest = {"command": ["compare.py", "--data", "/home/ada/cf.json"], "config": {"data": "/home/ada/cf.json"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    summary = {"rows": [{"editor": "kgt", "size": 3, "state_bytes": 4096}]}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "cells.jsonl").write_text("{}\n")
    lines = [record(0), record(1, superseded=True), record(2) | {"edit_seconds": None, "failure": "no, not this"}]
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_record_is_a_line_of_its_figures(script: ModuleType, run: Path, tmp_path: Path) -> None:
    script.compact(run, tmp_path / "out")
    folder = tmp_path / "out" / run.name
    with gzip.open(folder / "records.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case_id"] for row in rows] == ["10", "11", "12"]
    assert [row["edit_ms"] for row in rows] == ["10.0", "20.0", ""]
    assert [row["superseded"] for row in rows] == ["0", "1", "0"]
    assert [row["efficacy_score"] for row in rows] == ["1", "", "1"]
    assert rows[0]["neighbourhood_score"] == "0.6667"
    assert rows[0]["triples"] == "+dog | likes | fish"
    assert rows[2]["failure"] == "no, not this"
    assert "/home/ada" not in (folder / "manifest.json").read_text(encoding="utf-8")


def test_superseded_edits_are_counted_and_their_scores_told(
    script: ModuleType, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "ENDS", 1)
    (row,) = script.compact(run, tmp_path / "out")["rows"]
    assert row["superseded_edits"] == 1
    # By mean log probability a token the superseded one prefers its true answer: -3 against -4 / 2.
    assert row["efficacy_score, superseded edits too"] == pytest.approx(2 / 3, abs=1e-4)
    assert row["last / first"] == pytest.approx(2.0)
    assert row["state_bytes"] == 4096


def test_the_same_run_gives_the_same_bytes(script: ModuleType, run: Path, tmp_path: Path) -> None:
    script.compact(run, tmp_path / "one")
    script.compact(run, tmp_path / "two")
    packed = [(tmp_path / name / run.name / "records.csv.gz").read_bytes() for name in ("one", "two")]
    assert packed[0] == packed[1]


def test_another_folder_is_refused(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the folder of a finished run"):
        script.compact(tmp_path, tmp_path / "out")


def test_the_graph_can_be_made_again(
    script: ModuleType, load_script: Callable[[str], ModuleType], run: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    lines[1]["details"]["triples"] = [
        {"triple": ["dog", "likes", "meat"], "change": "added"},
        {"triple": ["dog", "likes", "fish"], "change": "removed"},
    ]
    lines[2]["details"] = None
    smaller = lines[0] | {"size": 1, "details": {"triples": [{"triple": ["cat", "is", "red"], "change": "added"}]}}
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [smaller, *lines]))
    script.compact(run, tmp_path / "out")
    again, graph = load_script("edit_after_many"), PersonalGraph(MemoryGraph([]))
    assert again.replay(tmp_path / "out" / run.name / "records.csv.gz", graph) == 3
    assert graph.added == [Triple("dog", "likes", "meat")]
    with pytest.raises(UsageError, match=r"records\.csv\.gz: No such file"):
        again.replay(tmp_path / "records.csv.gz", graph)
