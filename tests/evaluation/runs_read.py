"""Reading what a run left."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def the_run(tmp_path):
    (folder,) = (tmp_path / "results").iterdir()
    return folder


def read(folder, name):
    text = (folder / name).read_text()
    return [json.loads(line) for line in text.splitlines()] if name.endswith("jsonl") else json.loads(text)
