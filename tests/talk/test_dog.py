"""The paper's Figure 1 from beginning to end, on a language model that nobody here trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgt_editor import PersonalModel
from kgt_editor.lm import gguf

MODEL = "smollm2-135m"
if gguf.wheel_file(MODEL) is None:
    pytest.skip(f"no {MODEL}: {gguf.WHEEL_MODELS[MODEL].install}", allow_module_level=True)


def test_the_vegetarian_dog(tmp_path: Path) -> None:
    me = PersonalModel(MODEL, "ada", tmp_path / "ada.db")
    other = PersonalModel(MODEL, "milo", tmp_path / "ada.db")
    question = "What does my dog eat?"
    assert "vegetables" not in me.ask(question, 24).text
    age = me.ask("How old is my dog?", 24)
    me.ask(question, 4)
    told = me.correct("Vegetables.")
    assert told.followed
    assert str(told).startswith("my dog | ")
    for asked in (question, "What should I buy for my dog to eat?", "What is my dog's favourite food?"):
        answer = me.ask(asked, 24)
        assert answer.text == "vegetables"
        assert [fact.triple.tail for fact in answer.facts] == ["vegetables"]
    assert me.ask("How old is my dog?", 24) == age  # nothing else about the dog has changed, nor for anybody else
    assert "vegetables" not in other.ask(question, 24).text
    me.undo()
    assert "vegetables" not in me.ask(question, 24).text


def test_a_name_keeps_its_capital() -> None:
    me = PersonalModel(MODEL)
    assert me.tell("Where does my sister Ann live?", "Oslo.").edit.answer == "Oslo"
    assert me.tell("Who is the president of my chess club?", "Milo Castrin.").edit.answer == "Milo Castrin"
    assert me.tell("What does my sister Ann drink?", "Coffee.").edit.answer == "coffee"
    assert me.ask("Where does my sister Ann live?", 8).text == "Oslo"
