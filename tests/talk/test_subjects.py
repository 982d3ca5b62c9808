"""Whom a question is about."""

from __future__ import annotations

import pytest

from kgt_editor.talk.subjects import subjects


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("What does my dog eat?", ["my dog"]),
        ("What does my dog Rex eat?", ["my dog Rex"]),
        ("What is my favourite colour?", ["my favourite colour"]),
        ("My favourite colour is", ["My favourite colour"]),
        ("Is my sister's name Ann?", ["my sister"]),
        ("Who is the president of my chess club?", ["my chess club"]),
        ("Who works for my sister?", ["my sister"]),
        ("Where was Ada Brun born?", ["Ada Brun"]),
        ("Ada Brun's mother tongue is", ["Ada Brun"]),
        ("The capital of France is", ["France"]),
        ("Who directed The Lord of the Rings?", ["The Lord of the Rings"]),
        ("When did World War II end?", ["World War II"]),
        ("Who lives in St. Petersburg?", ["St. Petersburg"]),
        ("It rained. Where is Milo?", ["Milo"]),
        ("Paris is the capital of", ["Paris"]),
        ("Does Ada know Milo?", ["Ada", "Milo"]),
        ("Tell me about the weather", []),
        ("what time is it?", []),
    ],
)
def test_whom_a_question_is_about(question: str, found: list[str]) -> None:
    assert subjects(question) == found
