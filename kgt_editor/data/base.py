"""What a data set is, and the table of the known ones."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError

ENTRY_POINT_GROUP = "kgt_editor.datasets"


@dataclass(frozen=True, slots=True)
class KnownFact:
    """A fact no edit touches: ``answer`` should stay the greedy continuation of ``prompt``."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class DataSet:
    """Records in their roles; the four pools share no subject.

    Attributes:
        name: name in :func:`available`.
        records: the reported pool, from which :meth:`sample` draws.
        training: records hypernetworks may train on.
        validation: records to tune and warm up on.
        known_facts: facts that are never edited, for the recall of what should stay.
        revision: hash of the content, see :func:`content_hash`.
    """

    name: str
    records: tuple[Record, ...]
    training: tuple[Record, ...] = ()
    validation: tuple[Record, ...] = ()
    known_facts: tuple[KnownFact, ...] = ()
    revision: str = ""

    def sample(self, size: int, seed: int) -> list[Record]:
        """The first ``size`` records in the order ``seed`` gives: sets of growing size are nested.

        The order is that of a hash of seed and case number, so no library's random generator can change it.

        Raises:
            UsageError: ``size`` is below one or above the pool.
        """
        if not 1 <= size <= len(self.records):
            kept = f"{len(self.training)} for training, {len(self.validation)} for validation"
            raise UsageError(
                f"size {size} is not between 1 and the {len(self.records)} reported records of '{self.name}' "
                f"(besides them it has {kept}, {len(self.known_facts)} known facts)"
            )
        return sorted(self.records, key=lambda record: seeded_key(seed, str(record.case_id)))[:size]


def seeded_key(seed: int, text: str) -> str:
    """A sort key that shuffles the same way everywhere."""
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()


def content_hash(*pools: tuple[Record, ...] | tuple[KnownFact, ...]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the pools' content."""
    text = json.dumps([[asdict(item) for item in pool] for pool in pools], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Entry:
    target: str
    description: str
    needs_file: bool


_ENTRIES = {
    "world": _Entry(
        "kgt_editor.data.world:load_world", "real facts in our own sentences, which the testbed models know", False
    ),
    "counterfact": _Entry(
        "kgt_editor.data.counterfact:load_counterfact",
        "CounterFact in ROME's or EasyEdit's JSON, the file given with --data",
        True,
    ),
}


def available() -> dict[str, str]:
    """Every known data set with one line about it; entry points of the group ``kgt_editor.datasets`` included."""
    plugins = {point.name: f"from {point.value}" for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {**plugins, **{name: entry.description for name, entry in _ENTRIES.items()}}


def load(name: str, data: str | Path | None = None, **kwargs: Any) -> DataSet:
    """Load a data set by name; ``data`` is the file for those that are read from one.

    Raises:
        UsageError: an unknown name, a missing or superfluous file, or a broken one.
    """
    if name in _ENTRIES:
        entry = _ENTRIES[name]
        module, _, function = entry.target.partition(":")
        if entry.needs_file and data is None:
            raise UsageError(f"data set '{name}' is read from a file: give it with --data FILE (.json, .jsonl or .gz)")
        if not entry.needs_file and data is not None:
            raise UsageError(f"data set '{name}' is shipped with the package and takes no --data; leave it out")
        loader: Callable[..., DataSet] = getattr(importlib.import_module(module), function)
        return loader(data, **kwargs) if entry.needs_file else loader(**kwargs)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            loader = point.load()
            return loader(**kwargs) if data is None else loader(data, **kwargs)
    raise UsageError(f"unknown data set '{name}'; known: {', '.join(available())}")
