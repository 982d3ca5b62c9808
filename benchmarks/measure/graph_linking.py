"""Linking at ConceptNet's size, measured by graph_store.py; and how a call is timed there."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_conceptnet import HEADS, term, word

from kgt_editor.graph.build import build
from kgt_editor.graph.linking import link
from kgt_editor.graph.names import MAX_WORDS, HeadIndex, split_words
from kgt_editor.graph.stored import StoredGraph


def timings(action: Callable[[Any], Any], inputs: list[Any]) -> dict[str, float]:
    """p50 and p99 of one call, in microseconds."""
    taken = []
    for item in inputs:
        start = time.perf_counter_ns()
        action(item)
        taken.append((time.perf_counter_ns() - start) / 1000)
    return {"p50_us": statistics.median(taken), "p99_us": float(np.quantile(taken, 0.99)), "calls": len(taken)}


def rss() -> float:
    """Resident memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def linking(folder: Path, graph: Path, base_terms: int, own_terms: int) -> dict[str, Any]:
    """Linking with this package's indexes, and with an Aho-Corasick automaton beside them."""
    whole = StoredGraph(graph).head_index()
    rng = random.Random(0)
    terms = [term(number).replace("_", " ") for number in rng.sample(range(HEADS), base_terms)]
    own = [f"{word(number).capitalize()} {word(number // 3)}" for number in range(1, own_terms + 1)]
    build(((head, "is", "known", 1.0) for head in terms), folder / "link.db")
    stored, hashed, mine = StoredGraph(folder / "link.db").head_index(), HeadIndex(terms), HeadIndex(own)
    templates = (
        "The mother tongue of {} is",
        "What does {} like to eat for breakfast?",
        "Where was {} born, and when did",
    )
    texts = [templates[i % 3].format(rng.choice(terms if i % 2 else own)) for i in range(5000)]
    long = [" ".join(rng.choice(terms) for _ in range(20)) for _ in range(500)]
    known = sum(link(text, mine, stored) is not None for text in texts) / len(texts)
    found = {
        "base_terms": base_terms,
        "own_terms": own_terms,
        "linked_share": known,
        "base_stored": timings(lambda text: link(text, mine, stored), texts),
        "base_stored_all_heads": timings(lambda text: link(text, mine, whole), texts),
        "base_in_memory": timings(lambda text: link(text, mine, hashed), texts),
        "long_text_base_stored": timings(lambda text: link(text, mine, stored), long),
        "long_text_words_mean": statistics.mean(len(split_words(text)) for text in long),
        "add_a_name": timings(mine.add, [f"my {word(number)}" for number in range(5000)]),
        "max_words": MAX_WORDS,
    }
    return found | {"aho_corasick": _automaton(terms, own, texts)}


def _automaton(terms: list[str], own: list[str], texts: list[str]) -> dict[str, Any] | str:
    try:
        import ahocorasick
    except ImportError:
        return "pyahocorasick is not installed"
    before, start = rss(), time.perf_counter()
    automaton = ahocorasick.Automaton()
    for name in (*terms, *own):
        automaton.add_word(name.casefold(), name)
    automaton.make_automaton()
    built, grown = (time.perf_counter() - start) * 1000, rss() - before

    def longest(text: str) -> str | None:
        folded = text.casefold()
        best: tuple[int, str] | None = None
        for last, name in automaton.iter(folded):
            first, after = last - len(name) + 1, last + 1
            whole = not (first and folded[first - 1].isalnum()) and not (
                after < len(folded) and folded[after].isalnum()
            )
            if whole and (best is None or len(name) > best[0]):
                best = len(name), name
        return best and best[1]

    # A name added to an automaton is found only once the automaton has been made again.
    return {"rss_mb": grown, "query": timings(longest, texts), "start_ms": built, "add_a_name_ms": built}
