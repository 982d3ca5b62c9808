"""Where subject and target of a request stand in tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.normalizers import Prepend, Replace
from transformers import PreTrainedTokenizerFast

from kgt_editor.editors.targets import encode_targets, token_ending_at
from kgt_editor.errors import UsageError

TEXT = "In the end José Ñandú met Ada Brun, who lives in Osthaven"


def byte_level(add_prefix_space: bool) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([TEXT, "Brun, Brun and Ada"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")


def metaspace() -> PreTrainedTokenizerFast:
    """As Llama-2's: a mark for every space, one put in front, and a BOS."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([Prepend("▁"), Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "<s>"], show_progress=False)
    backend.train_from_iterator([TEXT.replace("Ñ", "")], trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>", pad_token="<s>")


def stripped() -> PreTrainedTokenizerFast:
    """With a normaliser that strips the front and puts one space there."""
    tok = byte_level(add_prefix_space=False)
    tok.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(right=False), Prepend(" ")])
    return tok


@pytest.mark.parametrize("tok", [byte_level(True), byte_level(False), metaspace(), stripped()])
@pytest.mark.parametrize("subject", ["Ada Brun", "José Ñandú", "Osthaven", "In"])
def test_the_last_token_of_the_subject_is_found(tok: PreTrainedTokenizerFast, subject: str) -> None:
    end = TEXT.index(subject) + len(subject)
    index = token_ending_at(tok, TEXT, end)
    ids = tok(TEXT).input_ids
    # Up to and with this token the text has the subject's last letter; without it, it has not.
    start, stop = tok(TEXT, return_offsets_mapping=True).offset_mapping[index]
    assert start < end <= stop
    assert all(
        first >= end or first == last
        for first, last in tok(TEXT, return_offsets_mapping=True).offset_mapping[index + 1 :]
    )
    assert index < len(ids)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UsageError, match="Slow keeps no character offsets"):
        token_ending_at(Slow(), TEXT, 5)


def test_batches_read_every_target_token_where_it_is_predicted(tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    contexts, targets = ["Ada Brun was born in the town of", "At home"], ["Osthaven", "Old Velmoran"]
    batch = encode_targets(model, tok, contexts, targets)
    whole = [tok(f"{context} {target}").input_ids for context, target in zip(contexts, targets, strict=True)]
    assert batch.mask.sum(1).tolist() == [len(row) - 1 for row in whole]
    for row, column, token in zip(batch.rows.tolist(), batch.columns.tolist(), batch.wanted.tolist(), strict=True):
        assert whole[row][column + 1] == token
    sums = torch.zeros(2).index_add(0, batch.rows, batch.weights)
    torch.testing.assert_close(sums, torch.ones(2))


def test_prompts_beyond_the_models_length_are_refused(tiny_gpt2: tuple[Any, Any]) -> None:
    model, tok = tiny_gpt2
    with pytest.raises(UsageError, match="does not fit the model's context of 256"):
        encode_targets(model, tok, ["Ada Brun " * 300], ["Tarsil"])


def test_aligned_rows_hold_the_same_texts_with_the_named_tokens_below_each_other(tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    contexts = ["Ada Brun was born in the town of", "At home, in the town of"]
    batch = encode_targets(model, tok, contexts, ["Osthaven", "Old Velmoran"])
    columns = [1, 4]
    moved = batch.aligned(columns)
    assert moved.ids[0, 4] == batch.ids[0, 1]
    assert moved.ids[1, 4] == batch.ids[1, 4]
    for row in range(2):
        assert moved.ids[row][moved.mask[row] == 1].tolist() == batch.ids[row][batch.mask[row] == 1].tolist()
    assert moved.mask[:, -1].any(), "no column of padding alone is left"
    reads = moved.ids[moved.rows, moved.columns]
    assert reads.tolist() == batch.ids[batch.rows, batch.columns].tolist()
