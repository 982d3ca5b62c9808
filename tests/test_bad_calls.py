"""benchmarks/measure/bad_calls.py: every command line refuses bad arguments in a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CALLS = 38  # two of each command line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_no_bad_call_ends_in_a_traceback_or_is_accepted(tmp_path: Path) -> None:
    script, out = ROOT / "benchmarks" / "measure" / "bad_calls.py", tmp_path / "found.json"
    command = [sys.executable, str(script), "--calls", str(CALLS), "--seed", "7", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["wrong"] == []
    assert found["accepted"] == []
    assert sum(found["ended"].values()) == CALLS == 2 * found["command lines"]
    assert list(tmp_path.iterdir()) == [out]
