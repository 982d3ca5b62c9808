"""Journals that have changed on disk: refused or named, never believed."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kgt_editor.__main__ import main
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph import checksums, write_ahead
from kgt_editor.graph.entry import Edit
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple

USERS = ("ada", "bob", "eve")
COPIES = 1_000
Seen = tuple[list[Edit], list[list[Triple]]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of three users, with answers replaced and taken back."""
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    journal = Journal(path)
    for user in USERS:
        graph = PersonalGraph(MemoryGraph(), journal, user)
        for number in range(12):
            head = f"the dog of {user} {number}"
            triple = Triple(head, "eats at noon", f"food {number} of {user}")
            graph.commit(f"What does {head} eat?", triple.tail, [triple], before=0.25, after=0.5)
            if number % 4 == 0:
                graph.commit(f"What does {head} eat?", "fish", [Triple(head, "eats", "fish")], [triple])
            if number % 5 == 0:
                graph.undo()
    journal.close()
    return path


def seen(path: Path, user: str) -> Seen:
    """All that a session of the user shows."""
    journal = Journal(path)
    try:
        graph = PersonalGraph(MemoryGraph(), journal, user)
        heads = [f"the dog of {owner} {number}" for owner in USERS for number in range(12)]
        return graph.history(), [graph.triples_from(head) for head in heads]
    finally:
        journal.close()


def believed(path: Path, expected: dict[str, Seen]) -> list[str]:
    """Users who were shown something else than what they told, without an error."""
    wrong = []
    for user in USERS:
        try:
            if seen(path, user) != expected[user]:
                wrong.append(user)
        except (KgtError, UsageError):
            continue
    return wrong


def flipped(path: Path, offset: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def test_no_bit_that_flips_changes_what_a_user_is_shown(written: Path, tmp_path: Path) -> None:
    expected = {user: seen(written, user) for user in USERS}
    chance = random.Random(0)
    size, path = written.stat().st_size, tmp_path / "journal.db"
    refused = 0
    for _ in range(COPIES):
        shutil.copyfile(written, path)
        flipped(path, chance.randrange(size), chance.randrange(8))
        assert believed(path, expected) == []
        try:
            refused += bool(Journal(path).verify())
        except (KgtError, UsageError):
            refused += 1
        for name in ("journal.db-wal", "journal.db-shm"):
            path.with_name(name).unlink(missing_ok=True)
    assert refused > COPIES / 20  # most of a small file is empty space


@pytest.mark.parametrize("text", [b"food 3 of bob", b"the dog of eve 7", b"eats at noon", b"bob", b"fish"])
def test_every_bit_of_a_text_is_watched(written: Path, tmp_path: Path, text: bytes) -> None:
    expected = {user: seen(written, user) for user in USERS}
    content, path = written.read_bytes(), tmp_path / "journal.db"
    first = content.index(text)
    for offset in range(first, first + len(text)):
        for bit in range(8):
            shutil.copyfile(written, path)
            flipped(path, offset, bit)
            assert believed(path, expected) == []


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE edits SET answer = 'meat' WHERE user = 2 AND number = 3", "entry 3 is not as it was written"),
        ("UPDATE edits SET undoes = NULL WHERE user = 2 AND undoes IS NOT NULL", "is not as it was written"),
        ("UPDATE changes SET user = 2 WHERE user = 1 AND number = 4", "entry 4 is not as it was written"),
        ("UPDATE changes SET operation = 'remove' WHERE user = 2 AND number = 1", "entry 1 is not as it was written"),
        ("DELETE FROM changes WHERE user = 2 AND number = 4", "entry 4 is not as it was written"),
        ("DELETE FROM edits WHERE user = 2 AND number = 4", "entry 4 is missing"),
        ("DELETE FROM edits WHERE user = 2 AND number > 10", "its last entry is 10"),
        ("UPDATE edits SET number = 40 WHERE user = 2 AND number = 1", "entry 1 is missing"),
        ("UPDATE users SET last = 3 WHERE name = 'bob'", "the row of user 'bob' is not as it was written"),
        ("UPDATE users SET name = 'bib' WHERE name = 'bob'", "the row of a user, now 'bib', is not as it was written"),
    ],
)
def test_what_was_changed_is_named_and_the_others_are_read(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], statement: str, named: str
) -> None:
    path = tmp_path / "journal.db"
    shutil.copyfile(written, path)
    expected = seen(path, "eve")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        if "SET user = 2" in statement:
            db.execute("DELETE FROM changes WHERE user = 2 AND number = 4")
        db.execute(statement)
    with pytest.raises(KgtError, match=named):
        seen(path, "bob")
    assert seen(path, "eve") == expected
    assert main(["graph", "verify", str(path)]) == 1
    told = capsys.readouterr()
    assert "bob" in told.out or "bib" in told.out
    assert "restore it from a copy" in told.err


def test_a_journal_that_is_as_written_is_said_to_be(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "verify", str(written)]) == 0
    assert "entries of 3 users are as written" in capsys.readouterr().out


def test_a_journal_without_checksums_is_given_some(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    shutil.copyfile(written, path)
    expected = {user: seen(path, user) for user in USERS}
    with closing(sqlite3.connect(path)) as db:  # as the second schema had it
        for table, column in (("edits", "checksum"), ("changes", "checksum"), ("users", "last"), ("users", "chain")):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute("ALTER TABLE users DROP COLUMN checksum")
        db.execute("PRAGMA user_version = 2")
    assert {user: seen(path, user) for user in USERS} == expected
    assert Journal(path).verify() == []


def test_what_another_process_writes_is_checked_too(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    shutil.copyfile(written, path)
    graph = PersonalGraph(MemoryGraph(), Journal(path), "ada")
    other = PersonalGraph(MemoryGraph(), Journal(path), "ada")
    other.add(Triple("the cat", "eats", "mice"))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE changes SET tail = 'rats' WHERE tail = 'mice'")
    with pytest.raises(KgtError, match="user 'ada': entry 19 is not as it was written"):
        graph.refresh()


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A journal whose process was killed: its last entries are in the log alone."""
    path, copy = tmp_path / "journal.db", tmp_path / "copy.db"
    graph = PersonalGraph(MemoryGraph(), Journal(path), "ada")
    for number in range(40):
        graph.add(Triple(f"dog {number}", "eats", f"food {number}"))
    for name in ("", "-wal"):
        shutil.copyfile(f"{path}{name}", f"{copy}{name}")
    return copy


def read_anew(path: Path, copy: Path) -> list[Edit]:
    for name in ("", "-wal"):
        shutil.copyfile(f"{path}{name}", f"{copy}{name}")
    Path(f"{copy}-shm").unlink(missing_ok=True)
    return history(copy)


def history(path: Path) -> list[Edit]:
    journal = Journal(path)
    try:
        return PersonalGraph(MemoryGraph(), journal, "ada").history()
    finally:
        journal.close()


def test_a_damaged_log_does_not_lose_entries_in_silence(
    logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_ahead, "_WAIT", 0)
    copy, chance = tmp_path / "damaged.db", random.Random(0)
    expected = read_anew(logged, copy)
    assert len(expected) == 40
    size = Path(f"{logged}-wal").stat().st_size
    last = size - 2 * (4096 + 24)  # a page at the end may have been cut off by a crash
    damaged = tmp_path / "log"
    refused: list[str] = []
    for _ in range(200):
        shutil.copyfile(f"{logged}-wal", damaged)
        flipped(damaged, chance.randrange(last), chance.randrange(8))
        shutil.copyfile(logged, copy)
        shutil.copyfile(damaged, f"{copy}-wal")
        Path(f"{copy}-shm").unlink(missing_ok=True)
        try:
            assert history(copy) == expected
        except KgtError as error:
            refused.append(str(error))
    assert len(refused) > 190
    assert all("damaged" in text for text in refused)


def test_a_log_that_a_crash_cut_off_is_read_up_to_there(logged: Path, tmp_path: Path) -> None:
    copy, expected = tmp_path / "cut.db", history(logged)
    content = Path(f"{logged}-wal").read_bytes() if Path(f"{logged}-wal").exists() else b""
    assert content == b""  # it went into the file when that was closed
    graph = PersonalGraph(MemoryGraph(), Journal(logged), "ada")
    graph.add(Triple("dog 40", "eats", "food 40"))
    shutil.copyfile(logged, copy)
    Path(f"{copy}-wal").write_bytes(Path(f"{logged}-wal").read_bytes()[:-1000])
    assert history(copy) == expected


def test_a_log_that_begins_anew_over_an_older_one_is_whole(tmp_path: Path) -> None:
    path, copy = tmp_path / "journal.db", tmp_path / "copy.db"
    journal = Journal(path)
    graph = PersonalGraph(MemoryGraph(), journal, "ada")
    for number in range(30):
        graph.add(Triple(f"dog {number}", "eats", "fish"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(RESTART)")
    graph.add(Triple("dog 30", "eats", "fish"))
    assert len(read_anew(path, copy)) == 31


def test_a_user_whom_another_process_forgot_is_no_damage(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    shutil.copyfile(written, path)
    journal = Journal(path)
    Journal(path).forget("ada")
    assert journal.user_id("ada") is None
    assert PersonalGraph(MemoryGraph(), journal, "ada").history() == []


@pytest.mark.parametrize("value", [None, "1", 1.5, b"1"])
@pytest.mark.parametrize("column", range(8))
def test_a_field_of_another_kind_is_named(column: int, value: object) -> None:
    row = (1, 0.0, "What does my dog eat?", "fish", 0.1, 0.9, None, 1)
    checksum = checksums.of_edit(1, row, 0, 0)
    assert list(checksums.wrong(1, [(*row, checksum)], [], (1, checksum))) == []
    damaged = tuple(value if place == column else field for place, field in enumerate(row))
    if damaged != row:
        assert list(checksums.wrong(1, [(*damaged, checksum)], [], (1, checksum)))
    assert list(checksums.wrong(1, [(*row, checksum)], [(value, 0, "add", "a", "b", "c", 0)], (1, checksum)))
