from __future__ import annotations

import pytest

from kgt_editor.evaluation.generated import MAX_NEW_TOKENS, Written, generate, normalise


@pytest.mark.parametrize(
    ("text", "answer", "exact", "contains"),
    [
        ("English.", "English", True, True),
        ("the  ENGLISH", "English", True, True),
        ("São Tomé. It is hot", "Sao Tome", True, True),
        ("U.S. Steel", "U.S. Steel", True, True),
        ("English and French", "English", False, True),
        ("Englishman", "English", False, False),
        ("French. English", "English", False, False),
        ("", "English", False, False),
        (None, "English", False, False),
        ("The", "The", True, True),
    ],
)
def test_only_the_first_sentence_is_held_against_the_answer(text, answer, exact, contains):
    found = Written(text, answer)
    assert (found.exact, found.contains) == (exact, contains)


def test_words_are_compared_without_case_accents_punctuation_and_articles():
    assert normalise(" The Göteborg, an  A-side ") == "goteborg side"


def test_every_prompt_is_continued_without_the_answer(tiny_records):
    records = tiny_records[:3]

    class Model:
        def __init__(self):
            self.asked = []

        def answer_many(self, prompts, max_new_tokens):
            self.asked.append((tuple(prompts), max_new_tokens))
            return [f"{number}." for number, _ in enumerate(prompts)]

    model = Model()
    found = generate(model, None, records)
    prompts = [text for one in records for text in (one.query, *one.paraphrase_prompts)]
    assert model.asked == [(tuple(prompts), MAX_NEW_TOKENS)]
    assert not any(one.target_new in text for one in records for text in prompts)
    texts = [text for one in found for text in (one.edit.text, *(each.text for each in one.paraphrases))]
    assert texts == [f"{number}." for number in range(len(prompts))]
    assert [one.edit.answer for one in found] == [one.target_new for one in records]


def test_a_model_that_gives_no_text_has_written_nothing(tiny_records):
    (found,) = generate(object(), None, tiny_records[:1])
    assert (found.edit, found.paraphrases) == (None, ())
