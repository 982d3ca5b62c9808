"""An editor in a package of its own, added by entry point alone: examples/editor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_an_installed_package_adds_a_row(tmp_path: Path) -> None:
    source = Path(shutil.copytree(ROOT / "examples" / "editor", tmp_path / "example_editor"))
    # What pip does of an installation that matters here, without a network: the module and its entry points.
    subprocess.run(
        [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "egg_info"], cwd=source, check=True
    )
    command = [sys.executable, str(ROOT / "benchmarks" / "compare.py"), "--editors", "echo", "--size", "3"]
    done = subprocess.run(
        [*command, "--set", "echo.boost=50", "--mode", "single", "--out", str(tmp_path / "results"), "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (summary,) = (tmp_path / "results").glob("*/summary.json")
    plain, echo = json.loads(summary.read_text())["rows"]
    assert (plain["editor"], echo["editor"]) == ("none", "echo")
    assert plain["metrics"]["efficacy_accuracy"]["mean"] == 0
    assert echo["metrics"]["efficacy_accuracy"]["mean"] == 1
