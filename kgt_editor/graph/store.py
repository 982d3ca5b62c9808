"""The base graph: knowledge that all users share and nobody changes.

A small one is held in memory; one of ConceptNet's size stays in its file, see :mod:`kgt_editor.graph.stored`.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from kgt_editor.errors import UsageError
from kgt_editor.graph.database import is_database
from kgt_editor.graph.names import HeadIndex, Names
from kgt_editor.graph.relations import ALIAS, verbalise
from kgt_editor.graph.stored import StoredGraph
from kgt_editor.graph.triple import Triple

_LONGEST_LINE = 1_000_000  # characters; a file of zeros unpacks to one line without an end
_MOST_LINES = 5_000_000


class Graph(Protocol):
    """What the method asks of a base graph."""

    def triples_from(self, head: str, limit: int | None = None) -> Sequence[Triple]:
        """The triples that start at ``head``, the most important first, ``limit`` at most; empty for an unknown one."""

    def heads(self) -> Iterable[str]:
        """Every entity that starts a triple."""

    def relations(self) -> Collection[str]:
        """Every relation phrase."""

    def head_index(self) -> Names:
        """Look-up of the heads in free text."""

    def __contains__(self, triple: object) -> bool: ...

    def __len__(self) -> int: ...


class MemoryGraph:
    """A read-only graph held in memory.

    Args:
        triples: the facts; repeated ones count once. Their order is the order of importance within a head.
    """

    def __init__(self, triples: Iterable[Triple] = ()) -> None:
        by_head: dict[str, dict[Triple, None]] = {}
        for triple in triples:
            by_head.setdefault(triple.head, {})[triple] = None
        self._by_head = {head: tuple(listed) for head, listed in by_head.items()}
        self._triples = frozenset(triple for listed in self._by_head.values() for triple in listed)
        self._relations = tuple(sorted({triple.relation for triple in self._triples}))
        self._index: HeadIndex | None = None

    @classmethod
    def from_file(cls, path: str | Path) -> MemoryGraph:
        """Read ``head<TAB>relation<TAB>tail[<TAB>weight]`` lines; ``.gz`` is unpacked.

        Relations are verbalised. Heavier triples come first within a head; a missing weight counts as 1. Empty
        lines and lines that begin with ``#`` are skipped.

        Raises:
            UsageError: the file is missing, no text, or a line is malformed (with its number).
        """
        source = Path(path)
        try:
            weighted = list(_read_lines(source))
        except FileNotFoundError:
            raise UsageError(f"{source}: no such graph file") from None
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise UsageError(f"{source}: cannot be read as tab-separated UTF-8 text: {error}") from None
        weighted.sort(key=lambda pair: -pair[0])
        return cls(triple for _, triple in weighted)

    def triples_from(self, head: str, limit: int | None = None) -> Sequence[Triple]:
        """The triples that start at ``head``, ``limit`` at most; empty for an unknown one."""
        return self._by_head.get(head, ())[:limit]

    def heads(self) -> Iterable[str]:
        """Every entity that starts a triple."""
        return self._by_head.keys()

    def relations(self) -> Collection[str]:
        """Every relation phrase, sorted."""
        return self._relations

    def head_index(self) -> HeadIndex:
        """Look-up of the heads in free text, made when first asked for."""
        if self._index is None:
            self._index = HeadIndex(self._by_head)
            for head, listed in self._by_head.items():
                for triple in listed:
                    if triple.relation == ALIAS:
                        self._index.add(head, triple.tail)
        return self._index

    def __contains__(self, triple: object) -> bool:
        return triple in self._triples

    def __len__(self) -> int:
        return len(self._triples)


def open_graph(path: str | Path) -> Graph:
    """The base graph in a file: an SQLite one by its first bytes, else tab-separated text.

    Raises:
        UsageError: the file is missing or is no graph.
        KgtError: the file is damaged.
    """
    return StoredGraph(path) if is_database(Path(path)) else MemoryGraph.from_file(path)


def _read_lines(path: Path) -> Iterator[tuple[float, Triple]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(_LONGEST_LINE), ""), 1):
            if len(line) == _LONGEST_LINE or number > _MOST_LINES:
                most = f"more than {_LONGEST_LINE:,} characters in a line, or {_MOST_LINES:,} lines"
                raise UsageError(f"{path}, line {number}: {most}; make a base graph of it with kgt graph build")
            text = line.rstrip("\r\n")
            if not text.strip() or text.startswith("#"):
                continue
            parts = [" ".join(part.split()) for part in text.split("\t")]
            if len(parts) not in (3, 4) or not all(parts):
                raise UsageError(f"{path}, line {number}: need head<TAB>relation<TAB>tail[<TAB>weight], got {text!r}")
            try:
                weight = float(parts[3]) if len(parts) == 4 else 1.0
            except ValueError:
                weight = math.nan
            if math.isnan(weight):
                raise UsageError(f"{path}, line {number}: weight {parts[3]!r} is not a number")
            yield weight, Triple(parts[0], verbalise(parts[1]), parts[2])
