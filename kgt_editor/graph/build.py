"""Making the file of a base graph from a stream of rows, in constant memory."""

from __future__ import annotations

import glob
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.database import BASE_GRAPH, check_file, plain_errors
from kgt_editor.graph.relations import ALIAS
from kgt_editor.graph.seal import seal
from kgt_editor.graph.stored import BLOCK, SCHEMA, names_of

#: Head, relation phrase, tail, weight.
Row = tuple[str, str, str, float]

_Edge = tuple[str, int, str, float]
_CACHE_KIB = 48 * 1024
_BATCH = 20_000


def build(
    rows: Iterable[Row],
    out: str | Path,
    about: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> int:
    """Write a base graph.

    Repeated triples become one, with the greatest weight. The file is made beside ``out`` and takes its place when it
    is whole, so ``out`` is never half a graph; rows are sorted in SQLite's temporary file (``SQLITE_TMPDIR``), which
    needs about as much space again.

    Args:
        rows: the triples, in any order.
        out: the file; a base graph that is there is replaced.
        about: what the file should tell of itself, read when the last row has come; JSON values.
        progress: told how many triples have been written, of how many at most, once all rows are read.
        force: replace another file, too.

    Returns:
        the number of distinct triples.

    Raises:
        UsageError: ``out`` is there and no base graph.
        KgtError: the disk is full or cannot be written to.
    """
    target = Path(out)
    _check_replaceable(target, force)
    for stale in target.parent.glob(f".{glob.escape(target.name)}.*.part"):  # of a build that was killed
        stale.unlink(missing_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with plain_errors(target):
            triples = _write(part, rows, about or {}, progress or (lambda done, total: None))
        seal(part)
        _publish(part, target)
    finally:
        part.unlink(missing_ok=True)
    return triples


def _check_replaceable(target: Path, force: bool) -> None:
    """A file that may hold what nobody can make again is not replaced."""
    if not target.exists():
        return
    if not target.is_file():
        raise UsageError(f"{target}: not a file; give a file as --out")
    if force or not target.stat().st_size:
        return
    try:
        check_file(target, BASE_GRAPH)
    except KgtError as error:
        raise UsageError(f"{error}; it would be replaced: give another --out, or --force") from None


def _publish(part: Path, target: Path) -> None:
    try:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise KgtError(f"{target}: cannot be written: {error.strerror}") from None


def _write(path: Path, rows: Iterable[Row], about: dict[str, Any], progress: Callable[[int, int], None]) -> int:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        # Nobody sees the file before it is whole: it needs neither a rollback journal nor a sync for every change.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "temp_store = FILE"):
            db.execute(f"PRAGMA {pragma}")
        for schema in ("main", "temp"):
            db.execute(f"PRAGMA {schema}.cache_size = -{_CACHE_KIB}")
        db.executescript(SCHEMA)
        db.execute("CREATE TEMP TABLE rows (head TEXT, relation INTEGER, tail TEXT, weight REAL)")
        db.execute("BEGIN")
        ids: dict[str, int] = {}
        numbered = ((head, ids.setdefault(phrase, len(ids)), tail, weight) for head, phrase, tail, weight in rows)
        taken = db.executemany("INSERT INTO temp.rows VALUES (?, ?, ?, ?)", numbered).rowcount
        merged = db.execute(
            "SELECT head, relation, tail, max(weight) FROM temp.rows GROUP BY head, relation, tail ORDER BY head"
        )
        counts, heads = _write_edges(db, merged, ids.get(ALIAS), lambda done: progress(done, taken))
        db.executemany(
            "INSERT INTO relations VALUES (?, ?, ?)",
            ((number, phrase, counts.get(number, 0)) for phrase, number in ids.items()),
        )
        triples = sum(counts.values())
        meta = {"triples": triples, "heads": heads, "duplicates": taken - triples, **about}
        db.executemany("INSERT INTO meta VALUES (?, ?)", ((key, json.dumps(value)) for key, value in meta.items()))
        db.execute(f"PRAGMA application_id = {BASE_GRAPH.application_id}")
        db.execute(f"PRAGMA user_version = {BASE_GRAPH.schema}")
        db.execute("COMMIT")
    finally:
        db.close()
    return triples


def _write_edges(
    db: sqlite3.Connection, merged: Iterator[_Edge], alias: int | None, progress: Callable[[int], None]
) -> tuple[dict[int, int], int]:
    """Fill ``edges``, ``names`` and ``openings``; give the number of edges of each relation, and of heads."""
    counts: dict[int, int] = {}
    heads = 0
    blocks: list[tuple[str, int, str, str, str]] = []
    names: list[tuple[str, str, str]] = []
    openings: list[tuple[str, int]] = []

    def flush() -> None:
        db.executemany("INSERT INTO edges VALUES (?, ?, ?, ?, ?)", blocks)
        db.executemany("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", names)
        db.executemany(
            "INSERT INTO openings VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET words = max(words, excluded.words)",
            openings,
        )
        for batch in (blocks, names, openings):
            batch.clear()

    for head, listed in groupby(merged, key=lambda edge: edge[0]):
        edges = sorted(listed, key=lambda edge: -edge[3])
        heads += 1
        aliases = [tail for _, relation, tail, _ in edges if relation == alias]
        for name in (head, *aliases):
            rows, begun = names_of(head, name)
            names += rows
            openings += begun
        for _, relation, _, _ in edges:
            counts[relation] = counts.get(relation, 0) + 1
        for rank in range(0, len(edges), BLOCK):
            block = edges[rank : rank + BLOCK]
            relations = " ".join(str(edge[1]) for edge in block)
            weights = " ".join(f"{edge[3]:g}" for edge in block)
            blocks.append((head, rank, relations, "\n".join(edge[2] for edge in block), weights))
        if len(blocks) >= _BATCH:
            flush()
            progress(sum(counts.values()))
    flush()
    return counts, heads
