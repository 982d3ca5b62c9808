"""Answers written from two prompts in one batch, and what is not read again for them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from kgt_editor.lm import read_before, writing
from kgt_editor.lm.batching import Way
from kgt_editor.lm.continuations import continuation_log_probs
from kgt_editor.lm.read_before import ReadBefore
from kgt_editor.lm.tokens import continuation_ids, encode
from kgt_editor.lm.writing import Asked, write

LM = tuple[Any, Any]
FACT = "The mother tongue of Ada Brun is Quin."
PROMPTS = ("Ada Brun was born in", "The mother tongue of Ada Brun is", "Ada Brun, who is said to have lived in")
NEW = 6


def asked(tok: Any, fact: str = FACT, weights: tuple[float, ...] = (0.3, 1.0, 0.0)) -> list[Asked]:
    read = encode(tok, [f"{fact} {prompt}" for prompt in PROMPTS])
    plain = encode(tok, list(PROMPTS))
    return [Asked(ids if weight else [], own, weight) for ids, own, weight in zip(read, plain, weights, strict=True)]


def written(model: Any, rows: list[Asked], contrast: Any = 0.5) -> list[list[int]]:
    found: list[list[int]] = write(model, 0, rows, contrast, max_new_tokens=NEW, eos_token_id=None).tolist()
    return found


@pytest.fixture
def tokens(tiny_lm: LM) -> list[int]:
    """Token counts of the model's passes; written by a hook on the model itself."""
    counts: list[int] = []
    tiny_lm[0].register_forward_pre_hook(
        lambda _, __, given: counts.append(given["input_ids"].numel()), with_kwargs=True
    )
    return counts


@pytest.mark.parametrize("contrast", [0.0, 0.5, "adaptive"])
def test_both_prompts_in_one_batch_write_what_one_beside_the_other_does(
    tiny_lm: LM, monkeypatch: pytest.MonkeyPatch, contrast: Any
) -> None:
    model, tok = tiny_lm
    together = written(model, asked(tok), contrast)
    monkeypatch.setattr(writing, "way_of", lambda *_: Way.PADDED_ROWS)
    without_what_is_known = written(model, asked(tok), contrast)
    monkeypatch.setattr(writing, "way_of", lambda *_: Way.SINGLE_ROWS)
    assert together == without_what_is_known == written(model, asked(tok), contrast)


def test_an_answer_takes_one_pass_a_token(tiny_lm: LM, tokens: list[int]) -> None:
    model, tok = tiny_lm
    (row, *_) = asked(tok)
    written(model, [row])
    tokens.clear()
    written(model, [row])
    assert len(tokens) == NEW
    assert tokens[1:] == [2] * (NEW - 1)


def test_what_was_read_before_is_not_read_again(tiny_lm: LM, tokens: list[int]) -> None:
    model, tok = tiny_lm
    first, second, _ = asked(tok, weights=(1.0, 1.0, 1.0))
    alone = written(model, [second], 0.0)
    read_before.forget(model)
    written(model, [first], 0.0)
    tokens.clear()
    assert written(model, [second], 0.0) == alone
    shared = read_before._shared(first.read, second.read)
    assert shared > 5
    assert tokens[0] == len(second.read) - shared


def test_a_long_text_is_read_ahead_alone(tiny_lm: LM, tokens: list[int]) -> None:
    model, tok = tiny_lm
    (long, *_) = asked(tok, fact=" ".join([FACT] * 4), weights=(1.0, 1.0, 1.0))
    alone = written(model, [long])
    read_before.forget(model)
    tokens.clear()
    assert written(model, [long]) == alone
    ahead, both = tokens[:2]
    assert ahead + both / 2 == len(long.read)
    assert both == 2 * len(long.plain)


def adapter(model: Any) -> LoraConfig:
    gpt2 = hasattr(model, "transformer")
    target = "c_proj" if gpt2 else "down_proj"
    return LoraConfig(target_modules=[target], init_lora_weights=False, lora_alpha=64, fan_in_fan_out=gpt2)


def test_a_prompt_is_scored_behind_what_was_read_before(tiny_lm: LM, tokens: list[int]) -> None:
    model, tok = tiny_lm
    pairs = [continuation_ids(tok, f"{FACT} {prompt}", "Velmora") for prompt in PROMPTS]
    plain = continuation_ids(tok, PROMPTS[0], "Velmora")
    expected = continuation_log_probs(model, [*pairs, plain])
    tokens.clear()
    found = continuation_log_probs(model, [*pairs, plain])
    assert all(torch.allclose(*both, atol=1e-4) for both in zip(found, expected, strict=True))
    again = tokens.pop()
    read_before.forget(model)
    continuation_log_probs(model, [*pairs, plain])
    shared = read_before._shared(pairs[0][0], pairs[1][0])  # behind that the prompts go apart
    assert tokens.pop() - again >= shared


def test_what_an_edit_read_is_not_read_again_by_the_answer(tiny_lm: LM, tokens: list[int]) -> None:
    model, tok = tiny_lm
    (row, *_) = asked(tok)
    continuation_log_probs(model, [continuation_ids(tok, f"{FACT} {PROMPTS[0]}", "Velmora")])
    tokens.clear()
    after_an_edit = written(model, [row])
    assert tokens[0] <= 2 * len(row.plain)  # both rows, without the fact
    read_before.forget(model)
    assert written(model, [row]) == after_an_edit


def changed_in_place(model: Any) -> None:
    with torch.no_grad():
        next(model.parameters())[17:400].mul_(-1)


def changed_behind_torchs_back(model: Any) -> None:
    for weight in model.parameters():
        weight.data.mul_(1.5)


def loaded(model: Any) -> None:
    model.load_state_dict({name: value * 1.5 for name, value in model.state_dict().items()})


def replaced(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm) or "Norm" in type(module).__name__:
            module.weight = nn.Parameter(module.weight * 1.5)


def merged(model: Any) -> None:
    torch.manual_seed(0)
    targets = [name.rsplit(".", 1)[1] for name, _ in model.named_modules() if name.endswith(("c_proj", "down_proj"))]
    config = LoraConfig(
        target_modules=sorted(set(targets)), init_lora_weights=False, fan_in_fan_out="c_proj" in targets
    )
    get_peft_model(model, config).merge_and_unload()


@pytest.mark.parametrize("change", [changed_in_place, changed_behind_torchs_back, loaded, replaced, merged])
def test_nothing_is_kept_of_weights_that_have_changed(tiny_lm: LM, change: Callable[[Any], None]) -> None:
    model, tok = tiny_lm
    model.eval()
    fresh = copy.deepcopy(model)
    before = written(model, asked(tok))
    change(model)
    change(fresh)
    model.eval()
    after = written(model, asked(tok))
    assert after == written(fresh.eval(), asked(tok))
    assert after != before


def test_of_a_model_in_adapters_nothing_is_kept(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    adapted = get_peft_model(model, adapter(model)).eval()
    for each in (adapted, model):  # through the adapter's own class, and through the model that it was put into
        with_adapter = written(each, asked(tok))
        with adapted.disable_adapter():
            assert written(each, asked(tok)) != with_adapter
        assert written(each, asked(tok)) == with_adapter


def test_no_more_is_kept_than_a_part_of_the_weights(tiny_lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tok = tiny_lm
    expected = written(model, asked(tok))
    monkeypatch.setattr(read_before, "_PART", 10**9)
    read_before._OF_MODEL.pop(model)
    assert written(model, asked(tok)) == expected
    assert ReadBefore.of(model)._texts == []


def test_beside_what_else_generate_can_do_nothing_is_put_together(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    torch.manual_seed(0)
    rows = write(model, 0, asked(tok), 0.5, max_new_tokens=3, do_sample=True, num_return_sequences=2)
    assert rows.shape == (6, 3)
