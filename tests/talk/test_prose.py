"""A text as sentences that stand alone, and who is named in them."""

from __future__ import annotations

import pytest

from kgt_editor import PersonalModel
from kgt_editor.errors import UsageError
from kgt_editor.graph.relations import NOTE
from kgt_editor.lm import gguf
from kgt_editor.talk.prose import LONGEST_SENTENCE, sentences


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        (
            "My dog Rex eats only vegetables. He was born in Oslo.",
            [
                ("My dog Rex eats only vegetables.", ("my dog Rex", "my dog", "Rex")),
                ("my dog Rex was born in Oslo.", ("my dog Rex", "my dog", "Rex", "Oslo")),
            ],
        ),
        (
            "Ann Brun, a Norwegian painter, lives in Oslo. Under Brun's lead the school grew. Her brother is Milo.",
            [
                ("Ann Brun, a Norwegian painter, lives in Oslo.", ("Ann Brun", "Oslo")),
                ("Under Ann Brun's lead the school grew.", ("Ann Brun",)),
                ("Ann Brun's brother is Milo.", ("Ann Brun", "Milo")),
            ],
        ),
        (
            "Dr. A. Brun met Mr. Alder. It rained.",
            [("Dr. A. Brun met Mr. Alder.", ("Dr. A. Brun", "Mr. Alder")), ("It rained.", ())],
        ),
        ("I live in Oslo", [("I live in Oslo", ("Oslo", "I"))]),
        ("Today, Ann Brun teaches.", [("Today, Ann Brun teaches.", ("Ann Brun",))]),
        ("the weather was fine", [("the weather was fine", ())]),
        ("...", []),
    ],
)
def test_sentences_stand_alone(text: str, alone: list[tuple[str, tuple[str, ...]]]) -> None:
    assert [tuple(one) for one in sentences(text)] == alone


def test_whom_a_text_is_about_may_be_said() -> None:
    found = sentences("The game began in Kent. It has eleven players a side.", ["cricket"])
    assert [one.about for one in found] == [("Kent",), ("cricket",)]


def test_a_long_text_without_a_stop_is_no_sentence() -> None:
    (found,) = sentences("Ann Brun " + "and on " * LONGEST_SENTENCE)
    assert found.about == ()


def test_settings_without_the_guard_are_refused() -> None:
    with pytest.raises(UsageError, match="guard 'similarity'"):
        PersonalModel("testbed-gpt2").read("Ann Brun lives in Oslo.")


@pytest.mark.skipif(gguf.wheel_file("smollm2-135m") is None, reason=gguf.WHEEL_MODELS["smollm2-135m"].install)
def test_what_was_read_is_answered_explained_and_taken_back() -> None:
    me = PersonalModel("smollm2-135m")
    before = me.ask("How old is my dog?", 16)
    noted = me.read("My dog Rex eats only vegetables. He was born in Oslo. It rained.")
    assert [edit.query for edit in noted.edits] == ["My dog Rex eats only vegetables.", "my dog Rex was born in Oslo."]
    assert noted.left == ("It rained.",)
    assert "not kept" in str(noted)
    answer = me.ask("Where was my dog born?", 16)
    assert "Oslo" in answer.text
    assert answer.facts[0].triple.relation == NOTE
    assert "vegetables" in me.ask("What does Rex eat?", 16).text
    assert me.ask("How old is my dog?", 16) == before
    me.undo(noted.edits[1].number)
    assert "Oslo" not in me.ask("Where was my dog born?", 16).text
    assert [fact.triple.tail for fact in me.facts()] == ["My dog Rex eats only vegetables."] * 3
