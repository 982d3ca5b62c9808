"""What every editor of weights keeps to, besides the contract of all editors."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from contract import (
    LM,
    Records,
    every_weight_editor,
    prepared,
    requests_of,
    same,
    scores,
    weights,
)
from editor_builders import build
from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from kgt_editor.editors.base import get_editor_class, restore_model
from kgt_editor.editors.weights import WeightEditor
from kgt_editor.errors import UnsupportedModelError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))


@every_weight_editor
def test_the_call_form_equals_the_class(name: str, tiny_gpt2: LM, tiny_records: Records) -> None:
    model, tok = tiny_gpt2
    module = importlib.import_module(get_editor_class(name).__module__)
    function = getattr(module, f"apply_{name}_to_model")
    editor = prepared(name, tiny_gpt2, tiny_records)
    requests = requests_of(tiny_records[:1])
    by_class, _ = editor.apply(model, tok, requests, copy=True)
    by_function, restore = function(
        model, tok, requests, editor.hparams, copy=True, return_orig_weights=True, train_ds=tiny_records
    )
    assert scores(by_function, tok, tiny_records) == scores(by_class, tok, tiny_records)
    assert set(restore) <= set(dict(model.named_parameters()))
    assert restore


@every_weight_editor
def test_an_edit_changes_the_named_weights_only(name: str, tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    editor = prepared(name, tiny_lm, tiny_records)
    assert isinstance(editor, WeightEditor)
    kept = weights(model)
    editor.apply(model, tok, requests_of(tiny_records[:1]))
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, kept[key])}
    assert changed == {f"{layer}.weight" for layer in editor.layers(model)}


@every_weight_editor
def test_a_model_in_half_precision_is_edited(name: str, tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm[0].to(torch.bfloat16), tiny_lm[1]
    editor = prepared(name, (model, tok), tiny_records)
    kept = weights(model)
    edited, restore = editor.apply(model, tok, requests_of(tiny_records[:1]), return_orig_weights=True)
    assert not same(weights(edited), kept)
    assert {value.dtype for value in edited.state_dict().values()} == {torch.bfloat16}
    assert same(weights(restore_model(edited, restore)), kept)


@every_weight_editor
def test_quantised_weights_are_refused(name: str, tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    editor = build(name, model)
    model.is_quantized = True
    supported, reason = editor.supports(model)
    assert not supported
    assert "quantised" in reason
    with pytest.raises(UnsupportedModelError, match=f"'{name}'.*quantised"):
        editor.apply(model, tok, requests_of(tiny_records[:1]))


@every_weight_editor
def test_wrapped_linear_layers_are_refused(name: str, tiny_llama: LM) -> None:
    model, _ = tiny_llama
    editor = build(name, model)

    class Adapter(nn.Linear):
        """What a LoRA or a quantised layer looks like: a Linear, but its weight is not the whole map."""

    for block in model.model.layers:
        block.mlp.down_proj = Adapter(64, 32, bias=False)
    supported, reason = editor.supports(model)
    assert not supported
    assert "Adapter" in reason


@every_weight_editor
def test_an_unknown_architecture_is_refused(name: str, tiny_gpt2: LM) -> None:
    editor = build(name, tiny_gpt2[0])
    config = GPTNeoXConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    supported, reason = editor.supports(GPTNeoXForCausalLM(config))
    assert not supported
    assert "gpt_neox" in reason
