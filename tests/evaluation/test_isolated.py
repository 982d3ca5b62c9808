"""A cell in a process of its own gives what it gives in this one."""

from __future__ import annotations

import json

import pytest
from cell_tasks import make_task, measured

from kgt_editor.errors import KgtError
from kgt_editor.runs.task import PreparationError, run_task
from kgt_editor.runs.workers import run_apart


@pytest.fixture
def task(fake_editors, tiny_data, saved_model, tmp_path):
    def make(folder="apart", **settings):
        return make_task(fake_editors, tiny_data, saved_model, tmp_path / folder, **settings)

    return make


def test_the_cell_is_the_same(task, tiny_data):
    refused = tiny_data.sample(3, 0)[1].case_id
    stages = []
    run_apart(task(refuse=(refused,)), lambda *stage: stages.append(stage))
    run_task(task("here", refuse=(refused,)))
    apart, here = (measured(task(name).folder) for name in ("apart", "here"))
    assert apart == here
    assert [row["failure"] for row in apart[3]] == [None, f"case {refused} is refused", None]
    (cell,) = (json.loads(line) for line in (task().folder / "cells.jsonl").read_text().splitlines())
    assert cell["peak_memory_bytes"] > 0
    assert cell["inference_memory_bytes"] > 0
    assert stages[-1] == ("evaluating", 3, 3)


def test_what_goes_wrong_there_is_told_in_one_line(task):
    asked = task(crash=True)
    with pytest.raises(KgtError, match=r"RuntimeError: a defect over two lines \(log: .*fake\.log\)"):
        run_apart(asked)
    assert "Traceback" in asked.log.read_text()


def test_an_editor_that_cannot_be_prepared_there_is_told_so(task):
    with pytest.raises(PreparationError, match="no hypernetwork today"):
        run_apart(task("other", unprepared=True))


def test_a_process_that_dies_is_told(task):
    with pytest.raises(KgtError, match=r"its process ended with exit code 9; log: "):
        run_apart(task(die=True))
