"""A command given again on a run folder in which something has been changed."""

from __future__ import annotations

import random
import shutil

import pytest
from tampering import tamper

FOLDERS = 40
ASKED = ("--editors", "fake,memory", "--sizes", "2,4", "--seeds", "2", "--checkpoint-every", "1")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Giving memory back takes a third of a second in a process as large as pytest's."""
    monkeypatch.setattr("kgt_editor.evaluation.protocol.tidy", lambda device: None)


@pytest.mark.parametrize("finished", [True, False])
def test_no_tampered_folder_ends_in_a_traceback(compare, tmp_path, finished):
    assert compare(*ASKED, out=tmp_path / "whole")[0] == 0
    (whole,) = (tmp_path / "whole").iterdir()
    if not finished:
        (whole / "summary.json").unlink()
    rng, refused = random.Random(finished), 0
    for _ in range(FOLDERS):
        folder = tmp_path / "out" / whole.name
        shutil.copytree(whole, folder)
        changed = rng.choice(sorted(path for path in folder.rglob("*.json*") if path.is_file()))
        tamper(changed, rng)
        code, _, err = compare(*ASKED, out=folder.parent)
        assert code in (0, 1, 2), err
        assert "Traceback" not in err
        refused += code != 0
        shutil.rmtree(folder.parent)
    assert refused < FOLDERS
