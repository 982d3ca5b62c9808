"""kill -9 in the midst of a real comparison: given again, it ends with the records of a whole one.

``benchmarks/measure/kill_resume.py`` plays it at 20 random moments; here are two.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from kgt_editor.cli.compare import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("kill_resume")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch):
    """Here and in the processes that are started: sums are rounded the same everywhere then."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_records_of_a_whole_one(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def arguments(out: Path) -> list[str]:
        asked = ["--editors", "kgt,rome", "--sizes", "2,4", "--no-report", "--device", "cpu", "--out", str(out)]
        return [*asked, "--checkpoint-every", "2", "--set", "rome.v_num_grad_steps=3"]

    def command(out: Path) -> list[str]:
        return [sys.executable, str(ROOT / "benchmarks" / "compare.py"), *arguments(out)]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(arguments(whole), ROOT / "hparams") == 0
    # Twelve lines a cell, eight of which are taken in: the first kill is among KGT's edits, the second among ROME's.
    for lines in (11, 20):
        assert script.kill_when(command(killed), killed, lines, 0.0)
    capsys.readouterr()
    assert main(arguments(killed), ROOT / "hparams") == 0
    assert script.measured(killed) == script.measured(whole)
    told = capsys.readouterr().err
    assert "rome, seed 0: 4 edits" in told


@pytest.mark.slow
def test_twenty_of_twenty(script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    import json

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", ["kill_resume.py", "--moments", "20", "--out", str(tmp_path / "out.json")])
    assert script.main() == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["same_records"] == found["moments"] == 20
    assert found["kills"] >= 18
