"""What a YAML says of where its values come from is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "hparams").rglob("*.yaml"))
# Words that claim nothing of the file's own values.
CLAIMS_NOTHING = ("no sweep was recorded", "Nothing was chosen on this model yet")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_choice_on_validation_records_names_what_recorded_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    said = " ".join(line.partition("#")[2].strip() for line in lines if "#" in line)
    named = re.findall(r"results/sweeps/[\w.-]+\.json", said)
    for name in named:
        assert (ROOT / name).is_file(), name
    if "validation" in said and not any(words in said for words in CLAIMS_NOTHING):
        assert named or path.with_name(f"{path.stem}.calibration.json").is_file()
