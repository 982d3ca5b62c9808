"""Reading dumps: what is taken, what is skipped and why, and what an interrupted build leaves."""

from __future__ import annotations

import gzip
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.build import Row, build
from kgt_editor.graph.conceptnet import conceptnet_rows, read_lines, tsv_rows
from kgt_editor.graph.stored import StoredGraph
from kgt_editor.graph.triple import Triple

DATA = Path(__file__).parents[3] / "shared" / "data"


def assertion(relation: str, start: str, end: str, weight: object = 1.0) -> bytes:
    details = f'{{"dataset": "/d/wiktionary/en", "license": "cc:by-sa/4.0", "sources": [], "weight": {weight}}}'
    return f"/a/[{relation}/,{start}/,{end}/]\t{relation}\t{start}\t{end}\t{details}\n".encode()


TAKEN = assertion("/r/AtLocation", "/c/en/hot_dog/n", "/c/en/baseball_game/n/wikt/en_1", 2.5)


def test_assertions_become_plain_terms_and_phrases() -> None:
    skipped: Counter[str] = Counter()
    assert list(conceptnet_rows([TAKEN], "en", skipped)) == [("hot dog", "is located at", "baseball game", 2.5)]
    assert not skipped


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (assertion("/r/IsA", "/c/fr/chien", "/c/fr/animal"), "another language"),
        (assertion("/r/Synonym", "/c/en/dog", "/c/fr/chien"), "another language"),
        (assertion("/r/Synonym", "/c/en/dog", "/c/eng/dog"), "another language"),
        (assertion("/r/ExternalURL", "/c/en/dog", "http://dbpedia.invalid/Dog"), "not a concept"),
        (assertion("/r/IsA", "/c/en/dog", "/c/en/animal", -1), "a negative weight"),
        (assertion("/r/IsA", "/c/en/dog", "/c/en/animal", "NaN"), "the weight is not a number"),
        (assertion("/r/IsA", "/c/en/dog", "/c/en/animal", "{}"), "no weight"),
        (assertion("/r/IsA", "/c/en/dog/n", "/c/en/dog/v"), "head and tail are the same"),
        (assertion("/r/IsA", "/c/en/", "/c/en/animal"), "an empty part"),
        (assertion("/r/IsA", "/c/en/" + "a" * 100_000, "/c/en/animal"), "a part of more than 1000 characters"),
        (TAKEN.rpartition(b"\t")[0] + b"\n", "not five columns"),
        (TAKEN[:-10] + b"\n", "no weight"),
        (TAKEN.replace(b"hot", b"h\xff\xfe"), "not UTF-8"),
        (b"\n", "not five columns"),
        (b"\x00\x01\x02", "not five columns"),
    ],
)
def test_a_bad_row_is_skipped_and_counted(line: bytes, reason: str) -> None:
    skipped: Counter[str] = Counter()
    assert len(list(conceptnet_rows([TAKEN, line, TAKEN], "en", skipped))) == 2
    assert skipped == {reason: 1}


def test_without_a_language_all_are_taken() -> None:
    lines = [TAKEN, assertion("/r/Synonym", "/c/en/dog", "/c/ja/犬")]
    assert list(conceptnet_rows(lines, None, Counter()))[1] == ("dog", "means the same as", "犬", 1.0)


def test_tab_separated_rows() -> None:
    skipped: Counter[str] = Counter()
    lines = [
        b"head\trelation\ttail\tweight\tsplit\n",
        b"# a comment\n",
        b"\n",
        b"Ada Brun\tP103(native language)\tNorrish\t0.5\n",
        b"hockey\tReceivesAction\tplay on  ice\t\ttrain\r\n",
        b"dog\tIsA\n",
        b"dog\t\tanimal\n",
        b"dog\tIsA\tanimal\theavy\n",
        b"dog\tIsA\tcat\t-1\n",
        b"dog\tIsA\t\xff\n",
    ]
    assert list(tsv_rows(lines, skipped)) == [
        ("Ada Brun", "has native language", "Norrish", 0.5),
        ("hockey", "can be", "play on ice", 1.0),
    ]
    assert skipped == {
        "fewer than three columns": 1,
        "an empty part": 1,
        "the weight is not a number": 1,
        "a negative weight": 1,
        "not UTF-8": 1,
    }


def test_duplicates_are_merged_with_the_greatest_weight(tmp_path: Path) -> None:
    rows: list[Row] = [("dog", "is a", "pet", 1.0), ("dog", "is a", "animal", 2.0), ("dog", "is a", "pet", 3.0)]
    assert build(rows, tmp_path / "g.db", {"source": "rows"}) == 2
    graph = StoredGraph(tmp_path / "g.db")
    assert graph.weighted_from("dog") == [(Triple("dog", "is a", "pet"), 3.0), (Triple("dog", "is a", "animal"), 2.0)]
    told = graph.info()
    assert (told["duplicates"], told["source"], told["relations"]) == (1, "rows", {"is a": 2})


@pytest.mark.parametrize("packed", [False, True])
def test_files_are_unpacked_by_their_bytes(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "dump.csv"
    path.write_bytes(gzip.compress(TAKEN) if packed else TAKEN)
    told: list[tuple[int, int]] = []
    assert list(read_lines(path, lambda done, total: told.append((done, total)))) == [TAKEN]
    assert told == [(path.stat().st_size, path.stat().st_size)]


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv: no such file"):
        list(read_lines(tmp_path / "none.csv"))
    path = tmp_path / "cut.csv.gz"
    for damaged in (gzip.compress(TAKEN * 1000)[:-40], b"\x1f\x8bnonsense", gzip.compress(TAKEN)[:-3] + b"abc"):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"cut\.csv\.gz: .*cut off or damaged"):
            list(read_lines(path))
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_lines(tmp_path))


@pytest.mark.parametrize("error", [UsageError("cut off"), KeyboardInterrupt(), RuntimeError()])
def test_an_interrupted_build_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "g.db"
    build([("dog", "is a", "pet", 1.0)], out)
    before = out.read_bytes()

    def rows() -> Iterator[Row]:
        for number in range(100):
            yield f"dog {number}", "is a", "pet", 1.0
        raise error

    with pytest.raises(type(error)):
        build(rows(), out)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_killed_build_leaves_no_graph_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "g[1]*.db"
    script = f"""
from kgt_editor.graph.build import build
def rows():
    for number in range(10**9):
        yield f"dog {{number}}", "is a", "pet", 1.0
        if number == 10_000:
            print("begun", flush=True)
build(rows(), {str(out)!r})
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"begun\n"
        time.sleep(0.05)
        builder.kill()
    assert not out.exists()
    assert len(list(tmp_path.iterdir())) == 1
    build([("dog", "is a", "pet", 1.0)], out)
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KgtError, match=r"none/g\.db: unable to open database file; see that the folder exists"):
        build([], tmp_path / "none" / "g.db")


@pytest.mark.skipif(not DATA.is_dir(), reason="no ConceptNet files here")
def test_genuine_files(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    lines = read_lines(DATA / "conceptnet5_testdata_assertions.csv.gz")
    assert build(conceptnet_rows(lines, "en", skipped), tmp_path / "5.db") == 86
    assert skipped == {"another language": 586, "not a concept": 82, "head and tail are the same": 2}
    graph = StoredGraph(tmp_path / "5.db")
    assert graph.triples_from("wheat") == [Triple("wheat", "is located at", "field")]
    skipped.clear()
    lines = read_lines(DATA / "conceptnet4_en.tsv.gz")
    assert build(tsv_rows(lines, skipped), tmp_path / "4.db") == 225_202 - 6_349
    assert skipped == {"a negative weight": 6_349}
    assert StoredGraph(tmp_path / "4.db").triples_from("dog", 1) == [Triple("dog", "can", "bark")]
