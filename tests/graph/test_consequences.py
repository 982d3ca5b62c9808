"""What follows from a triple: the table's rules, and that they come and go with the triple."""

from __future__ import annotations

import pytest

from kgt_editor.graph.consequences import Consequences, inverse_of
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.relations import ALIAS
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple

MARRIED = Triple("Ada Brun", "is married to", "Milo Castrel")
CAPITAL = Triple("Velmora", "has the capital", "Tarsil")


@pytest.mark.parametrize(
    ("relation", "inverse"),
    [
        ("is married to", "is married to"),
        ("name of the spouse of … is", "is married to"),
        ("follows", "is followed by"),
        ("is followed by", "follows"),
        ("has the capital", "is the capital of"),
        ("name of the capital city of … is", "is the capital of"),
        ("is the capital of", "has the capital"),
        ("The author of … is", "is the author of"),
        ("name of the mother of … is", "has the child"),
        ("What is …'s spouse's name", "is married to"),
        ("Who is … married to", "is married to"),
        ("Who is …'s mother", "has the child"),
        ("Who is listed as … father", "has the child"),
        ("is the father of", "has the parent"),
        ("is the daughter of", "has the child"),
        ("What was the name of the father of …", "has the child"),
        ("Who is the grandmother of …", None),
        ("names of the siblings of … are", "is a sibling of"),
        ("Who is …'s sister", "is a sibling of"),
        ("Who wrote …", "is the author of"),
        ("Who founded …", "is the founder of"),
        ("What is the name of …'s mother", "has the child"),
        ("What is the job of …'s mother", None),
        ("What is …'s wife's job", None),
        ("occupation of the author of … is", None),
        ("was born in", None),
        ("speaks the language", None),
        (ALIAS, None),
    ],
)
def test_relations_have_the_inverse_of_the_table(relation, inverse):
    assert inverse_of(relation) == inverse


@pytest.mark.parametrize("relation", ["follows the religion", "is a follower of", "unfollows", "capitalises"])
def test_words_that_mean_something_else_have_none(relation):
    assert inverse_of(relation) is None


def test_what_follows_comes_and_goes_with_its_triple():
    follows = Consequences([CAPITAL])
    assert follows.of("Tarsil") == {Triple("Tarsil", "is the capital of", "Velmora"): CAPITAL}
    assert follows.head_index.has_name("Tarsil", "Tarsil")
    other = Triple("Old Velmora", "has the capital", "Tarsil")
    follows.settle(other, True)
    follows.settle(CAPITAL, False)
    assert list(follows.of("Tarsil").values()) == [other]
    follows.settle(other, False)
    assert follows.of("Tarsil") == {}
    assert not follows.head_index.has_name("Tarsil", "Tarsil")


def test_a_graph_stores_nothing_of_it_and_follows_every_change(tmp_path):
    graph = PersonalGraph(MemoryGraph([CAPITAL]), Journal(tmp_path / "graph.db"), "ada")
    text = "Who is Milo Castrel married to?"
    assert graph.consequences(text) is None
    edit = graph.add(MARRIED, "Ada Brun is married to", "Milo Castrel")
    match, found = graph.consequences(text)
    assert (text[match.start : match.end], found) == (
        "Milo Castrel",
        {Triple("Milo Castrel", "is married to", "Ada Brun"): MARRIED},
    )
    assert graph.triples_from("Milo Castrel") == []
    assert graph.link(text) is None
    assert graph.consequences("Which country has Tarsil as its capital?") is None, "only the user's own triples count"
    again = PersonalGraph(graph.base, Journal(tmp_path / "graph.db"), "ada")
    assert again.consequences(text)[1] == found
    graph.undo(edit.number)
    assert graph.consequences(text) is None
    again.refresh()
    assert again.consequences(text) is None


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("Toyota Vitz is a product of", False),
        ("The plant of Toyota is in", True),
        ("Toyota is in", True),
        ("Old Toyota is in", True),
        ("In New Toyota they make", False),
        ("The Toyota 2000 was", False),
        ("Toyota, Honda and others", True),
    ],
)
def test_a_part_of_a_longer_name_is_not_meant(text, alone):
    graph = PersonalGraph(MemoryGraph())
    graph.add(Triple("Dacia Sandero", "is made by", "Toyota"))
    assert (graph.consequences(text) is not None) == alone
