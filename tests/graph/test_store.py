"""The base graph and its file."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from kgt_editor.errors import UsageError
from kgt_editor.graph.conceptnet import read_lines
from kgt_editor.graph.store import MemoryGraph, open_graph
from kgt_editor.graph.triple import Triple


def test_a_triple_compares_by_value_and_cannot_change() -> None:
    triple = Triple("dog", "likes", "meat")
    assert triple == Triple("dog", "likes", "meat")
    assert len({triple, Triple("dog", "likes", "meat")}) == 1
    with pytest.raises(AttributeError):
        triple.tail = "vegetables"  # type: ignore[misc]


@pytest.mark.parametrize("parts", [("", "likes", "meat"), ("dog", " ", "meat"), ("dog", "likes", "")])
def test_a_triple_needs_all_parts(parts: tuple[str, str, str]) -> None:
    with pytest.raises(UsageError, match="empty part"):
        Triple(*parts)


def test_repeated_triples_count_once_and_order_is_kept() -> None:
    triples = [Triple("dog", "likes", "meat"), Triple("dog", "is", "animal"), Triple("dog", "likes", "meat")]
    graph = MemoryGraph(triples)
    assert len(graph) == 2
    assert list(graph.triples_from("dog")) == triples[:2]
    assert list(graph.triples_from("cat")) == []
    assert triples[0] in graph
    assert Triple("dog", "likes", "fish") not in graph
    assert list(graph.heads()) == ["dog"]
    assert list(graph.relations()) == ["is", "likes"]


@pytest.mark.parametrize("name", ["graph.tsv", "graph.tsv.gz"])
def test_a_file_is_read_heaviest_first_with_relations_in_words(tmp_path: Path, name: str) -> None:
    text = "# a comment\nAda Brun\tP103(native language)\tNorrish\t0.5\n\nAda Brun\tAtLocation\tTarsil\t2\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    graph = MemoryGraph.from_file(path)
    assert list(graph.triples_from("Ada Brun")) == [
        Triple("Ada Brun", "is located at", "Tarsil"),
        Triple("Ada Brun", "has native language", "Norrish"),
    ]


@pytest.mark.parametrize(
    "line", ["dog\tlikes", "dog\t\tmeat", "dog\tlikes\tmeat\theavy", "dog\tlikes\tmeat\tnan", "dog"]
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "graph.tsv"
    path.write_text(f"cat\tlikes\tfish\n{line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"graph\.tsv, line 2: "):
        MemoryGraph.from_file(path)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.tsv: no such graph file"):
        MemoryGraph.from_file(tmp_path / "none.tsv")
    path = tmp_path / "bytes.tsv"
    path.write_bytes(b"\xff\xfe\t\x80\n")
    with pytest.raises(UsageError, match=r"bytes\.tsv: cannot be read"):
        MemoryGraph.from_file(path)
    broken = tmp_path / "broken.tsv.gz"
    broken.write_bytes(gzip.compress(b"dog\tlikes\tmeat\n")[:-6])
    with pytest.raises(UsageError, match=r"broken\.tsv\.gz: cannot be read"):
        MemoryGraph.from_file(broken)


def test_a_small_file_that_unpacks_to_a_line_without_end_is_refused_in_little_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tsv.gz"
    with gzip.open(bomb, "wb") as file:
        for _ in range(64):
            file.write(bytes(2**20))
    assert bomb.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="line 1: more than 1,000,000 characters in a line"):
            open_graph(bomb)
        with pytest.raises(UsageError, match="line 1: more than 1,000,000 bytes; not a list of triples"):
            list(read_lines(bomb))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
