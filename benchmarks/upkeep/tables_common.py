"""What the tables of README and docs have in common: where results lie, and how a table is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
MODELS = ROOT / "kgt_editor" / "testbed" / "models"


def read(*parts: str) -> Any:
    """A file of JSON under results/."""
    return json.loads(RESULTS.joinpath(*parts).read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def share(value: float | None) -> str:
    """A share in 0..1 with three digits; ``-`` for none."""
    return "-" if value is None else f"{value:.3f}"
