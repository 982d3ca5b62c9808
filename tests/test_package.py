"""What is installed: every package, the YAMLs, and the command ``kgt``."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from setuptools import find_packages

import kgt_editor
from kgt_editor.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]


def test_every_package_is_installed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["packages"].split()
    assert sorted(listed) == sorted([*find_packages(str(ROOT), include=["kgt_editor*"]), "kgt_editor.hparams"])


def test_a_command_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["comapre"]) == 2
    assert capsys.readouterr().err == "kgt: no command 'comapre'; did you mean 'compare'?\n"
    assert main(["xyz"]) == 2
    assert (
        capsys.readouterr().err
        == "kgt: no command 'xyz'; known: chat, serve, mcp, compare, report, paper, calibrate, graph, data\n"
    )


def test_help_names_every_command_without_importing_torch(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; from kgt_editor.__main__ import main; main(['--help']); assert 'torch' not in sys.modules"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"  {name} " in told.stdout for name in COMMANDS)
    assert main([]) == 2
    assert "usage: kgt COMMAND" in capsys.readouterr().out


def test_every_public_name_can_be_had_and_none_is_imported_before() -> None:
    code = (
        "import sys, kgt_editor; assert 'torch' not in sys.modules; "
        "assert all(getattr(kgt_editor, name) for name in kgt_editor.__all__); assert kgt_editor.__version__"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="has no attribute 'Tripel'"):
        kgt_editor.Tripel  # noqa: B018


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_says_what_it_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.slow
def test_an_installed_wheel_runs_a_comparison(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        inside = {name.removeprefix("kgt_editor/") for name in packed.namelist()}
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("hparams/**/*.yaml")} <= inside
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    elsewhere.mkdir()
    command = [sys.executable, "-m", "kgt_editor", "compare", "--editors", "kgt", "--limit", "5", "--no-report"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    subprocess.run(command, cwd=elsewhere, env=environment, check=True)
    (manifest,) = elsewhere.glob("results/*/manifest.json")
    assert '"status": "complete"' in manifest.read_text()
    told = subprocess.run(
        [sys.executable, "-c", "import kgt_editor; print(kgt_editor.__file__)"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.startswith(str(site))
