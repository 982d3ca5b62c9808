"""The user's overlay against plain sets, and its journal."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgt_editor.errors import UsageError
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.replay import replay
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple

MEAT, VEGETABLES = Triple("dog", "likes", "meat"), Triple("dog", "likes", "vegetables")

TRIPLES = st.builds(Triple, st.sampled_from("ab"), st.sampled_from("rs"), st.sampled_from("xyz"))
EDITS = st.lists(st.tuples(st.lists(TRIPLES, max_size=3), st.lists(TRIPLES, max_size=3)), max_size=12)


def content(graph: PersonalGraph | MemoryGraph) -> set[Triple]:
    return {triple for head in graph.heads() for triple in graph.triples_from(head)}


def check(graph: PersonalGraph, expected: set[Triple]) -> None:
    assert content(graph) == expected
    assert len(graph) == len(expected)
    assert {triple for triple in expected if triple in graph} == expected
    assert set(graph.heads()) == {triple.head for triple in expected}
    assert set(graph.added) == expected - content(graph.base)  # type: ignore[arg-type]
    assert set(graph.removed) == content(graph.base) - expected  # type: ignore[arg-type]
    own = {triple.relation for triple in expected - content(graph.base)}  # type: ignore[arg-type]
    assert set(graph.relations()) == own | set(graph.base.relations())
    for head in "ab":
        listed = graph.triples_from(head)
        assert len(listed) == len(set(listed))
        if any(z.head == head for z in graph.added):
            assert graph.head_index.has_name(head, head)
        elif not listed:
            assert not graph.head_index.has_name(head, head)


@given(base=st.sets(TRIPLES), edits=EDITS)
def test_overlay_is_union_and_difference_of_sets(
    base: set[Triple], edits: list[tuple[list[Triple], list[Triple]]]
) -> None:
    store = MemoryGraph(sorted(base))
    graph, expected = PersonalGraph(store), set(base)
    for added, removed in edits:
        entry = graph.commit("q", "a", added, removed)
        after = (expected | set(added)) - set(removed)
        assert set(entry.added) == after - expected
        assert set(entry.removed) == expected - after
        expected = after
        check(graph, expected)
    assert content(store) == base


@given(base=st.sets(TRIPLES), edits=EDITS, data=st.data())
def test_undoing_everything_in_any_order_gives_the_base(
    base: set[Triple], edits: list[tuple[list[Triple], list[Triple]]], data: st.DataObject
) -> None:
    graph = PersonalGraph(MemoryGraph(sorted(base)))
    numbers = [graph.commit("q", "a", added, removed).number for added, removed in edits]
    for number in data.draw(st.permutations(numbers)):
        graph.undo(number)
    check(graph, base)
    assert graph.journal == []


@given(base=st.sets(TRIPLES), edits=EDITS)
def test_undoing_backwards_passes_the_same_states(
    base: set[Triple], edits: list[tuple[list[Triple], list[Triple]]]
) -> None:
    graph = PersonalGraph(MemoryGraph(sorted(base)))
    states = [set(base)]
    for added, removed in edits:
        graph.commit("q", "a", added, removed)
        states.append(content(graph))
    for expected in reversed(states[:-1]):
        graph.undo()
        check(graph, expected)


@settings(max_examples=20, deadline=None)
@given(base=st.sets(TRIPLES), edits=EDITS, data=st.data())
def test_any_session_of_a_file_sees_the_same_graph(
    base: set[Triple], edits: list[tuple[list[Triple], list[Triple]]], data: st.DataObject
) -> None:
    store = MemoryGraph(sorted(base))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        # Two sessions of one user make the edits in turn, a third one undoes some of them.
        sessions = [PersonalGraph(store, Journal(path), "ada") for _ in range(3)]
        expected, states = set(base), [set(base)]
        for number, (added, removed) in enumerate(edits):
            sessions[number % 2].commit("q", "a", added, removed)
            expected = (expected | set(added)) - set(removed)
            states.append(expected)
            check(sessions[number % 2], expected)
        taken = data.draw(st.lists(st.sampled_from(range(1, len(edits) + 1)), unique=True)) if edits else []
        for number in taken:
            sessions[2].undo(number)
        for session in sessions:
            session.refresh()
        sessions.append(PersonalGraph(store, Journal(path), "ada"))
        kept = PersonalGraph(store)
        for added, removed in edits:
            kept.commit("q", "a", added, removed)
        for number in taken:
            kept.undo(number)
        for session in sessions:
            check(session, content(kept))
            assert session.triples_from("a") == sessions[0].triples_from("a")
            assert [edit.number for edit in session.journal] == [edit.number for edit in kept.journal]
        for number, state in enumerate(states):
            check(sessions[0].as_of(number), state)
        assert content(PersonalGraph(store, Journal(path), "bob")) == base


@given(base=st.lists(TRIPLES, unique=True), edits=EDITS, limit=st.integers(0, 6))
def test_a_limit_keeps_the_bases_first_and_the_users_last(
    base: list[Triple], edits: list[tuple[list[Triple], list[Triple]]], limit: int
) -> None:
    graph = PersonalGraph(MemoryGraph(base))
    for added, removed in edits:
        graph.commit("q", "a", added, removed)
    for head in "ab":
        every = graph.triples_from(head)
        own = [triple for triple in every if graph.explain(triple) is not None]
        others = [triple for triple in every if triple not in own]
        assert every == others + own
        expected = others[: max(0, limit - len(own))] + own[max(0, len(own) - limit) :]
        assert graph.triples_from(head, limit) == expected


def test_every_triple_is_explained_by_the_feedback_it_came_from() -> None:
    graph = PersonalGraph(MemoryGraph([MEAT]))
    assert graph.explain(MEAT) is None
    entry = graph.commit("What does the dog eat?", "vegetables", [VEGETABLES], [MEAT])
    assert graph.explain(VEGETABLES) == entry
    assert graph.explain(MEAT) == entry
    assert (entry.query, entry.answer) == ("What does the dog eat?", "vegetables")
    assert graph.journal == [entry]


def test_undoing_an_earlier_edit_leaves_the_later_one_in_force() -> None:
    graph = PersonalGraph(MemoryGraph([MEAT]))
    first = graph.commit("q", "vegetables", [VEGETABLES], [MEAT])
    second = graph.commit("q", "fish", [Triple("dog", "likes", "fish")], [VEGETABLES])
    graph.undo(first.number)
    assert content(graph) == {MEAT, Triple("dog", "likes", "fish")}
    graph.undo(second.number)
    assert content(graph) == {MEAT}


def test_single_adds_and_removes_are_edits_too() -> None:
    graph = PersonalGraph(MemoryGraph([MEAT]))
    graph.add(VEGETABLES)
    graph.remove(MEAT)
    assert content(graph) == {VEGETABLES}
    assert [entry.number for entry in graph.journal] == [1, 2]
    assert "vegetables" not in graph


@pytest.mark.parametrize("number", [None, 7])
def test_an_edit_that_is_not_there_cannot_be_undone(number: int | None) -> None:
    with pytest.raises(UsageError, match="journal holds no such edit"):
        PersonalGraph(MemoryGraph()).undo(number)


def test_a_copy_goes_its_own_way_and_users_do_not_see_each_other() -> None:
    store = MemoryGraph([MEAT])
    mine, yours = PersonalGraph(store), PersonalGraph(store)
    mine.commit("q", "vegetables", [VEGETABLES], [MEAT])
    assert content(copy.deepcopy(mine)) == {VEGETABLES}
    twin = mine.copy()
    twin.undo()
    twin.add(Triple("Rex", "is", "dog"))
    assert content(mine) == {VEGETABLES}
    assert content(twin) == {MEAT, Triple("Rex", "is", "dog")}
    assert content(yours) == {MEAT}
    assert mine.link("My Rex barks") is None
    assert twin.link("My Rex barks") == "Rex"


@settings(max_examples=40, deadline=None)
@given(edits=EDITS, undone=st.sets(st.integers(1, 12), max_size=3))
def test_a_replayed_graph_is_the_same_down_to_the_order_of_what_it_lists(edits, undone):
    base = MemoryGraph([Triple("a", "r", "x"), Triple("b", "s", "y")])
    graph = PersonalGraph(base)
    for number, (added, removed) in enumerate(edits, 1):
        graph.commit(f"q{number}", "answer", added, removed, before=0.25, after=None)
    for number in sorted(undone):
        if number <= len(edits):
            graph.undo(number)
    with tempfile.TemporaryDirectory() as folder:
        graph.save(Path(folder) / "graph.db")
        journal = Journal(Path(folder) / "graph.db")
        again = PersonalGraph(base)
        replay(PersonalGraph(base, journal).history(), again)
        journal.close()
    for head in "ab":
        assert again.triples_from(head) == graph.triples_from(head)
    assert again.relations() == graph.relations()
    assert (again.added, again.removed) == (graph.added, graph.removed)
    assert [replace(edit, time=0.0) for edit in again.history()] == [
        replace(edit, time=0.0) for edit in graph.history()
    ]


def test_a_saved_graph_holds_its_own_users_history_and_nobody_elses(tmp_path: Path) -> None:
    shared = Journal(tmp_path / "journal.db")
    ada, bob = (PersonalGraph(MemoryGraph(), shared, name) for name in ("ada", "bob"))
    ada.commit("What does it eat?", "fish", [Triple("dog", "eats", "fish")])
    bob.add(Triple("bob", "keeps", "a secret"))
    ada.undo()
    for _ in range(2):  # what was saved before is replaced
        ada.save(tmp_path / "ada.db")
    saved = Journal(tmp_path / "ada.db")
    assert [user.name for user in saved.users()] == ["ada"]
    assert PersonalGraph(MemoryGraph(), saved, "ada").history() == ada.history()
    saved.close()
    assert b"secret" not in (tmp_path / "ada.db").read_bytes()


def test_taking_back_an_edit_asks_the_journal_once_an_entity_not_once_a_triple(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    graph = PersonalGraph(MemoryGraph(), journal, "ada")
    liked, seen = ([Triple("dog", f"{verb} {number}", "it") for number in range(300)] for verb in ("likes", "sees"))
    graph.commit("", "", liked)
    graph.commit("", "", [*seen, *liked[:150]])
    graph.commit("", "", [], liked)
    statements: list[str] = []
    journal._db.set_trace_callback(statements.append)
    graph.undo()  # older changes are in force again
    graph.undo(2)
    journal._db.set_trace_callback(None)
    assert len(statements) < 30
    assert graph.triples_from("dog") == liked
    assert PersonalGraph(MemoryGraph(), journal, "ada").triples_from("dog") == liked
