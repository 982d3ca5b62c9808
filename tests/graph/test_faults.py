"""A journal under processes that die, write at once, or find a disk that takes nothing; and files that are none."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.build import build
from kgt_editor.graph.database import JOURNAL
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple

FISH, MEAT = Triple("dog", "likes", "fish"), Triple("dog", "likes", "meat")

# Makes edits of three triples each for a user and prints the number of each once it is acknowledged.
WRITER = """
import sys
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
path, user, name, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
graph = PersonalGraph(MemoryGraph(), Journal(path), user)
for step in range(count):
    edit = graph.commit("q", "a", [Triple(f"{user} {name} {step}", "has", part) for part in "abc"])
    print(edit.number, flush=True)
"""


def writer(path: Path, user: str, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), user, name, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def session(path: Path, user: str = "ada") -> PersonalGraph:
    return PersonalGraph(MemoryGraph(), Journal(path), user)


@pytest.mark.parametrize("times", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_nothing_half(tmp_path: Path, times: int) -> None:
    path, rng, acknowledged = tmp_path / "journal.db", random.Random(0), 0
    for time_ in range(times):
        with writer(path, "ada", str(time_), 10**9) as process:
            start(process)
            time.sleep(rng.uniform(0, 0.06))  # the first moments are those in which the file is made
            process.kill()
            assert process.stdout is not None
            acknowledged = max([acknowledged, *map(int, process.stdout.read().split("\n")[:-1])])
        graph = session(path)
        entries = graph.history()
        assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= acknowledged
        assert all(len(entry.added) == 3 for entry in entries)
        assert len(graph.added) == 3 * len(entries)
    assert acknowledged > 0


@pytest.mark.parametrize("users", [("ada", "bob"), ("ada", "ada")])
def test_two_processes_write_at_once(tmp_path: Path, users: tuple[str, str]) -> None:
    path, count = tmp_path / "journal.db", 150
    processes = [writer(path, user, name, count) for user, name in zip(users, ("first", "second"), strict=True)]
    for process in processes:
        start(process)
    told = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [len(numbers) for numbers in told] == [count, count]
    for user in set(users):
        entries = session(path, user).history()
        numbers = sorted(
            int(number) for owner, listed in zip(users, told, strict=True) if owner == user for number in listed
        )
        assert [entry.number for entry in entries] == numbers == list(range(1, count * users.count(user) + 1))
        heads = [z.head for entry in entries for z in entry.added]
        expected = [
            f"{user} {name} {step}"
            for owner, name in zip(users, ("first", "second"), strict=True)
            if owner == user
            for step in range(count)
        ]
        assert sorted(heads) == sorted(expected * 3)


def test_threads_share_a_journal(tmp_path: Path) -> None:
    journal, users = Journal(tmp_path / "journal.db"), ("ada", "bob", "cyd", "ada")

    def write(job: int) -> int:
        graph = PersonalGraph(MemoryGraph(), journal, users[job])
        return sum(len(graph.add(Triple(users[job], "has", f"{job} {step}")).added) for step in range(50))

    with ThreadPoolExecutor(len(users)) as threads:
        assert list(threads.map(write, range(len(users)))) == [50] * 4
    assert {user.name: user.entries for user in journal.users()} == {"ada": 100, "bob": 50, "cyd": 50}
    for user in users:
        assert {z.head for z in PersonalGraph(MemoryGraph(), journal, user).added} == {user}


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    graph = session(path)

    def fill() -> None:
        for number in range(10_000):
            graph.add(Triple(f"dog {number}", "is", "a dog " * 20))

    with full_disk(300_000), pytest.raises(KgtError, match=r"journal\.db: .*nothing of this was kept"):
        fill()
    kept = len(graph.history())
    assert kept > 10
    assert len(graph.added) == len(session(path).history()) == kept
    assert graph.add(FISH).number == kept + 1  # there is room again
    assert len(session(path).history()) == kept + 1


def test_a_build_on_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    rows = ((f"dog {number}", "is", "a dog", 1.0) for number in range(100_000))
    with full_disk(300_000), pytest.raises(KgtError, match=r"g\.db: "):
        build(rows, tmp_path / "g.db")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def powerless() -> Iterator[Path]:
    """A folder of ours, and rights that a test run as root has not by itself."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(user)
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_a_read_only_journal_is_named(powerless: Path) -> None:
    path = powerless / "journal.db"
    graph = session(path)
    graph.add(MEAT)
    graph._journal.close()
    path.chmod(0o444)
    powerless.chmod(0o555) if os.geteuid() == powerless.stat().st_uid else None
    with pytest.raises(KgtError, match=r"journal\.db: .*(cannot be written to|permissions)"):
        session(path).add(FISH)
    path.chmod(0o644)
    assert session(path).triples_from("dog") == [MEAT]


def test_a_folder_that_takes_nothing_is_named(powerless: Path) -> None:
    locked = powerless / "locked"
    locked.mkdir(mode=0o555)
    with pytest.raises(KgtError, match=r"journal\.db: cannot be made: Permission denied; see"):
        session(locked / "journal.db")
    with pytest.raises(KgtError, match=r"g\.db: unable to open database file; see"):
        build([], locked / "g.db")
    with pytest.raises(UsageError, match="its folder does not exist"):
        session(powerless / "none" / "journal.db")


def test_a_writer_that_never_ends_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    graph = PersonalGraph(MemoryGraph(), Journal(path, patience=0.05), "ada")
    other = Journal(path)
    with other.writing("bob", None), pytest.raises(KgtError, match="database is locked; another process"):
        graph.add(FISH)
    assert graph.triples_from("dog") == []
    assert graph.add(FISH).number == 1


def test_what_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, foreign, base = tmp_path / "text.db", tmp_path / "foreign.db", tmp_path / "base.db"
    text.write_text("no database at all\n" * 10, encoding="utf-8")
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE edits (a)")
    db.close()
    build([("dog", "is", "an animal", 1.0)], base)
    before = {path: path.read_bytes() for path in (text, foreign, base)}
    with pytest.raises(UsageError, match=r"text\.db: not an SQLite file"):
        Journal(text)
    for path in (foreign, base):
        with pytest.raises(UsageError, match="an SQLite file, but not a journal of personal graphs"):
            Journal(path)
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(KgtError, match="a folder, not a file"):
        Journal(tmp_path)


def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {JOURNAL.schema + 1}")
    db.close()
    with pytest.raises(UsageError, match="of schema 4, this version reads up to 3; update kgt_editor"):
        Journal(path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.99])
def test_a_cut_off_journal_is_refused_and_left_alone(tmp_path: Path, share: float) -> None:
    path = tmp_path / "journal.db"
    graph = session(path)
    for number in range(200):
        graph.add(Triple(f"dog {number}", "is", "a dog"))
    graph._journal.close()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(KgtError, match="cut off"):
        session(path)
    assert path.read_bytes() == content[: int(len(content) * share)]


def test_a_damaged_page_is_an_error_in_words(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    graph = session(path)
    graph.add(FISH)
    graph._journal.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(KgtError, match="damaged"):
        session(path)
