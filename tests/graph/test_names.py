"""How names are loosened, and what an index of them costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgt_editor.graph.names import HeadIndex, keys_of, loosen, plurals, singulars, split_words


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("dog", "dogs"),
        ("box", "boxes"),
        ("church", "churches"),
        ("city", "cities"),
        ("day", "days"),
        ("knife", "knives"),
        ("wolf", "wolves"),
        ("cafe", "cafes"),
        ("glass", "glasses"),
        ("bus", "buses"),
        ("tomato", "tomatoes"),
        ("house", "houses"),
        ("cave", "caves"),
    ],
)
def test_the_regular_plurals_lead_both_ways(singular: str, plural: str) -> None:
    assert plural in plurals(singular)
    assert singular in singulars(plural)
    assert not singulars(singular)
    assert not plurals(plural)


@pytest.mark.parametrize("word", ["", "s", "is", "as", "1990s", "-", "c++"])
def test_what_is_no_noun_has_no_other_number(word: str) -> None:
    assert singulars(word) == plurals(word) == ()


def test_loosened_words_keep_their_places() -> None:
    words = split_words("Jean\u2013Pierre O\u2019Né - is")
    assert words == ["Jean", "\u2013", "Pierre", "O", "\u2019", "Né", "-", "is"]
    assert loosen(words) == [("jean", 0), ("pierre", 2), ("o", 3), ("'", 4), ("ne", 5), ("is", 7)]
    assert loosen(["-", "x", "-"]) == [("-", 0), ("x", 1), ("-", 2)]  # a hyphen stands between words


def test_marks_that_are_letters_stay() -> None:
    assert loosen(["हिन्दी"]) == [("हिन्दी", 0)]
    assert keys_of(["dog"]) == ("dog",)
    assert keys_of(["\u0301"]) == ("\u0301",)


TERMS = st.lists(st.sampled_from(["dog", "Dogs", "é", "e", "-", "\u2019", "ß", "x"]), min_size=1, max_size=4).map(
    " ".join
)


@given(st.lists(st.tuples(st.booleans(), TERMS, TERMS), max_size=12))
def test_an_index_after_any_changes_is_the_index_of_what_is_left(changes: list[tuple[bool, str, str]]) -> None:
    changed, left = HeadIndex(), {}
    for comes, head, name in changes:
        (changed.add if comes else changed.discard)(head, name)
        if comes:
            left[" ".join(split_words(name)), head] = name
        else:
            left.pop((" ".join(split_words(name)), head), None)
    fresh = HeadIndex()
    for (_, head), name in left.items():
        fresh.add(head, name)
    assert {key: set(names) for key, names in changed._names.items()} == {k: set(n) for k, n in fresh._names.items()}
