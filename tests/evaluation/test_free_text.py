from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from kgt_editor.evaluation.free_text import MAX_NEW_TOKENS, References, entropy, words, write


def test_entropy_is_that_of_the_bigrams_and_trigrams():
    # Two bigrams of equal share among three (ab, bc, ab would be two of three): by hand.
    text = "a b c a b"  # bigrams ab bc ca ab, trigrams abc bca cab
    bigrams = -(2 / 4 * math.log2(2 / 4) + 2 * 1 / 4 * math.log2(1 / 4))
    trigrams = math.log2(3)
    assert entropy(text) == pytest.approx((2 / 3 * bigrams + 4 / 3 * trigrams) / 2)
    assert entropy("one one one one one") == 0.0
    assert entropy("word") == entropy("") == 0.0


def test_a_text_that_says_what_is_said_of_such_subjects_scores_higher(tiny_records):
    references = References(tiny_records, tiny_records[:4])
    record = tiny_records[0]
    alike = next(r for r in tiny_records if (r.relation, r.target_true) == (record.relation, record.target_new))
    statement = f"{alike.query} {alike.target_true}."
    assert references.score(statement, record) > references.score("Something else altogether", record)
    assert references.score("", record) == 0.0
    assert references.score(statement, replace(record, target_new="Nowhere")) is None
    only = References([alike], [record])
    assert only.score(statement, record) == pytest.approx(1.0)


def test_generation_prompts_are_continued_and_only_what_is_new_is_judged(tiny_gpt2, tiny_records):
    model, tok = tiny_gpt2
    records = [replace(one, generation_prompts=(f"{one.subject} is known for", "Then ")) for one in tiny_records[:3]]
    records.append(tiny_records[3])
    references = References(tiny_records, records)
    found = write(model, tok, records, references)
    for record, one in zip(records, found, strict=True):
        assert len(one.texts) == len(record.generation_prompts)
        for prompt, text in zip(record.generation_prompts, one.texts, strict=True):
            ids = tok(prompt.rstrip(), return_tensors="pt").input_ids
            with torch.no_grad():
                whole = model.generate(ids, do_sample=False, max_new_tokens=MAX_NEW_TOKENS, pad_token_id=0)
            assert text == tok.decode(whole[0, ids.shape[1] :], skip_special_tokens=True).strip()
    assert found[0].entropy == pytest.approx(sum(map(entropy, found[0].texts)) / 2)
    assert found[0].reference == references.score(" ".join(found[0].texts), records[0])
    assert (found[3].texts, found[3].entropy, found[3].reference) == ((), None, None)
    assert write(object(), tok, records, references)[0].texts == ()


def test_words_are_compared_without_case():
    assert words("The U.S.; the") == ["the", "u", "s", "the"]
