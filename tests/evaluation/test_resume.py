"""The same command given again: what it goes on with, what it refuses, what it says."""

from __future__ import annotations

import errno
import json

import pytest
from cell_tasks import rows, without_times

from kgt_editor.results import lines
from kgt_editor.results.lock import held
from kgt_editor.results.schema import SCHEMA_VERSION


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Giving memory back takes a third of a second in a process as large as pytest's."""
    monkeypatch.setattr("kgt_editor.evaluation.protocol.tidy", lambda device: None)


@pytest.fixture
def folder(tmp_path):
    def find(out="results"):
        (found,) = (tmp_path / out).iterdir()
        return found

    return find


@pytest.fixture
def interrupted(compare, folder, monkeypatch):
    """A run that was stopped when it had written so many lines; returns its folder."""

    def stop(after, *arguments, error=KeyboardInterrupt):
        calls, plain = iter(range(1000)), lines.append

        def append(path, new):
            if next(calls) == after:
                raise error
            return plain(path, new)

        with monkeypatch.context() as patched:
            patched.setattr("kgt_editor.results.lines.append", append)
            code, _, err = compare(*arguments)
        return code, err

    return stop


def told(path):
    return json.loads(path.read_text())


def same(first, second, name="records.jsonl"):
    return [without_times(row) for row in rows(first / name)] == [without_times(row) for row in rows(second / name)]


ASKED = ("--sizes", "2,4", "--seeds", "2", "--checkpoint-every", "2")
# Writes of a cell: four edits, a batch of cases and a line a size, the same line taken in.
CELL = 4 + 2 + 2 + 2


def test_an_interrupted_run_goes_on_and_ends_as_a_whole_one(compare, folder, interrupted, fake_editors, tmp_path):
    code, err = interrupted(3 * CELL + 5, *ASKED)  # in the last cell, behind its first size
    assert code == 130
    assert f"compare.py: interrupted, 1 cells not complete; the same command goes on with them: {folder()}" in err
    summary = told(folder() / "summary.json")
    assert summary["missing"] == [{"editor": "fake", "seed": 1, "sizes": [4]}]
    assert [(row["editor"], row["size"], row["seeds"]) for row in summary["rows"]] == [
        ("none", 2, [0, 1]),
        ("none", 4, [0, 1]),
        ("fake", 2, [0, 1]),
        ("fake", 4, [0]),
    ]
    assert not summary["complete"]
    fake_editors.WeightEditor.log.clear()
    code, _, err = compare(*ASKED)
    assert code == 0
    assert "fake, seed 1: goes on after 2 edits" in err
    assert len([kind for kind, _ in fake_editors.WeightEditor.log if kind == "apply"]) == 2 + 2  # warm-up, the rest
    assert compare(*ASKED, out=tmp_path / "whole")[0] == 0
    whole = folder("whole")
    assert same(folder(), whole)
    assert same(folder(), whole, "cells.jsonl")
    manifest = told(folder() / "manifest.json")
    assert (manifest["status"], len(manifest["resumed"])) == ("complete", 1)
    assert told(folder() / "summary.json")["complete"]
    assert not (folder() / "cells").exists()


def test_a_failed_cell_is_run_again_and_the_others_are_not(compare, folder, fake_editors, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(fake_editors.WeightEditor, "apply", lambda *args, **kwargs: 1 / 0)
        code, _, err = compare("--editors", "memory,fake")
    assert code == 1
    assert "all 4 edits failed, the first because: ZeroDivisionError" in err
    assert told(folder() / "manifest.json")["status"] == "failed"
    code, _, err = compare("--editors", "memory,fake")
    assert code == 0
    assert "memory, seed 0" not in err
    assert "fake, seed 0: 4 edits" in err
    assert [row["editor"] for row in told(folder() / "summary.json")["rows"]] == ["none", "memory", "fake"]


def test_never_leaves_an_unfinished_run_as_it_is_and_names_what_is_missing(compare, folder, interrupted, fake_editors):
    interrupted(CELL + 3, *ASKED)
    before = rows(folder() / "records.jsonl")
    code, out, err = compare(*ASKED, "--overwrite", "never")
    assert code == 1
    assert "none" in out
    assert err.splitlines()[-1] == f"compare.py: 3 cells not complete, left so: {folder()}"
    assert rows(folder() / "records.jsonl") == before


def test_always_measures_everything_again(compare, folder, fake_editors):
    assert compare()[0] == 0
    (folder() / "notes.txt").write_text("mine")
    (folder() / "manifest.json").write_text('{"schema_version": 1}')
    code, _, err = compare()
    assert code == 2
    assert f"is of schema version 1, this is version {SCHEMA_VERSION}: give another folder with --out, or" in err
    assert "--overwrite always" in err
    fake_editors.WeightEditor.log.clear()
    assert compare("--overwrite", "always")[0] == 0
    assert fake_editors.WeightEditor.log
    assert (folder() / "notes.txt").read_text() == "mine"
    assert len(rows(folder() / "records.jsonl")) == 2 * 4


def test_a_folder_in_use_is_refused_at_once(compare, folder, fake_editors):
    assert compare()[0] == 0
    with held(folder()):
        code, out, err = compare("--overwrite", "always")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert f"{folder()} is in use by process " in err


def test_another_kind_of_device_is_refused_and_other_threads_are_told(compare, folder, interrupted):
    interrupted(CELL + 3, *ASKED)
    manifest = told(folder() / "manifest.json")
    for device, threads, code, line in (
        ("cuda:0", 1, 2, "begun on cuda and would go on on cpu"),
        ("cpu", 99, 0, "threads 99 / "),
    ):
        changed = manifest | {"environment": manifest["environment"] | {"device": device, "threads": threads}}
        (folder() / "manifest.json").write_text(json.dumps(changed))
        found, _, err = compare(*ASKED)
        assert found == code
        assert sum(line in each for each in err.splitlines()) == 1


def test_a_full_disk_ends_the_run_with_one_line_and_the_command_goes_on(compare, folder, interrupted, tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    calls, plain = iter(range(1000)), type(tmp_path).open

    def open_(path, mode="r", *rest, **named):
        if "a" in mode and next(calls) >= CELL + 3:  # and stays full
            raise full
        return plain(path, mode, *rest, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(tmp_path), "open", open_)
        code, _, err = compare(*ASKED)
    assert code == 1
    (last,) = [line for line in err.splitlines() if line.startswith("compare.py: ")]
    assert "No space left on device; nothing measured before is lost: make room and give the same command again" in last
    assert len(rows(folder() / "records.jsonl")) == 2 + 4
    assert compare(*ASKED)[0] == 0
    assert compare(*ASKED, out=tmp_path / "whole")[0] == 0
    assert same(folder(), folder("whole"))


def test_one_broken_record_costs_one_record(compare, folder, fake_editors):
    assert compare()[0] == 0
    case = rows(folder() / "records.jsonl")[1]["case_id"]
    code, _, err = compare("--set", f"fake.crash_at=[{case}]", out=folder().parents[1] / "broken")
    assert code == 0
    assert "fake, seed 0: 4 edits, 1 edits failed, the first because: RuntimeError: a defect over two lines" in err
    row = told(folder("broken") / "summary.json")["rows"][1]
    assert (row["failed_edits"], row["first_failure"]) == (1, "RuntimeError: a defect over two lines")
