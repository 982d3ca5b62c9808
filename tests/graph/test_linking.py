"""Which entity a text is about."""

from __future__ import annotations

import pytest

from kgt_editor.graph.linking import link, matches
from kgt_editor.graph.names import MAX_WORDS, HeadIndex

BASE = HeadIndex(["Paris", "Paris Hilton", "mother tongue", "dog", "St. Louis", "Danielle Darrieux", "AC/DC", "apple"])
NONE = HeadIndex()


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("The mother of Paris Hilton is", "Paris Hilton"),
        ("Parisians like", None),
        ("The hotdog is", None),
        ("My DOG likes", "dog"),
        ("The mother tongue of Danielle Darrieux is", "Danielle Darrieux"),
        ("St. Louis's river is", "St. Louis"),
        ("AC/DC was founded in", "AC/DC"),
        ("paris hilton lives in", "Paris Hilton"),
        ("", None),
    ],
)
def test_the_longest_head_on_word_boundaries_wins(text: str, head: str | None) -> None:
    index = HeadIndex(head for head in ["Paris", "Paris Hilton", "dog", "St. Louis", "Danielle Darrieux", "AC/DC"])
    assert link(text, NONE, index) == head


def test_exact_case_wins_over_folded_case() -> None:
    index = HeadIndex(["apple", "Apple"])
    assert link("Apple was founded in", NONE, index) == "Apple"
    assert link("an apple is a", NONE, index) == "apple"
    assert [match.exact for match in matches("The DOG and the dog are", NONE, HeadIndex(["dog"]))] == [False, True]


def test_the_users_own_entity_wins() -> None:
    assert link("The mother tongue of Rex is", HeadIndex(["Rex"]), BASE) == "Rex"
    assert link("Paris Hilton likes", HeadIndex(["Paris"]), BASE) == "Paris Hilton"


@pytest.mark.parametrize("target", ["Paris", "Paris Hilton", "Danielle Darrieux", "dog"])
def test_a_target_behind_the_prompt_changes_nothing(target: str) -> None:
    personal = HeadIndex(["Paris", "Paris Hilton"])
    assert link(f"The dog lives with {target}", personal, BASE, joined=True) == "dog"
    assert link(f"Nobody knows {target}", personal, BASE, joined=True) is None
    assert link(f"Nobody knows {target}", personal, BASE) == target


def test_matches_say_where_they_stand() -> None:
    text = "The dog of Paris"
    paris, dog = matches(text, NONE, BASE)
    assert [text[m.start : m.end] for m in (dog, paris)] == ["dog", "Paris"]
    assert (dog.exact, dog.at_end, paris.at_end) == (True, False, True)
    assert (dog.own, dog.alias) == (False, False)


def test_ambiguous_names_are_reported_with_scores() -> None:
    base = HeadIndex(["apple", "Apple", "Bobby"])
    base.add("Robert", "Bob")
    base.add("Bobby", "Bob")
    assert [match.head for match in matches("An APPLE a day", NONE, base)] == ["apple", "Apple"]
    assert [match.head for match in matches("An Apple a day", NONE, base)] == ["Apple"]
    found = matches("apple is what bob eats", HeadIndex(["Robert"]), base)
    assert [match.head for match in found] == ["Robert", "apple"]
    assert [match.alias for match in found] == [True, False]
    assert found[0].score > found[1].score
    assert [match.head for match in matches("where does bob live", NONE, base)] == ["Robert", "Bobby"]


def test_an_alias_leads_to_its_head() -> None:
    index = HeadIndex(["New York City"])
    index.add("New York City", "the Big Apple")
    assert link("Who lives in the big apple now?", index, NONE) == "New York City"
    index.discard("New York City", "the Big Apple")
    assert link("Who lives in the big apple now?", index, NONE) is None
    assert link("Who lives in New York City now?", index, NONE) == "New York City"


def test_heads_come_and_go() -> None:
    index = HeadIndex()
    for head in ("New York City", "York", "york", "York", "!?"):
        index.add(head)
    assert link("New York City has", index, NONE) == "New York City"
    index.discard("New York City")
    index.discard("unknown")
    assert link("New York City has", index, NONE) == "York"
    index.discard("York")
    assert link("New York City has", index, NONE) == "york"
    index.discard("york")
    assert link("New York City has", index, NONE) is None


def test_letters_may_be_composed_or_not() -> None:
    composed, apart = "Caf\u00e9 Noir", "Cafe\u0301 Noir"
    assert link(f"Where is {apart} now?", HeadIndex([composed]), NONE) == composed
    assert link(f"Where is {composed} now?", HeadIndex([apart]), NONE) == apart


def test_a_clause_is_no_name() -> None:
    clause = " ".join(["word"] * (MAX_WORDS + 1))
    assert link(f"{clause} is", HeadIndex([clause]), NONE) is None
    assert link(f"{clause} is", HeadIndex([clause[5:]]), NONE) == clause[5:]


@pytest.mark.parametrize("text", ["", "   ", "?!", "\ud800 dog", "\x00", "a" * 100_000, "dog " * 20_000])
def test_any_text_can_be_linked(text: str) -> None:
    assert link(text, BASE, NONE) == ("dog" if "dog" in text else None)
