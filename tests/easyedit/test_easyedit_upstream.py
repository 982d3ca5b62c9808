"""The pull request to EasyEdit, ``docs/easyedit.patch``, applied to the clone and used without importing ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from easyedit_helpers import HPARAMS, forget

from kgt_editor.editors.easyedit import loading

PATCH = Path(__file__).parents[2] / "docs" / "easyedit.patch"

# EasyEdit is imported by way of ours for the sake of the multimodal packages alone, which may be missing.
SCRIPT = """
import sys
from kgt_editor.editors.easyedit.loading import load
load()
from easyeditor import BaseEditor, KGTHyperParams
assert "kgt_editor.easyedit" not in sys.modules
editor = BaseEditor.from_hparams(KGTHyperParams.from_hparams(sys.argv[1]))
asked = dict(
    prompts=["The first language of Bertrand Tavernier is"], target_new=["English"], subject=["Bertrand Tavernier"]
)
for sequential in (False, True):
    _, model, _ = editor.batch_edit(**asked, sequential_edit=sequential, verbose=False)
    assert len(model.graph.added) == sequential, model.graph.added
"""


@pytest.fixture
def patched(tmp_path: Path) -> Path:
    """A copy of the clone's code with the patch applied."""
    forget()
    found = loading.find()
    if found is None:
        pytest.skip("no EasyEdit: name a clone in EASYEDIT_HOME")
    shutil.copytree(found, tmp_path / "easyeditor")
    for name in ("README.md", "requirements.txt"):
        shutil.copy(found.parent / name, tmp_path / name)
    command = ["git", "apply", "--unidiff-zero", str(PATCH)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_it_adds_lines_and_takes_none_away() -> None:
    lines = PATCH.read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("+") for line in lines)
    assert [line for line in lines if line.startswith("-") and not line.startswith("--- ")] == []


def test_it_brings_the_hyperparameters_that_are_shipped(patched: Path) -> None:
    brought = sorted((patched / "hparams" / "KGT").glob("*.yaml"))
    assert len(brought) == 3
    for path in brought:
        assert path.read_text(encoding="utf-8") == (HPARAMS / "KGT" / path.name).read_text(encoding="utf-8")


def test_a_patched_easyedit_has_kgt(patched: Path) -> None:
    environment = {**os.environ, "EASYEDIT_HOME": str(patched), "PYTHONPATH": str(patched)}
    command = [sys.executable, "-c", SCRIPT, str(HPARAMS / "KGT" / "testbed-gpt2")]
    done = subprocess.run(command, cwd=patched, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
