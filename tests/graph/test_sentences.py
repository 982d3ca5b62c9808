"""What a text's words and their case tell."""

from __future__ import annotations

import pytest

from kgt_editor.graph.sentences import Text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The mother tongue of Danielle Darrieux is", ["Danielle Darrieux"]),
        ("Edwin of Northumbria and Ludwig van Beethoven", ["Edwin of Northumbria", "Ludwig van Beethoven"]),
        ("Where is St . Louis", ["St . Louis"]),
        ("He met J. R. R. Tolkien in Rome", ["J . R . R . Tolkien", "Rome"]),
        ("It ended. Paris is", ["Paris"]),
        ("We met Ada. Paris is", ["Ada . Paris"]),  # a short word before a full stop may be abbreviated
        ("We met Danielle. Paris is", ["Danielle", "Paris"]),
        ("The plot of The Tourist is", ["The Tourist"]),
        ("Apple A5 and Windows 10 are", ["Apple A5", "Windows 10"]),
        ("an iPad is", ["iPad"]),
        ("Tell me more", []),
        ("What is IT", ["IT"]),
        ("WHAT IS PARIS", []),
        ("what is paris", []),
        ("", []),
    ],
)
def test_capitalised_names(text: str, names: list[str]) -> None:
    read = Text(text)
    assert [read.spelled(run) for run in read.names] == names


def test_a_joined_target_is_no_name_of_the_query() -> None:
    assert Text("A dog lives in Paris", joined=True).names == []
    assert len(Text("Rex lives in Paris", joined=True).names) == 1


def test_only_a_capital_that_begins_a_sentence_is_taken_off() -> None:
    read = Text('"My dog. My cat" and My dog')
    assert [read.uncapitalised((first, first + 2)) for first in (1, 4, 8)] == ["my dog", "my cat", "My dog"]


def test_plurals_are_looked_for_among_common_words() -> None:
    read = Text("Dogs are what Cats of the houses does")
    assert read.countable == [True, False, False, False, False, False, True, False]
