"""Layer access for both ways of storing a linear map, and traces of a forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from kgt_editor.errors import UnsupportedModelError
from kgt_editor.lm.layers import check_family, frozen, get_module, linear_layer
from kgt_editor.lm.trace import Trace, replay

LM = tuple[Any, Any]
DOWN = {"gpt2": "transformer.h.{}.mlp.c_proj", "llama": "model.layers.{}.mlp.down_proj"}
BLOCK = {"gpt2": "transformer.h.{}", "llama": "model.layers.{}"}
BLOCK["mistral"] = BLOCK["qwen2"] = BLOCK["llama"]


def inputs(model: Any) -> dict[str, Any]:
    ids = torch.randint(3, model.config.vocab_size, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask, "use_cache": False}


def test_matrix_is_out_by_in_however_it_is_stored(tiny_lm: LM) -> None:
    model, _ = tiny_lm
    family = model.config.model_type
    layer = linear_layer(model, DOWN[family].format(1))
    inner = 128 if family == "gpt2" else 64
    assert layer.shape == (32, inner)
    assert layer.transposed == (family == "gpt2")
    assert layer.weight.shape == ((inner, 32) if family == "gpt2" else (32, inner))
    values = torch.randn(5, inner)
    bias = getattr(layer.module, "bias", None)
    by_hand = values @ layer.matrix.T + (0 if bias is None else bias)
    torch.testing.assert_close(layer.module(values), by_hand)
    assert layer.stored(layer.matrix).shape == layer.weight.shape
    assert model.get_parameter(layer.parameter) is layer.weight


def test_a_parameters_name_serves_as_the_layers(tiny_gpt2: LM) -> None:
    assert linear_layer(tiny_gpt2[0], "transformer.h.0.mlp.c_fc.weight").name == "transformer.h.0.mlp.c_fc"


def test_missing_and_unfit_modules_are_refused_by_name(tiny_gpt2: LM) -> None:
    model, _ = tiny_gpt2
    with pytest.raises(UnsupportedModelError, match=r"no module 'transformer\.h\.9\.mlp'"):
        get_module(model, "transformer.h.9.mlp")
    with pytest.raises(UnsupportedModelError, match=r"'transformer\.wte' is a Embedding"):
        linear_layer(model, "transformer.wte")
    model.transformer.h[0].mlp.c_fc.weight = nn.Parameter(torch.zeros(32, 128, dtype=torch.int8), requires_grad=False)
    with pytest.raises(UnsupportedModelError, match="int8"):
        linear_layer(model, "transformer.h.0.mlp.c_fc")


def test_quantised_models_are_refused(tiny_lm: LM) -> None:
    model, _ = tiny_lm
    check_family(model)
    model.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(UnsupportedModelError, match="quantised"):
        check_family(model)


def test_frozen_puts_back_modes_and_gradients_even_after_an_error(tiny_lm: LM) -> None:
    model, _ = tiny_lm
    model.train()
    model.get_submodule(BLOCK[model.config.model_type].format(0)).eval()
    first = next(model.parameters())
    first.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2

    def fail() -> None:
        with frozen(model):
            assert not any(module.training for module in model.modules())
            assert not any(parameter.requires_grad for parameter in model.parameters())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [p is not first for p in model.parameters()]


@torch.no_grad()
def test_trace_records_inputs_and_outputs_and_leaves_no_hook(tiny_lm: LM) -> None:
    model, _ = tiny_lm
    family = model.config.model_type
    names = [DOWN[family].format(0), BLOCK[family].format(2)]
    with Trace(model, names) as trace:
        model(**inputs(model))
    layer = linear_layer(model, names[0])
    torch.testing.assert_close(layer.module(trace[names[0]].input), trace[names[0]].output)
    assert trace[names[1]].output.shape == (3, 7, 32)
    assert not any(module._forward_hooks for module in model.modules())


@torch.no_grad()
def test_stopping_runs_nothing_above(tiny_lm: LM) -> None:
    model, _ = tiny_lm
    block = BLOCK[model.config.model_type]
    ran = []
    handle = model.get_submodule(block.format(2)).register_forward_hook(lambda *_: ran.append(1))
    with Trace(model, [block.format(1)], stop=True) as trace:
        model(**inputs(model))
    handle.remove()
    assert block.format(1) in trace.calls
    assert not ran


def test_an_error_of_the_model_is_not_swallowed(tiny_gpt2: LM) -> None:
    model, _ = tiny_gpt2
    with pytest.raises(IndexError), Trace(model, ["transformer.h.0"], stop=True):
        model(input_ids=torch.tensor([[10**6]]))
    assert not any(module._forward_hooks for module in model.modules())


@torch.no_grad()
def test_an_edited_output_is_gone_on_with(tiny_lm: LM) -> None:
    model, _ = tiny_lm
    name = BLOCK[model.config.model_type].format(1)
    before = model(**inputs(model)).logits
    with Trace(model, [name], edit=lambda _, __, output: output + 1.0) as trace:
        after = model(**inputs(model)).logits
    assert not torch.allclose(before, after)
    with Trace(model, [name]) as plain:
        model(**inputs(model))
    torch.testing.assert_close(trace[name].output, plain[name].output + 1.0)


def other_families() -> list[Any]:
    sizes = {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return [MistralForCausalLM(MistralConfig(**sizes)).eval(), Qwen2ForCausalLM(Qwen2Config(**sizes)).eval()]


@torch.no_grad()
def replayed_equals_the_forward_pass(model: Any) -> None:
    names = [BLOCK[model.config.model_type].format(block) for block in range(3)]
    with Trace(model, names) as trace:
        model(**inputs(model))
    blocks = [get_module(model, name) for name in names[1:]]
    calls = [trace[name] for name in names[1:]]
    assert torch.equal(replay(blocks, calls, trace[names[0]].output), trace[names[2]].output)
    shifted = replay(blocks, calls, trace[names[0]].output + 1.0)
    with Trace(model, names, edit=lambda name, _, out: out + 1.0 if name == names[0] else out) as edited:
        model(**inputs(model))
    assert torch.equal(shifted, edited[names[2]].output)


def test_replay_equals_the_forward_pass(tiny_lm: LM) -> None:
    replayed_equals_the_forward_pass(tiny_lm[0])


def test_replay_holds_for_every_family_that_is_named() -> None:
    for model in other_families():
        check_family(model)
        replayed_equals_the_forward_pass(model)
