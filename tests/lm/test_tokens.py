from __future__ import annotations

import pytest
from tokenizers.processors import TemplateProcessing

from kgt_editor.errors import UsageError
from kgt_editor.lm.tokens import continuation_ids, continuation_ids_batch, encode, join


@pytest.mark.parametrize(
    ("context", "continuation", "joined"),
    [
        ("a is", "b", "a is b"),
        ("a is ", "b", "a is b"),
        ("a is", " b", "a is b"),
        ("", "b", "b"),
        ("a is\n", "b", "a is\nb"),
    ],
)
def test_one_space_joins_unless_there_is_one(context, continuation, joined):
    assert join(context, continuation) == joined


def test_the_two_parts_are_the_encoding_of_the_joined_text(tiny_lm, tiny_records):
    _, tok = tiny_lm
    for record in tiny_records:
        context, target = continuation_ids(tok, record.query, record.target_new)
        assert context + target == tok(f"{record.query} {record.target_new}").input_ids
        assert context == tok(record.query).input_ids
        assert tok.decode(target).strip() == record.target_new


def test_space_at_the_end_of_the_context_changes_nothing(tiny_lm):
    _, tok = tiny_lm
    assert continuation_ids(tok, "Ada Brun was born in ", "Velmora") == continuation_ids(
        tok, "Ada Brun was born in", "Velmora"
    )


def test_bos_only_where_the_tokenizer_adds_it(tiny_gpt2, tiny_llama):
    for (_, tok), has_bos in ((tiny_gpt2, False), (tiny_llama, True)):
        context, target = continuation_ids(tok, "Ada Brun speaks", "Quin")
        assert (context[0] == tok.bos_token_id) is has_bos
        assert tok.bos_token_id not in target


def test_a_closing_eos_never_stands_between_context_and_continuation(tiny_gpt2):
    _, tok = tiny_gpt2
    expected = continuation_ids(tok, "Ada Brun speaks", "Quin")
    backend = tok.backend_tokenizer
    before = backend.post_processor
    backend.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", tok.eos_token_id)])
    try:
        assert tok("Ada").input_ids[-1] == tok.eos_token_id
        assert continuation_ids(tok, "Ada Brun speaks", "Quin") == expected
    finally:
        backend.post_processor = before


def test_batch_and_single_agree(tiny_lm, tiny_records):
    _, tok = tiny_lm
    pairs = continuation_ids_batch(tok, [r.query for r in tiny_records], [r.target_new for r in tiny_records])
    assert pairs == [continuation_ids(tok, r.query, r.target_new) for r in tiny_records]
    assert encode(tok, []) == []


def test_nothing_to_continue_or_to_add_is_refused(tiny_gpt2):
    _, tok = tiny_gpt2
    with pytest.raises(UsageError, match="prompt before 'Velmora' is empty"):
        continuation_ids(tok, "", "Velmora")
    with pytest.raises(UsageError, match="no token of its own"):
        continuation_ids(tok, "Ada Brun", "")
