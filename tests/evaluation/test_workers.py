"""Cells on workers: the same numbers, whatever becomes of a worker, and nothing lost of what was measured."""

from __future__ import annotations

import json
import signal
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import pytest

from kgt_editor.cli.compare import main
from kgt_editor.editors import base
from kgt_editor.errors import KgtError
from kgt_editor.results.lines import DiskError
from kgt_editor.runs.launch.base import Ended, Needs, attempt, pack
from kgt_editor.runs.workers import packed, unpack

ROOT = Path(__file__).resolve().parents[2]
TIMES = {"edit_seconds", "preparation_seconds", "forward_seconds", "peak_memory_bytes", "inference_memory_bytes"}


class Inline:
    """A launcher whose worker is this process; ``before`` is called with each task's name."""

    has_gpus = False

    def __init__(self, before=lambda name: None):
        self.before, self.names = before, []

    def run(self, tasks, watch):
        for task in tasks:
            watch.started(task.name)
            self.names.append(task.name)
            found = self.before(task.name)
            advance = lambda *stage, name=task.name: watch.advanced(name, *stage)  # noqa: E731
            note = lambda text, name=task.name: watch.noted(name, text)  # noqa: E731
            yield found or attempt(pack(task), advance, note)


@pytest.fixture
def compare(fake_editors, saved_model, counterfact_file, tmp_path, capsys, monkeypatch):
    """Runs the command on the tiny model and file, on a launcher if one is given. Returns exit code and stderr."""
    base.register("dying", "dying_editor:DyingEditor")
    handlers = [(kind, signal.getsignal(kind)) for kind in (signal.SIGINT, signal.SIGTERM)]

    def start(*arguments, out="results", launcher=None, share_files=True):
        if launcher is not None:
            from kgt_editor.cli import compare as cli
            from kgt_editor.runs import workers

            @contextmanager
            def given(options):
                yield workers.Workers(launcher, Needs(), share_files)

            monkeypatch.setattr(cli, "workers_of", given)
        command = ["--editors", "fake,memory", "--model", str(saved_model), "--dataset", "counterfact", "--no-report"]
        command += ["--device", "cpu", "--data", str(counterfact_file), "--size", "4", "--out", str(tmp_path / out)]
        code = main([*command, *arguments], ROOT / "hparams")
        return code, capsys.readouterr().err

    yield start
    for kind, handler in handlers:
        signal.signal(kind, handler)


def folder_of(out):
    (folder,) = out.iterdir()
    return folder


def measured(out, name="records.jsonl"):
    """What was measured, times apart, in the order of cells and cases."""
    rows = [json.loads(line) for line in (folder_of(out) / name).read_text().splitlines()]
    rows.sort(key=lambda row: (row["editor"], row["seed"], row.get("position", 0)))
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def read(out, name):
    return json.loads((folder_of(out) / name).read_text())


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_a_killed_worker_costs_nothing(
    compare, one_thread, tmp_path, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    journal = f"--set=dying.journal={tmp_path / 'journal'}"
    code, err = compare("--editors", "dying", journal, "--launcher", "local", "--jobs", "2")
    assert code == 0, err
    assert "dying, seed 0: tried again: its process was killed by SIGKILL" in err
    assert (tmp_path / "journal.died").exists()
    assert compare("--editors", "dying", journal, out="here", launcher=Inline())[0] == 0
    assert measured(tmp_path / "results") == measured(tmp_path / "here")
    assert measured(tmp_path / "results", "cells.jsonl") == measured(tmp_path / "here", "cells.jsonl")
    assert folder_of(tmp_path / "results").name == folder_of(tmp_path / "here").name
    manifest, here = read(tmp_path / "results", "manifest.json"), read(tmp_path / "here", "manifest.json")
    assert manifest["status"] == here["status"] == "complete"
    assert manifest["environment"]["device"] == here["environment"]["device"] == "cpu"
    assert manifest["environment"]["threads"] == 1


@pytest.mark.parametrize("share_files", [True, False])
def test_a_launcher_gives_the_same_records_and_takes_first_seeds_first(compare, tmp_path, share_files):
    launcher = Inline()
    assert compare("--seeds", "2", launcher=launcher, share_files=share_files)[0] == 0
    first, *cells = launcher.names
    assert first == "the model"
    assert cells == [f"{name}, seed {seed}" for seed in (0, 1) for name in ("none", "fake", "memory")]
    folder = folder_of(tmp_path / "results")
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "cells.jsonl",
        "manifest.json",
        "records.jsonl",
        "summary.json",
    ]


@pytest.mark.parametrize("share_files", [True, False])
def test_a_failing_row_costs_no_other_and_is_told_once(compare, tmp_path, share_files):
    launcher = Inline()
    code, err = compare("--seeds", "2", "--set", "fake.unprepared=true", launcher=launcher, share_files=share_files)
    assert code == 1
    assert err.count("failed: no hypernetwork today") == 2  # as it happens, and at the end
    summary = read(tmp_path / "results", "summary.json")
    assert [row["editor"] for row in summary["rows"]] == ["none", "memory"]
    assert [(one["editor"], one["seed"]) for one in summary["failed"]] == [("fake", None)]


@pytest.mark.parametrize("share_files", [True, False])
def test_what_was_measured_before_a_failure_is_gone_on_from(compare, tmp_path, share_files):
    code, _ = compare("--set", "fake.refuse=[]", launcher=Inline(), share_files=share_files)
    assert code == 0
    whole = measured(tmp_path / "results")

    def lost(name):
        return Ended(name, failure=KgtError("its node was lost (3 tries)"), tries=3) if name == "fake, seed 0" else None

    code, err = compare(out="again", launcher=Inline(lost), share_files=share_files)
    assert code == 1
    assert "fake, seed 0: failed: its node was lost (3 tries)" in err
    assert {row["editor"] for row in measured(tmp_path / "again")} == {"none", "memory"}
    launcher = Inline()
    code, err = compare(out="again", launcher=launcher, share_files=share_files)
    assert code == 0, err
    assert launcher.names == ["the model", "fake, seed 0"]
    assert measured(tmp_path / "again") == whole


def test_an_impossible_request_is_told_by_the_worker_that_has_the_model(compare, tmp_path):
    code, err = compare("--set", "fake.unsupported=true", launcher=Inline())
    assert code == 2
    assert "editor 'fake' cannot edit" in err
    assert not list((tmp_path / "results").glob("*/manifest.json"))


def test_a_full_disk_ends_the_run_not_only_the_cell(compare, tmp_path):
    def full(name):
        failure = "cannot write there: No space left on device"
        return Ended(name, failure=DiskError(failure), raised=True) if name == "fake, seed 0" else None

    launcher = Inline(full)
    code, err = compare(launcher=launcher)
    assert code == 1
    assert "No space left on device" in err
    assert launcher.names[-1] == "fake, seed 0"
    assert {row["editor"] for row in measured(tmp_path / "results")} == {"none"}


def test_a_folder_travels_whole_with_its_empty_folders_and_without_its_lock(tmp_path):
    folder = tmp_path / "run" / "cells" / "one"
    (folder / "state-2" / "empty").mkdir(parents=True)
    (folder / "edits.jsonl").write_text("{}\n")
    (folder / ".lock").touch()
    (folder / ".state-part").mkdir()
    (folder / ".state-part" / "half").touch()
    target = tmp_path / "other" / "cells" / "one"
    (target / "old").mkdir(parents=True)
    unpack(packed(folder), target)
    found = {str(path.relative_to(target)) for path in target.rglob("*")}
    assert found == {"edits.jsonl", "state-2", "state-2/empty"}
    assert (target / "edits.jsonl").read_text() == "{}\n"
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["cells"]
    unpack(packed(tmp_path / "nowhere"), target)
    assert list(target.iterdir()) == []


def test_ray_that_is_not_there_and_a_cluster_that_does_not_answer_are_told(compare, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    code, err = compare("--launcher", "ray", "--ray-address", "127.0.0.1:9")
    assert code == 2
    assert "no Ray cluster at 127.0.0.1:9: ConnectionRefusedError" in err
    monkeypatch.setitem(sys.modules, "ray", None)
    code, err = compare("--launcher", "ray")
    assert code == 2
    assert "--launcher ray needs Ray: pip install 'kgt_editor[ray]'" in err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--ray-address", "auto"], "--ray-address is an option of --launcher ray"),
        (["--launcher", "local", "--cell-gpus", "2"], "--cell-gpus is an option of --launcher ray"),
        (["--launcher", "ray", "--jobs", "2"], "--jobs is an option of --launcher local"),
        (["--cell-threads", "2"], "without one, set OMP_NUM_THREADS"),
        (["--jobs", "0"], "must be a whole number above zero"),
        (["--jobs", "999999999999"], "must be 1,024 at most"),
        (["--jobs", "2", "--device", "cuda:1"], "the launcher deals out the GPUs; give --device cuda"),
        (["--device-map", "auto"], "--device-map auto chooses the devices itself: leave --device cpu out"),
        (["--device", "auto", "--device-map", "everywhere"], "unknown device map 'everywhere'; known: auto, "),
    ],
)
def test_options_that_do_not_go_together_are_refused(compare, options, told):
    code, err = compare(*options)
    assert code == 2
    assert told in err
