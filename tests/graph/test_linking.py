"""Which entity a text is about."""

from __future__ import annotations

import pytest

from kgt_editor.graph.linking import HeadIndex, link, mentions

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
    assert link("PARIS and the dog are", NONE, BASE) == "dog"


def test_the_users_own_entity_wins() -> None:
    assert link("The mother tongue of Rex is", HeadIndex(["Rex"]), BASE) == "Rex"
    assert link("Paris Hilton likes", HeadIndex(["Paris"]), BASE) == "Paris Hilton"


@pytest.mark.parametrize("target", ["Paris", "Paris Hilton", "Danielle Darrieux", "dog"])
def test_a_target_behind_the_prompt_changes_nothing(target: str) -> None:
    personal = HeadIndex(["Paris", "Paris Hilton"])
    assert link(f"The dog lives with {target}", personal, BASE) == "dog"
    assert link(f"Nobody knows {target}", personal, BASE, joined=True) is None
    assert link(f"Nobody knows {target}", personal, BASE) == target


def test_mentions_say_where_they_stand() -> None:
    text = "The dog of Paris"
    dog, paris = mentions(text, BASE)
    assert [text[m.start : m.end] for m in (dog, paris)] == ["dog", "Paris"]
    assert (dog.exact, dog.at_end, paris.at_end) == (True, False, True)


def test_heads_come_and_go() -> None:
    index = HeadIndex()
    for head in ("New York City", "York", "york", "York", "!?"):
        index.add(head)
    assert index.longest == 3
    assert link("New York City has", index, NONE) == "New York City"
    index.discard("New York City")
    index.discard("unknown")
    assert index.longest == 2  # "!?" is two marks
    assert link("New York City has", index, NONE) == "York"
    index.discard("York")
    assert link("New York City has", index, NONE) == "york"
    index.discard("york")
    assert link("New York City has", index, NONE) is None


def test_a_copy_is_independent() -> None:
    index = HeadIndex(["dog"])
    twin = index.copy()
    twin.discard("dog")
    twin.add("cat")
    assert index.exact("dog") == "dog"
    assert index.folded("cat") is None
