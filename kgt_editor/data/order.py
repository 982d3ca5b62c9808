"""Orders of editing that others have published, so that a sequence is the one that they measured on.

The layout is that of Gupta et al. 2024 (github.com/scalable-model-editing/unified-model-editing,
``data/counterfact_sampled_unique_mcf_10_20000.json``): ``{"0": [case numbers], "1": [...]}``, an order a seed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from kgt_editor.data.base import DataSet
from kgt_editor.data.reading import read_document
from kgt_editor.errors import UsageError
from kgt_editor.notice import tell


def read_orders(path: str | Path) -> dict[int, tuple[int, ...]]:
    """Case numbers in the order of editing, by seed.

    Raises:
        UsageError: the file cannot be read or has another layout, or a case comes twice in an order.
    """
    found = read_document(path)
    if not isinstance(found, dict) or not found:
        raise UsageError(f'{path}: must be {{"0": [case numbers], "1": [...]}}, an order a seed')
    orders = {}
    for seed, cases in found.items():
        if not seed.isdecimal():
            raise UsageError(f"{path}: {seed[:40]!r} is no seed; seeds are 0, 1, ...")
        if not isinstance(cases, list) or not all(type(case) is int for case in cases):
            raise UsageError(f"{path}, seed {seed}: must be a list of case numbers")
        if len(set(cases)) < len(cases):
            raise UsageError(f"{path}, seed {seed}: a case comes twice")
        orders[int(seed)] = tuple(cases)
    return orders


def in_order(data: DataSet, path: str | Path, size: int, seeds: int) -> DataSet:
    """A data set whose sequences follow the orders of a file.

    Cases that are not among the reported records (training and validation records, or none of this data set) are
    passed over, and a line says how many: what an editor was trained on, or chosen on, judges nothing.

    Args:
        data: the data set, see :meth:`DataSet.reaching`.
        path: the orders.
        size: the longest sequence.
        seeds: how many sequences.

    Raises:
        UsageError: see :func:`read_orders`; a seed without an order, or an order with too few reported cases.
    """
    orders = read_orders(path)
    reported = {record.case_id for record in data.records}
    passed = []
    for seed in range(seeds):
        if seed not in orders:
            raise UsageError(f"--order {path}: has no order for seed {seed}; it has {len(orders)}")
        places = [place for place, case in enumerate(orders[seed]) if case in reported]
        if len(places) < size:
            raise UsageError(
                f"--order {path}, seed {seed}: {len(places)} of its {len(orders[seed])} cases are among the "
                f"{len(reported)} reported records of '{data.name}', fewer than the {size} asked for"
            )
        passed.append(places[size - 1] + 1 - size)
    kept = {seed: orders[seed] for seed in range(seeds)}
    revision = hashlib.sha256(json.dumps(sorted(kept.items())).encode()).hexdigest()[:12]
    if any(passed):
        told = "/".join(map(str, passed))
        tell(f"order of {path}: {told} of its cases are no reported records and are passed over")
    return replace(data, orders=kept, revision=f"{data.revision}-{revision}")
