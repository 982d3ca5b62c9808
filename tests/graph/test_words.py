"""The tables of English words."""

from __future__ import annotations

from kgt_editor.graph.words import AFTER_ORDERS, FIRST_PERSON, MODALS, SELF_HEADS, function_words


def test_function_words_are_words_and_no_comments() -> None:
    known = function_words()
    assert {"the", "of", "what", "is", "can", "in"} <= known
    assert not known & {"licence", "snowball", "#", "dog", "language", "city", "country"}
    assert all(word.isalpha() and word == word.casefold() for word in known)
    assert 150 < len(known) < 250


def test_the_tables_hold_case_folded_function_words() -> None:
    assert function_words() >= FIRST_PERSON | MODALS | AFTER_ORDERS
    assert set(SELF_HEADS) >= FIRST_PERSON
    assert all(head == head.casefold() for head in SELF_HEADS)
