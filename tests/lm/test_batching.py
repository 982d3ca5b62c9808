"""What is found out about a model, what is asked for it, and what is left as it was."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from architectures import WINDOW, build
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration

from kgt_editor.errors import NumericalError, UnsupportedModelError
from kgt_editor.kgt.ranking import best_continuations
from kgt_editor.lm import batching, continuations
from kgt_editor.lm.batching import Way, way_and_reason, way_of
from kgt_editor.lm.forward import dtype_of
from kgt_editor.lm.layers import device_of, plain_model
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.limits import attention_window
from kgt_editor.lm.scoring import score_targets

LM = tuple[Any, Any]


PROMPTS = ["Ada Brun was born in the town of", "Ada Brun was born in the town of", "At home Ada Brun spoke"]


TARGETS = ["Tarsil", "Old Velmora", "Quin"]


def passes_of(model: nn.Module) -> list[tuple[int, ...]]:
    """Shapes of the input of the passes from now on."""
    shapes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


def scores(model: Any, tok: Any) -> list[float]:
    return [score.log_prob for score in score_targets(model, tok, PROMPTS, TARGETS)]


def test_a_model_is_sampled_once_and_cheaply(tiny_lm: LM) -> None:
    model = tiny_lm[0]
    shapes = passes_of(model)
    assert way_of(model, 100) is Way.TREES
    assert len(shapes) <= 7
    assert sum(rows * tokens for rows, tokens in shapes) < 400
    shapes.clear()
    assert way_of(model, 100) is Way.TREES
    assert shapes == []


def test_another_kernel_format_or_window_is_sampled_anew(tiny_llama: LM, unmaskable: str) -> None:
    model = tiny_llama[0]
    assert way_of(model, 100) is Way.TREES
    shapes = passes_of(model)
    for change in (
        lambda: model.set_attn_implementation("eager"),
        lambda: model.to(torch.bfloat16),
        lambda: setattr(model.config, "sliding_window", 64),
    ):
        change()
        shapes.clear()
        assert way_of(model, 50) is Way.TREES
        assert shapes
    assert way_of(model, 65) is Way.PADDED_ROWS  # were it used, which a Llama's window is not
    model.set_attn_implementation(unmaskable)
    assert way_of(model, 50) is Way.PADDED_ROWS


def test_what_is_known_dies_with_the_model(tiny_gpt2: LM) -> None:
    before = len(batching._KNOWN)
    model = copy.deepcopy(tiny_gpt2[0])
    way_of(model, 10)
    assert len(batching._KNOWN) == before + 1
    del model
    assert len(batching._KNOWN) == before


@pytest.mark.parametrize("name", ["gpt2", "recurrent_gemma", "mamba2", "qwen3_next", "lfm2", "gpt_neo"])
def test_a_sample_leaves_everything_as_it_was(name: str) -> None:
    model = build(name)
    ids = torch.tensor([[5, 9, 13, 8]])

    def written() -> list[int]:
        found: list[int] = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        return found[0].tolist()

    expected = written()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    for way in (Way.TREES, Way.PADDED_ROWS):
        batching._try(model, attention_window(model), way)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert not model.training
    assert written() == expected


def test_the_reason_is_said_once(tiny_gpt2: LM, caplog: pytest.LogCaptureFixture) -> None:
    batching._say.cache_clear()
    model = build("mamba2")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            scores(model, tiny_gpt2[1])
    (line,) = [record.message for record in caplog.records if record.name == batching.__name__]
    assert line.startswith("Mamba2ForCausalLM reads texts in padded rows, slower than trees: its forward takes no")
    assert "\n" not in line


def test_a_window_that_is_too_large_for_a_sample_bounds_trees() -> None:
    model = build("mistral", sliding_window=4096, max_position_embeddings=8192)
    assert way_of(model, 1536) is Way.TREES
    way, why = way_and_reason(model, 1537)
    assert way is Way.PADDED_ROWS
    assert why == "texts of over 1536 tokens (its attention looks back over 4096)"


def test_windows_are_found_where_layers_use_them() -> None:
    assert attention_window(build("gemma3_text")) == WINDOW
    assert attention_window(build("gemma3_text", layer_types=["full_attention"] * 4)) is None
    assert attention_window(build("llama4_text")) == WINDOW
    assert attention_window(build("gpt_neo")) == WINDOW
    assert attention_window(build("llama")) is None


def test_padding_that_changes_a_text_leads_to_single_rows(tiny_lm: LM, unmaskable: str) -> None:
    model, tok = tiny_lm
    expected = scores(model, tok)
    model.set_attn_implementation(unmaskable)

    def disturb(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        mask = kwargs.get("attention_mask")
        if mask is not None:  # as a model whose positions are counted from the right
            output.logits = output.logits * (1 + (1 - mask).sum(1)[:, None, None] / mask.shape[1])
        return output

    model.register_forward_hook(disturb, with_kwargs=True)
    way, why = way_and_reason(model, 20)
    assert way is Way.SINGLE_ROWS
    assert "attention kernel 'unmaskable'" in why
    assert "texts read in padded rows change each other" in why
    shapes = passes_of(model)
    assert scores(model, tok) == pytest.approx(expected, abs=1e-4)
    assert {rows for rows, _ in shapes} == {1}
    pairs = [([5, 6, 7], [8, 9]), ([5, 6], [7])]
    by_hand = [model(input_ids=torch.tensor([a + b[:-1]])).logits[0, len(a) - 1 :].log_softmax(-1) for a, b in pairs]
    for found, wanted in zip(continuations.continuation_log_probs(model, pairs), by_hand, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)
    assert best_continuations(model, [([5, 6, 7], [[8], [9, 10]])], 2)


def test_a_model_that_only_fails_in_trees_is_read_in_rows(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    expected = scores(model, tok)
    model = copy.deepcopy(model)

    def refuse(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("past_key_values") is not None:
            raise AttributeError("this cache cannot be cropped\nsecond line")

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    way, why = way_and_reason(model, 20)
    assert way is Way.PADDED_ROWS
    assert why == "it cannot be given texts in trees (AttributeError: this cache cannot be cropped)"
    assert scores(model, tok) == pytest.approx(expected, abs=1e-4)


def test_memory_that_runs_out_during_a_sample_settles_nothing(tiny_gpt2: LM) -> None:
    model = tiny_gpt2[0]

    def full(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if "position_ids" in kwargs:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    hook = model.register_forward_pre_hook(full, with_kwargs=True)
    assert way_of(model, 20) is Way.PADDED_ROWS
    hook.remove()
    assert way_of(model, 20) is Way.TREES


def test_nan_settles_nothing_and_is_refused_in_rows(tiny_gpt2: LM) -> None:
    model = tiny_gpt2[0]
    head = model.get_output_embeddings().weight
    sound = head.detach().clone()
    with torch.no_grad():
        head[7, 3] = float("nan")
    for ask in (continuations.score_continuations, continuations.continuation_log_probs):
        with pytest.raises(NumericalError, match="GPT2LMHeadModel gives NaN logits"):
            ask(model, [([5], [6])])
    with torch.no_grad():
        head.copy_(sound)
    assert way_of(model, 20) is Way.TREES


def test_training_mode_and_encoder_decoders_are_refused(tiny_gpt2: LM) -> None:
    model, tok = tiny_gpt2
    with pytest.raises(
        UnsupportedModelError, match=r"GPT2LMHeadModel is in training mode, .* call model.eval\(\) first"
    ):
        scores(model.train(), tok)
    small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    bart = BartForConditionalGeneration(
        BartConfig(vocab_size=40, encoder_attention_heads=2, decoder_attention_heads=2, **small)
    )
    assert batching.check_model(bart.eval()) == (
        False,
        "BartForConditionalGeneration is an encoder-decoder; a causal language model is needed",
    )


def test_adapters_are_looked_through(tiny_lm: LM) -> None:
    base, tok = tiny_lm
    plain = scores(base, tok)
    model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    with pytest.raises(UnsupportedModelError, match=r"call model\.eval"):
        scores(model, tok)
    model.eval()
    assert plain_model(model) is base
    assert (max_positions(model), device_of(model), dtype_of(model)) == (256, base.device, base.dtype)
    assert way_of(model, 20) is Way.TREES
    found = scores(model, tok)
    model.add_adapter("other", LoraConfig(r=1, target_modules="all-linear"))
    shapes = passes_of(model)
    scores(model, tok)
    fewer = len(shapes)
    model.set_adapter("other")
    scores(model, tok)
    assert len(shapes) > 2 * fewer  # a sample too
    model.set_adapter("default")
    merged = model.merge_and_unload()
    assert found == pytest.approx(scores(merged, tok), abs=1e-3)
    assert found != pytest.approx(plain, abs=1e-3)


def test_prompt_tuning_is_read_in_rows(tiny_llama: LM) -> None:
    base = tiny_llama[0]
    model = get_peft_model(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own about position ids
        assert way_of(model, 20) is Way.PADDED_ROWS
        (found,) = continuations.continuation_log_probs(model, [([5, 6, 7], [8, 9])])
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits[0, -2:].log_softmax(-1)
    assert torch.allclose(found, wanted, atol=1e-5)


# Compiling takes half a minute; without, the compiled module calls what it was made of.
@pytest.mark.parametrize("stance", ["force_eager", pytest.param("default", marks=pytest.mark.slow)])
def test_a_compiled_model_is_called_through(tiny_gpt2: LM, stance: str) -> None:
    base, tok = build("llama", num_hidden_layers=1), tiny_gpt2[1]
    plain = scores(base, tok)
    model = torch.compile(base, backend="eager")
    assert plain_model(model) is base
    assert (max_positions(model), device_of(model), dtype_of(model)) == (256, base.device, base.dtype)
    with torch.compiler.set_stance(stance):
        assert way_of(model, 20) is Way.TREES
        assert scores(model, tok) == pytest.approx(plain, abs=1e-4)


def test_an_offloaded_model_reads_trees(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    plain = scores(model, tok)
    cpu_offload(model, execution_device=torch.device("cpu"))
    shapes = passes_of(model)
    assert way_of(model, 20) is Way.TREES
    assert shapes  # its weights are elsewhere now
    assert scores(model, tok) == pytest.approx(plain, abs=1e-4)


def test_a_quantised_model_is_read_as_each_text_alone(tiny_llama: LM) -> None:
    model = tiny_llama[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own notes on its quantisation's future
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    # The scale of its activations is that of all that is in a pass.
    assert way_of(model, 20) is Way.SINGLE_ROWS
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits[0, -2:].log_softmax(-1)
    (found,) = continuations.continuation_log_probs(model, [([5, 6, 7], [8, 9])])
    assert torch.equal(found, wanted)


def test_no_engine_is_called_past_the_dispatch() -> None:
    """Only lm/ itself, and the ranking that asks lm.batching first, know how texts are put together."""
    root = Path(batching.__file__).parents[1]
    engines = ("lm.packed", "lm.sample", "Tree(", "score_packed", "score_rows", "tree_log_probs", "row_log_probs")
    for file in root.rglob("*.py"):
        if file.parent.name != "lm" and file.name != "ranking.py":
            assert not [name for name in engines if name in file.read_text(encoding="utf-8")], file
