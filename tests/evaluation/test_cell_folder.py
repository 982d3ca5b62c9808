"""A cell goes on where a process left off, with the very records of one that was never stopped."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from dataclasses import replace

import pytest
import torch
from cell_tasks import make_task, measured, rows, without_times

from kgt_editor.errors import KgtError
from kgt_editor.evaluation import protocol
from kgt_editor.evaluation.answers import say
from kgt_editor.evaluation.protocol import SpoiledCellError
from kgt_editor.results import lines
from kgt_editor.results.lines import DiskError
from kgt_editor.results.lock import held
from kgt_editor.runs import task
from kgt_editor.runs.task import LoadedModel, run_task


@pytest.fixture
def bench(saved_model):
    return LoadedModel(str(saved_model), "cpu", "float32")


@pytest.fixture
def make(fake_editors, tiny_data, saved_model, tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "CASES_A_BATCH", 2)
    monkeypatch.setattr(task, "CASES_A_BATCH", 2)
    monkeypatch.setattr(protocol, "tidy", lambda device: None)  # a third of a second in a process as large as pytest's

    def make(name, **settings):
        return make_task(fake_editors, tiny_data, saved_model, tmp_path / name, every=3, **settings)

    return make


class Killed(BaseException):
    """What ends a process is nothing that the code under it can catch."""


def killed_at(moment):
    """Stands for ``lines.append``; the process is killed in the midst of the moment-th call."""
    calls = iter(range(10_000))
    plain = lines.append

    def append(path, new):
        if next(calls) == moment:
            text = "".join(map(lines.line_of, new))
            with path.open("a") as file:
                file.write(text[: len(text) // 2])
            raise Killed
        return plain(path, new)

    return append


def run_until_done(asked, bench, monkeypatch, moments):
    """Kills one attempt at each of the moments, then lets one through; returns the notes."""
    notes = []
    for moment in moments:
        with monkeypatch.context() as patched:
            patched.setattr("kgt_editor.results.lines.append", killed_at(moment))
            with pytest.raises(Killed):
                run_task(asked, bench, note=notes.append)
    run_task(asked, bench, note=notes.append)
    return notes


@pytest.mark.parametrize(
    ("kind", "mode", "sizes", "moments"),
    [
        # Writes: an edit each, a batch of two cases each, and a line a size.
        ("WeightEditor", "sequential", (3, 5), (0, 4, 5, 6, 10)),
        ("WeightEditor", "single", (3,), (0, 3, 6)),
        ("MemoryEditor", "sequential", (3, 5), (7,)),  # cannot be saved: begins with the first edit
    ],
)
def test_killed_anywhere_it_ends_with_the_same_records(make, bench, monkeypatch, kind, mode, sizes, moments):
    whole = make("whole", kind=kind, mode=mode, sizes=sizes)
    run_task(whole, bench)
    wanted, cells = measured(whole.folder), rows(whole.folder / "cells.jsonl")
    for moment in moments:
        broken = make(f"broken-{moment}", kind=kind, mode=mode, sizes=sizes)
        run_until_done(broken, bench, monkeypatch, [moment])
        assert measured(broken.folder) == wanted, moment
        found = rows(broken.folder / "cells.jsonl")
        assert [without_times(row) for row in found] == [without_times(row) for row in cells]


def test_killed_again_and_again_no_more_is_lost_than_said(make, bench, fake_editors, monkeypatch):
    whole = make("whole", sizes=(4, 7))
    run_task(whole, bench)
    log = fake_editors.WeightEditor.log
    del log[:]
    broken = make("broken", sizes=(4, 7))
    notes = run_until_done(broken, bench, monkeypatch, [5, 3, 2])
    assert measured(broken.folder) == measured(whole.folder)
    edits = sum(kind == "apply" for kind, _ in log) - 4 * 2  # less the warm-up of each attempt
    assert edits <= 7 + 3 * 3
    assert any(note.startswith("fake, seed 0: goes on after ") for note in notes)
    assert any("its last line was broken and is cut off" in note for note in notes)


def test_what_is_complete_is_not_run_again(make, bench, fake_editors):
    asked = make("cell")
    run_task(asked, bench)
    fake_editors.WeightEditor.log.clear()
    run_task(asked, bench)
    assert fake_editors.WeightEditor.log == []


def test_the_first_preparation_is_the_one_that_is_told(make, bench, monkeypatch):
    asked = make("cell", sizes=(8,))
    with monkeypatch.context() as patched:
        patched.setattr("kgt_editor.results.lines.append", killed_at(6))
        with pytest.raises(Killed):
            run_task(asked, bench)
    head = json.loads((asked.folder / "head.json").read_text())
    run_task(asked, bench)
    (cell,) = rows(asked.folder / "cells.jsonl")
    assert cell["preparation_seconds"] == head["costs"]["preparation_seconds"]


def test_a_state_that_cannot_be_read_is_an_error_that_names_it(make, bench, monkeypatch):
    asked = make("cell", sizes=(8,))
    with monkeypatch.context() as patched:
        patched.setattr("kgt_editor.results.lines.append", killed_at(7))
        with pytest.raises(Killed):
            run_task(asked, bench)
    (state,) = asked.folder.glob("state-*")
    (state / "weight.pt").write_bytes(b"nothing of the sort")
    with pytest.raises(KgtError, match=r"state-6 cannot be read: delete .* to begin this cell with the first edit"):
        run_task(asked, bench)
    shutil.rmtree(asked.folder)
    run_task(asked, bench)


def test_a_spoiled_cell_begins_with_the_first_edit_when_it_is_given_again(make, bench, fake_editors):
    with pytest.raises(SpoiledCellError, match="all 3 edits failed"):
        run_task(make("cell", crash=True), bench)
    bench.clear()
    bench._row = None  # mended meanwhile
    run_task(make("cell"), bench)
    whole = make("whole")
    run_task(whole, bench)
    assert measured(make("cell").folder) == measured(whole.folder)


def test_after_out_of_memory_it_goes_on(make, bench, fake_editors):
    with pytest.raises(KgtError, match="ran out of memory"):
        run_task(make("cell", sizes=(8,), exhaust="CUDA out of memory", exhaust_after=7), bench)
    done = len(rows(make("cell").folder / "edits.jsonl"))
    assert done > 2
    bench._row = None
    fake_editors.WeightEditor.log.clear()
    notes = []
    run_task(make("cell", sizes=(8,)), bench, note=notes.append)
    assert notes == ["fake, seed 0: goes on after 3 edits"]


@pytest.mark.parametrize("where", ["edits.jsonl", "records-3.jsonl", "cells.jsonl", "weight.pt"])
def test_a_full_disk_ends_it_with_a_line_and_loses_nothing(make, bench, monkeypatch, where):
    asked = make("cell")
    full = OSError(errno.ENOSPC, "No space left on device")
    plain_open, plain_save = type(asked.folder).open, torch.save

    def open_(path, mode="r", *rest, **named):
        if path.name == where and "a" in mode:
            raise full
        return plain_open(path, mode, *rest, **named)

    def save(value, path):
        if where == "weight.pt":
            raise full
        plain_save(value, path)

    with monkeypatch.context() as patched:
        patched.setattr(type(asked.folder), "open", open_)
        patched.setattr(torch, "save", save)
        kind = KgtError if where == "weight.pt" else DiskError
        with pytest.raises(kind, match="No space left on device"):
            run_task(asked, bench)
    run_task(asked, bench)
    whole = make("whole")
    run_task(whole, bench)
    assert measured(asked.folder) == measured(whole.folder)


def test_a_folder_of_another_run_is_begun_anew(make, bench):
    asked = make("cell")
    run_task(asked, bench)
    other = replace(asked, digest="another")
    run_task(other, bench)
    assert json.loads((other.folder / "head.json").read_text())["digest"] == "another"
    assert len(rows(other.folder / "edits.jsonl")) == 3


def test_a_second_worker_waits_for_the_first_one_to_end(make, bench):
    asked = make("cell")
    asked.folder.mkdir(parents=True)
    done = []
    with held(asked.folder):
        worker = threading.Thread(target=lambda: done.append(run_task(asked, bench)))
        worker.start()
        worker.join(1.0)
        assert not done
    worker.join(60)
    assert done == [None]


def test_a_task_can_be_pickled(make):
    import pickle

    asked = make("cell")
    again = pickle.loads(pickle.dumps(asked))
    assert (again.head, again.plan, again.hparams) == (asked.head, asked.plan, asked.hparams)


def test_outcomes_are_counted_in_the_cell_though_details_stay_on_disk(make, bench, monkeypatch):
    asked = make("cell", sizes=(2, 5), outcomes=("held", "restated"))
    run_until_done(asked, bench, monkeypatch, [5])
    cells = rows(asked.folder / "cells.jsonl")
    for cell in cells:
        told = [row["details"]["outcome"] for row in rows(asked.folder / f"records-{cell['size']}.jsonl")]
        counted = {name: told.count(name) for name in ("held", "kept but not followed", "restated", "dropped")}
        assert cell["edit_outcomes"] == counted
    assert [sum(cell["edit_outcomes"].values()) for cell in cells] == [2, 5]


def test_cells_of_a_run_share_what_the_model_says_without_edits(make, bench, monkeypatch, tmp_path):
    shared = tmp_path / "answers"
    first, second = (replace(make(name), answers=shared) for name in ("first", "second"))
    run_task(first, bench)
    written = {path: path.read_bytes() for path in shared.iterdir()}
    assert written
    asked = []
    monkeypatch.setattr("kgt_editor.evaluation.kept.say", lambda *args: asked.append(args) or say(*args))
    run_task(second, bench)
    assert len(asked) == 2  # after the edits alone, once a batch of cases
    assert {path: path.read_bytes() for path in shared.iterdir()} == written
    assert measured(second.folder) == measured(first.folder)
