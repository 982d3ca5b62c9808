"""A synthetic dump in ConceptNet 5's form, with a few hubs of thousands of edges, for ``graph_store.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

HEADS, TAILS = 1_100_000, 1_500_000
RELATIONS = ("RelatedTo", "IsA", "Synonym", "AtLocation", "UsedFor", "HasContext", "DerivedFrom", "CapableOf")
SYLLABLES = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "or", "el")]


def word(number: int) -> str:
    """A pronounceable word, a different one for each number."""
    parts = []
    while True:
        number, digit = divmod(number, len(SYLLABLES))
        parts.append(SYLLABLES[digit])
        if not number:
            return "".join(parts) + "x"


def term(number: int) -> str:
    """One word for the first hundred thousand terms, else two or three, as in ConceptNet."""
    if number < 100_000:
        return word(number)
    extra = (number * 7919) % 100_000
    return f"{word(number % 100_003)}_{word(extra)}" + (f"_{word(number // 100_003)}" if number % 2 else "")


def degrees(count: int, heads: int) -> np.ndarray:
    """Edges of each head: a power law from one edge to about fifteen thousand, ``count`` in all."""
    ranks = np.arange(1, heads + 1, dtype=np.float64)
    shape = 1 / ranks**0.7
    listed = np.maximum(1, np.floor(shape / shape.sum() * count)).astype(np.int64)
    surplus = int(listed.sum()) - count
    order = np.flatnonzero(listed > 1) if surplus > 0 else np.arange(heads)
    np.subtract.at(listed, order[np.arange(abs(surplus)) % len(order)], np.sign(surplus))
    return listed


def synthetic(path: Path, count: int) -> dict[str, Any]:
    """Write ``count`` distinct assertions in ConceptNet 5's five columns, heads in random order."""
    rng = np.random.default_rng(0)
    heads = min(HEADS, count // 3)
    tails = min(TAILS, count)
    owner = np.repeat(np.arange(heads), degrees(count, heads))
    # A head's k-th edge steps through the tails by a stride of its own, so no triple comes twice.
    first = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=heads))[:-1]])
    position = np.arange(count) - first[owner]
    tail = (owner * 7919 + position * 104_729 + 13) % tails
    order = rng.permutation(count)
    weights = rng.choice([0.5, 1.0, 1.0, 2.0, 2.828, 3.464], size=count)
    with path.open("w", encoding="utf-8") as file:
        for index in order:
            relation = f"/r/{RELATIONS[int(position[index]) % len(RELATIONS)]}"
            start, end = f"/c/en/{term(int(owner[index]))}/n", f"/c/en/{term(int(tail[index]))}"
            details = (
                '{"dataset": "/d/wiktionary/en", "license": "cc:by-sa/4.0", "sources": [{"contributor": '
                f'"/s/resource/wiktionary/en", "process": "/s/process/wikiparsec/2"}}], "weight": {weights[index]}}}'
            )
            file.write(f"/a/[{relation}/,{start}/,{end}/]\t{relation}\t{start}\t{end}\t{details}\n")
    return {"heads": heads, "largest_hub": int(np.bincount(owner).max())}
