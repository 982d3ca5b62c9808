"""A base graph in one read-only SQLite file.

The file holds, for each head, its edges in the order of their weight, ``BLOCK`` to a row: a head's best edges are one
seek away, however many it has. Tails are written out rather than numbered, because reading 64 rows of a table of
terms would cost more than all the rest. Two small tables serve the linker.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kgt_editor.graph.database import BASE_GRAPH, check_file, plain_errors
from kgt_editor.graph.names import MAX_WORDS, Name, keys_of, split_words
from kgt_editor.graph.seal import check_seal
from kgt_editor.graph.triple import Triple, stored_triple

#: Edges in one row.
BLOCK = 64

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- Every relation phrase, and how many edges have it.
CREATE TABLE relations (id INTEGER PRIMARY KEY, phrase TEXT NOT NULL UNIQUE, edges INTEGER NOT NULL);
-- Up to 64 edges of a head, from the one that ranks as "rank" on: relation ids and weights parted by spaces, tails by
-- line feeds.
CREATE TABLE edges (
    head TEXT NOT NULL, rank INTEGER NOT NULL, relations TEXT NOT NULL, tails TEXT NOT NULL, weights TEXT NOT NULL,
    PRIMARY KEY (head, rank)
) WITHOUT ROWID;
-- Names by their case-folded words, and by their words without accents and hyphens where these differ (files made
-- before that was so have the former alone). An empty name is the key itself, an empty head the name itself.
CREATE TABLE names (
    key TEXT NOT NULL, name TEXT NOT NULL, head TEXT NOT NULL, PRIMARY KEY (key, name, head)
) WITHOUT ROWID;
-- The first two words of every key of three or more, and how many words the longest one has.
CREATE TABLE openings (key TEXT PRIMARY KEY, words INTEGER NOT NULL) WITHOUT ROWID;
"""

_ALL = 1 << 62
_CACHE_KIB = 16 * 1024
_CHUNK = 512  # SQLite before 3.32 takes 999 variables in one statement


class StoredGraph:
    """A base graph read from its file, a page at a time.

    Args:
        path: a file that :func:`kgt_editor.graph.build.build` made.

    Raises:
        UsageError: the file is missing, something else, or of a newer schema.
        KgtError: the file is damaged.

    Attributes:
        sealed: whether it has a checksum and agrees with it; files of schema 1 have none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.sealed = check_file(self.path, BASE_GRAPH) > 1
        if self.sealed:
            check_seal(self.path)
        self._lock = threading.Lock()
        with plain_errors(self.path):
            self._db = sqlite3.connect(
                f"file:{quote(str(self.path.resolve()))}?mode=ro&immutable=1",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            weakref.finalize(self, self._db.close)  # a graph that nobody closes
            self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._phrases = {str(number): phrase for number, phrase in self._select("SELECT id, phrase FROM relations")}
            self._size = int(self._select("SELECT value FROM meta WHERE key = 'triples'")[0][0])
        self._names = _StoredNames(self)

    def _select(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            with self._lock:  # users' threads share a base graph
                return self._db.execute(sql, values).fetchall()
        except UnicodeEncodeError:  # half a surrogate pair cannot be in the file
            return []
        except sqlite3.Error:
            with plain_errors(self.path):
                raise

    def triples_from(self, head: str, limit: int | None = None) -> Sequence[Triple]:
        """The triples that start at ``head``, the heaviest first, ``limit`` at most; empty for an unknown one."""
        last = _ALL if limit is None else limit
        rows = self._select(
            "SELECT relations, tails FROM edges WHERE head = ? AND rank < ? ORDER BY rank", (head, last)
        )
        found: list[Triple] = []
        for relations, tails in rows:
            phrases = map(self._phrases.__getitem__, relations.split(" "))
            found += map(stored_triple, zip(repeat(head), phrases, tails.split("\n"), strict=False))
        return found if limit is None else found[:limit]

    def weighted_from(self, head: str, limit: int | None = None) -> list[tuple[Triple, float]]:
        """:meth:`triples_from` with the weights."""
        last = _ALL if limit is None else limit
        rows = self._select("SELECT weights FROM edges WHERE head = ? AND rank < ? ORDER BY rank", (head, last))
        weights = [float(weight) for (listed,) in rows for weight in listed.split(" ")]
        return list(zip(self.triples_from(head, limit), weights, strict=False))

    def heads(self) -> Iterable[str]:
        """Every entity that starts a triple, in alphabetical order, read as it is asked for."""
        head = ""
        sql = "SELECT head FROM edges WHERE head > ? AND rank = 0 ORDER BY head LIMIT 10000"
        while rows := self._select(sql, (head,)):
            for (head,) in rows:
                yield head

    def relations(self) -> Collection[str]:
        """Every relation phrase, sorted."""
        return tuple(sorted(self._phrases.values()))

    def head_index(self) -> _StoredNames:
        """Look-up of the heads in free text."""
        return self._names

    def info(self) -> dict[str, Any]:
        """What the file holds: triples, heads, relations with their numbers of edges, and what it was made from."""
        meta = {key: json.loads(value) for key, value in self._select("SELECT key, value FROM meta")}
        edges = dict(self._select("SELECT phrase, edges FROM relations ORDER BY edges DESC, phrase"))
        return {**meta, "relations": edges}

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __contains__(self, triple: object) -> bool:
        if not isinstance(triple, Triple):
            return False
        # instr leaves out the blocks of a hub that cannot hold the tail.
        rows = self._select(
            "SELECT relations, tails FROM edges WHERE head = ? AND instr(tails, ?)", (triple.head, triple.tail)
        )
        return any(
            tail == triple.tail and self._phrases[relation] == triple.relation
            for relations, tails in rows
            for relation, tail in zip(relations.split(" "), tails.split("\n"), strict=False)
        )

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[type[StoredGraph], tuple[Path]]:
        # A connection goes to no other process and into no copy; the file can be opened there again.
        return StoredGraph, (self.path,)


class _StoredNames:
    """The names of a stored graph, see :class:`kgt_editor.graph.names.Names`."""

    def __init__(self, graph: StoredGraph) -> None:
        self._graph = graph

    def has_name(self, name: str, head: str) -> bool:
        """Whether ``name`` leads to ``head``."""
        spelled = " ".join(split_words(name))
        return (spelled, head) in self._look_up([spelled.casefold()]).get(spelled.casefold(), ())

    def find(
        self, words: Sequence[str], endings: Sequence[Sequence[str]] = ()
    ) -> Mapping[tuple[int, int], Sequence[Name]]:
        """The names in a text, by two or three statements whatever its length.

        One or two words are looked up as they stand. Longer stretches only where a known name opens with their first
        two words; else a text of 30 words would take 300 look-ups.
        """
        pairs = [f"{word} {after}" for word, after in pairwise(words)]
        openings = dict(self._in("SELECT key, words FROM openings WHERE key IN", pairs))
        wanted = {(first, 1): word for first, word in enumerate(words)}
        wanted |= {(first, 2): pair for first, pair in enumerate(pairs)}
        for first, pair in enumerate(pairs):
            for count in range(3, min(openings.get(pair, 0), len(words) - first) + 1):
                wanted[first, count] = " ".join(words[first : first + count])
        ended = {
            (first, count): [f"{key[: len(key) - len(words[first + count - 1])]}{ending}" for ending in other]
            for (first, count), key in wanted.items()
            if endings and (other := endings[first + count - 1])
        }
        known = self._look_up(chain(wanted.values(), *ended.values()))
        found = {place: known[key] for place, key in wanted.items() if key in known}
        for place, keys in ended.items():
            if named := [name for key in keys for name in known.get(key, ())]:
                found[place] = [*found.get(place, ()), *named]
        return found

    def _look_up(self, keys: Iterable[str]) -> dict[str, list[Name]]:
        found: dict[str, list[Name]] = {}
        for key, name, head in self._in("SELECT key, name, head FROM names WHERE key IN", keys):
            spelled = name or key
            found.setdefault(key, []).append((spelled, head or spelled))
        return found

    def _in(self, sql: str, keys: Iterable[str]) -> Iterator[Any]:
        distinct = list(dict.fromkeys(keys))
        for start in range(0, len(distinct), _CHUNK):
            chunk = distinct[start : start + _CHUNK]
            # Rounded up, so that few different statements are prepared; NULL is in no list.
            size = 1 << (len(chunk) - 1).bit_length()
            marks = ",".join("?" * size)
            yield from self._graph._select(f"{sql} ({marks})", [*chunk, *repeat(None, size - len(chunk))])


def names_of(head: str, name: str) -> tuple[list[tuple[str, str, str]], list[tuple[str, int]]]:
    """The rows of ``names`` and ``openings`` by which ``name`` leads to ``head``; none where it is never looked for."""
    words = split_words(name)
    if not 0 < len(words) <= MAX_WORDS:
        return [], []
    spelled = " ".join(words)
    keys = keys_of(words)
    rows = [(key, "" if spelled == key else spelled, "" if head == spelled else head) for key in keys]
    split = [key.split(" ") for key in keys]
    return rows, [(" ".join(parts[:2]), len(parts)) for parts in split if len(parts) > 2]
