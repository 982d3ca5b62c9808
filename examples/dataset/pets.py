"""A data set of one's own: pets that the user says are something else. See docs/data.md."""

from __future__ import annotations

import csv
from pathlib import Path

from kgt_editor.data.base import DataSet
from kgt_editor.data.record import Record

ROWS = Path(__file__).resolve().parent / "pets.csv"


def load_pets(path: str | Path = ROWS) -> DataSet:
    """Rows of name, true animal, and what the user says it is; ``--data FILE`` gives another file."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    records = tuple(
        Record(
            case_id=number,
            subject=name,
            relation_id="species",
            prompt="The animal {} is a kind of",
            target_new=said,
            target_true=true,
            paraphrase_prompts=(f"In a zoo, {name} lives with every",),
        )
        for number, (name, true, said) in enumerate(rows)
    )
    return DataSet("pets", records).hashed()
