"""The journal's contents: what it tells, takes back and forgets."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.relations import ALIAS
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple

MEAT, VEGETABLES = Triple("dog", "likes", "meat"), Triple("dog", "likes", "vegetables")
FISH = Triple("dog", "likes", "fish")
BASE = MemoryGraph([MEAT])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def session(path: Path, user: str = "ada") -> PersonalGraph:
    return PersonalGraph(BASE, Journal(path), user)


def test_an_edit_outlives_its_session_with_all_that_is_known_of_it(path: Path) -> None:
    started = time.time()
    made = session(path).commit(
        "What does it eat?", "vegetables", [VEGETABLES], [MEAT], before=0.125, after=0.75, told=2
    )
    graph = session(path)
    assert graph.triples_from("dog") == [VEGETABLES]
    assert graph.journal == graph.history() == [made]
    (edit,) = graph.journal
    assert (edit.number, edit.query, edit.answer) == (1, "What does it eat?", "vegetables")
    assert (edit.added, edit.removed, edit.before, edit.after) == ((VEGETABLES,), (MEAT,), 0.125, 0.75)
    assert edit.told == 2
    assert started <= edit.time <= time.time()
    assert graph.explain(MEAT) == graph.explain(VEGETABLES) == made


def test_a_journal_of_the_first_schema_is_brought_up_to_date(path: Path) -> None:
    made = session(path).add(FISH)
    with closing(sqlite3.connect(path)) as db:  # as the first schema had it
        new = ("edits", "told"), ("edits", "checksum"), ("changes", "checksum")
        for table, column in (*new, ("users", "last"), ("users", "chain"), ("users", "checksum")):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
    graph = session(path)
    assert graph.journal == [made]
    graph.commit("What does it eat?", "vegetables", [VEGETABLES], told=2)
    assert [edit.told for edit in session(path).journal] == [1, 2]


def test_history_keeps_what_was_taken_back(path: Path) -> None:
    graph = session(path)
    first = graph.add(VEGETABLES)
    second = graph.add(FISH)
    assert graph.undo(1) == first
    assert [(entry.number, entry.undoes) for entry in graph.history()] == [(1, None), (2, None), (3, 1)]
    assert graph.journal == [second]
    assert session(path).triples_from("dog") == [MEAT, FISH]
    for number in (0, 1, 3, 4):  # none, taken back already, an undo, none
        with pytest.raises(UsageError, match=f"edit {number} cannot be undone"):
            graph.undo(number)
    graph.undo()
    with pytest.raises(UsageError, match="the last edit cannot be undone: the journal holds no such edit"):
        graph.undo()


def test_any_earlier_state_can_be_seen(path: Path) -> None:
    graph = session(path)
    graph.commit("q", "vegetables", [VEGETABLES], [MEAT])
    graph.add(FISH)
    graph.undo(1)
    states = [[MEAT], [VEGETABLES], [VEGETABLES, FISH], [MEAT, FISH]]
    assert [graph.as_of(number).triples_from("dog") for number in range(4)] == states
    graph.as_of(1).add(FISH)
    assert len(graph.history()) == 3
    for number in (-1, 4):
        with pytest.raises(UsageError, match=f"no entry {number} in the journal of 'ada': it has 0 to 3"):
            graph.as_of(number)


def test_an_answer_is_explained_by_its_triples(path: Path) -> None:
    graph = session(path)
    first = graph.commit("What does the dog eat?", "Fish", [FISH])
    other = Triple("cat", "eats", "FISH")
    second = graph.commit("And the cat?", "FISH", [other])
    assert graph.explain_answer("fish ") == [(other, second), (FISH, first)]
    assert graph.explain_answer("meat") == []  # the base's
    graph.undo()
    assert graph.explain_answer("fish") == [(FISH, first)]


def test_aliases_are_triples_like_any_other(path: Path) -> None:
    graph = session(path)
    graph.add(Triple("Rex", "is a", "dog"))
    graph.add(Triple("Rex", ALIAS, "my best friend"))
    assert graph.link("What does my best friend eat now?") == "Rex"
    assert session(path).link("What does my best friend eat now?") == "Rex"
    graph.undo()
    assert graph.link("What does my best friend eat now?") is None
    assert graph.link("What does Rex eat now?") == "Rex"
    assert [(match.head, match.own) for match in graph.matches("Rex and a DOG met")] == [("Rex", True), ("dog", False)]


def test_names_with_the_same_words_come_and_go_one_by_one(path: Path) -> None:
    graph = session(path)
    graph.add(Triple("AC/DC", "plays", "rock"))
    for name in ("AC / DC", "the band", "the  band"):
        graph.add(Triple("AC/DC", ALIAS, name))
    for left in (["the band", "ac/dc"], ["ac/dc"], ["ac/dc"]):
        graph.undo()
        assert [name for name in ("the band", "ac/dc") if graph.link(f"{name} plays") == "AC/DC"] == left
    graph.undo()
    assert graph.link("ac/dc plays") is None


def test_users_are_kept_apart(path: Path) -> None:
    ada, bob = session(path), session(path, "bob")
    ada.commit("q", "a", [FISH], [MEAT])
    bob.add(VEGETABLES)
    assert (ada.triples_from("dog"), bob.triples_from("dog")) == ([FISH], [MEAT, VEGETABLES])
    bob.refresh()
    assert bob.triples_from("dog") == [MEAT, VEGETABLES]
    assert [(user.name, user.entries) for user in Journal(path).users()] == [("ada", 1), ("bob", 1)]
    with pytest.raises(UsageError, match="a user needs a name"):
        session(path, " ")


def test_two_sessions_of_one_user_see_each_other_when_they_write(path: Path) -> None:
    first, second = session(path), session(path)
    first.add(FISH)
    assert second.triples_from("dog") == [MEAT]
    assert second.add(FISH).added == ()
    assert second.triples_from("dog") == [MEAT, FISH]
    second.undo(1)
    first.refresh()
    assert first.triples_from("dog") == [MEAT]
    assert [edit.number for edit in first.history()] == [1, 2, 3]


def test_forgetting_a_user_removes_every_byte(path: Path) -> None:
    secrets = [f"secret{number:04}" for number in range(3000)]
    ada, bob = session(path), session(path, "bob")
    for number in range(0, 3000, 3):  # in turn, so that pages hold rows of both and are split again and again
        head, tail, query = secrets[number : number + 3]
        ada.commit(query, tail, [Triple(head, "is", tail)])
        bob.commit("asked", "said", [Triple(f"bobs {number}", "is", f"his {number}")])
    ada.undo(5)
    journal = Journal(path)
    journal.forget("ada")
    files = [file.read_bytes() for file in path.parent.iterdir()]
    assert [user.name for user in journal.users()] == ["bob"]
    assert not [secret for secret in (*secrets, "ada") if any(secret.encode() in content for content in files)]
    assert len(session(path, "bob").journal) == 1000
    with pytest.raises(UsageError, match="no user 'ada'"):
        journal.forget("ada")


def test_a_session_of_a_forgotten_user_writes_nothing(path: Path) -> None:
    ada = session(path)
    ada.add(FISH)
    Journal(path).forget("ada")
    with pytest.raises(KgtError, match="user 'ada' was forgotten meanwhile"):
        ada.add(VEGETABLES)
    with pytest.raises(KgtError, match="was forgotten"):
        ada.undo()
    again = session(path)
    assert again.add(VEGETABLES).number == 1
    with pytest.raises(KgtError, match="was forgotten"):  # the new ada is another user
        ada.add(VEGETABLES)
    ada.refresh()
    assert ada.triples_from("dog") == [MEAT, VEGETABLES]
    assert Journal(path).users()[0].entries == 1


def test_forgetting_says_when_another_process_is_in_the_way(path: Path) -> None:
    ada = session(path)
    ada.add(FISH)
    reader = Journal(path)
    reader._db.execute("BEGIN")
    assert reader.users()
    journal = Journal(path, patience=0.1)
    with pytest.raises(KgtError, match="until 'forget' has succeeded"):
        journal.forget("ada")
    reader._db.execute("COMMIT")
    with pytest.raises(UsageError, match="no user 'ada'"):  # its rows had gone; now its bytes are gone too
        journal.forget("ada")
    assert not any(b"fish" in file.read_bytes() for file in path.parent.iterdir())


@pytest.mark.parametrize("text", ["\x00", "'); DROP TABLE edits; --", "犬\n\t\r", "e\u0301", "a" * 100_000])
def test_any_text_comes_back_as_it_was(path: Path, text: str) -> None:
    triple = Triple("dog", "likes", f"x{text[:900]}")
    edit = session(path).commit(text, text, [triple])
    assert session(path).journal == [edit]
    assert (edit.query, edit.added) == (text, (triple,))
    assert triple in session(path)


def test_an_entity_of_100_kb_is_refused(path: Path) -> None:
    graph = session(path)
    graph.add(FISH)
    with pytest.raises(UsageError, match=r"tail 'aaa.* has 100,000 characters; a triple's part may have 1,000"):
        graph.add(Triple("dog", "is", "a" * 100_000))
    assert session(path).triples_from("dog") == [MEAT, FISH]


def test_half_a_surrogate_pair_is_refused_and_nothing_kept(path: Path) -> None:
    graph = session(path)
    with pytest.raises(UsageError, match="not valid Unicode text, cannot be stored"):
        graph.commit("q", "a", [FISH, Triple("dog", "likes", "\ud800")])
    assert graph.triples_from("dog") == session(path).triples_from("dog") == [MEAT]
    assert graph.add(FISH).number == 1


def test_nobody_but_its_owner_can_read_a_journal_and_its_log(path: Path) -> None:
    graph = session(path)
    graph.add(FISH)
    files = list(path.parent.iterdir())
    assert {file.name for file in files} == {"journal.db", "journal.db-wal", "journal.db-shm"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    path.chmod(0o640)  # a mode that the owner has chosen stays
    session(path)
    assert path.stat().st_mode & 0o777 == 0o640
