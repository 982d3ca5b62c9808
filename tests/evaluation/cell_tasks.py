"""Cells of the tests' fake editors as tasks, and what is measured in a folder, times and memory apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kgt_editor.evaluation.protocol import CellPlan
from kgt_editor.runs.task import CellTask

MEASURED_ANEW = {
    "edit_seconds",
    "peak_memory_bytes",
    "inference_memory_bytes",
    "forward_seconds",
    "preparation_seconds",
    "state_bytes",
}


def make_task(
    fake_editors: Any,
    data: Any,
    model: Path,
    folder: Path,
    kind: str = "WeightEditor",
    sizes: tuple[int, ...] = (3,),
    mode: str = "sequential",
    every: int = 50,
    **settings: Any,
) -> CellTask:
    """A cell of a fake editor on the data's first records."""
    plan = CellPlan(data.sample(sizes[-1], 0), data.known_facts, data.validation, mode, 0, sizes)
    editor, hparams = getattr(fake_editors, kind), fake_editors.FakeHParams(**settings)
    where = (str(model), "cpu", "float32", plan, data.training, "mean", "digest", folder / "cell", folder / "fake.log")
    folder.mkdir(exist_ok=True)
    return CellTask("fake", editor, hparams, *where, every)


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    """A line less what no two runs measure alike."""
    return {name: value for name, value in row.items() if name not in MEASURED_ANEW}


def measured(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """The records in a cell's folder by size."""
    found = {int(path.stem.partition("-")[2]): path for path in folder.glob("records-*.jsonl")}
    return {size: [without_times(row) for row in rows(path)] for size, path in sorted(found.items())}
