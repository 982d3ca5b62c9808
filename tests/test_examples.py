"""The packages in examples/ add what they say by entry point alone, and the notebook runs from top to bottom."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def installed(name: str, folder: Path) -> Path:
    """What pip does of an installation that matters here, without a network: the module and its entry points."""
    source = Path(shutil.copytree(ROOT / "examples" / name, folder / f"example_{name}"))
    subprocess.run(
        [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "egg_info"], cwd=source, check=True
    )
    return source


def compare(source: Path, out: Path, *arguments: str) -> list[dict]:
    """The rows of a small run that finds the package at ``source``."""
    command = [sys.executable, str(ROOT / "benchmarks" / "compare.py"), "--out", str(out), "--device", "cpu"]
    done = subprocess.run(
        [*command, *arguments, "--no-report"],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (summary,) = out.glob("*/summary.json")
    rows: list[dict] = json.loads(summary.read_text())["rows"]
    return rows


def test_a_package_adds_an_editor(tmp_path: Path) -> None:
    source = installed("editor", tmp_path)
    arguments = ["--editors", "echo", "--size", "3", "--set", "echo.boost=50", "--mode", "single"]
    plain, echo = compare(source, tmp_path / "results", *arguments)
    assert (plain["editor"], echo["editor"]) == ("none", "echo")
    assert plain["metrics"]["efficacy_accuracy"]["mean"] == 0
    assert echo["metrics"]["efficacy_accuracy"]["mean"] == 1


def test_a_package_adds_a_data_set(tmp_path: Path) -> None:
    source = installed("dataset", tmp_path)
    plain, kgt = compare(source, tmp_path / "results", "--editors", "kgt:user", "--dataset", "pets", "--size", "4")
    assert (plain["editor"], plain["dataset"]) == ("none", "pets")
    assert (kgt["editor"], kgt["size"]) == ("kgt:user", 4)
    assert kgt["failed_edits"] == 0


def test_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "examples" / "one_users_facts.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "after the edit: English" in done.stdout
