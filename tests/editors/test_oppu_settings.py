"""Profiles, precision, wrapped models and settings of OPPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from editor_builders import LORA_MODULES, oppu_hparams
from oppu_cases import LM, LONG, PROMPTS, SHORT, edited, logits, told
from torch import nn

from kgt_editor.editors.base import create_editor
from kgt_editor.editors.icl import ICLEditor, ICLHParams
from kgt_editor.editors.oppu.editor import OPPUEditor, OPPUHParams, apply_oppu_to_model, encode_feedback
from kgt_editor.editors.oppu.model import with_shared_weights
from kgt_editor.errors import NumericalError, UnsupportedModelError, UsageError
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.scoring import score_targets

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"


def test_profile_and_retrieved_feedback_stand_in_front(tiny_lm: LM) -> None:
    _, tok = tiny_lm
    personal = edited(tiny_lm, LONG, SHORT, retrieval_k=1, profile="I teach.", num_steps=2)
    query = "The tongue of Ada Brun is"
    ahead = "I teach.\nThe mother tongue of Ada Brun is Old Velmoran\n"
    assert personal.contexts([query]) == [Context(ahead + query, 1.0)]
    assert personal.prefixes([f"{query} Old Velmoran"]) == [Context(ahead, 1.0)]
    assert personal.score_targets([query], ["Quin"]) == score_targets(personal.lm, tok, [ahead + query], ["Quin"])
    batch = tok([query], return_tensors="pt")
    out = personal.generate(**batch, max_new_tokens=3)
    assert torch.equal(out[:, : batch.input_ids.shape[1]], batch.input_ids)
    assert logits(personal, tok, query).shape[1] == batch.input_ids.shape[1]


def test_in_tuning_feedback_is_not_retrieved_for_itself(tiny_gpt2: LM) -> None:
    personal = edited(tiny_gpt2, LONG, SHORT, retrieval_k=2, num_steps=1)
    ids, _, labels = encode_feedback(personal, [told(LONG)])
    text = tiny_gpt2[1].decode(ids[0])
    assert text.count("Velmoran") == 1
    assert "Milo Castrel was born in the town of Velmora" in text
    answer = tiny_gpt2[1].decode(labels[0][labels[0] != -100])
    assert answer.strip() == "Old Velmoran"


def test_without_either_it_is_a_plain_causal_lm(tiny_lm: LM) -> None:
    _, tok = tiny_lm
    personal = edited(tiny_lm, LONG)
    batch = tok(PROMPTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        output = personal(**batch, use_cache=True, labels=batch.input_ids)
        assert torch.equal(output.logits, personal.lm(**batch).logits)
    assert output.past_key_values is not None
    assert output.loss.isfinite()


def test_a_model_in_half_precision_gets_an_adapter(tiny_lm: LM) -> None:
    model, tok = tiny_lm[0].to(torch.bfloat16), tiny_lm[1]
    before = logits(model, tok)
    personal, restore = OPPUEditor(oppu_hparams(model)).apply(model, tok, [LONG], return_orig_weights=True)
    assert {value.dtype for value in model.state_dict().values()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in personal.tuned} == {torch.float32}
    found = logits(personal, tok)
    assert found.dtype == torch.bfloat16
    assert not torch.equal(found, before)
    assert callable(restore)
    restore()
    assert torch.equal(logits(personal, tok), before)


def test_quantised_wrapped_and_adapted_models_are_refused(tiny_gpt2: LM) -> None:
    model, tok = tiny_gpt2
    editor = OPPUEditor(oppu_hparams(model))
    wrapped, _ = ICLEditor(ICLHParams()).apply(model, tok, [])
    adapted = edited(tiny_gpt2).adapter
    quantised = with_shared_weights(model)
    quantised.is_quantized = True
    for found, match in ((wrapped, "wrapped as InContextLM"), (adapted, "adapter already"), (quantised, "quantised")):
        supported, reason = editor.supports(found)
        assert not supported
        assert match in reason
        with pytest.raises(UnsupportedModelError, match=f"'oppu'.*{match}"):
            editor.apply(found, tok, [LONG])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"target_modules": ("c_attn", "q_proj")}, "no module 'q_proj'"),
        ({"layers": (7,)}, r"no module 'c_attn' in the blocks \[7\]"),
        ({"target_modules": ("mlp",)}, "'transformer.h.0.mlp' is a GPT2MLP"),
    ],
)
def test_modules_that_cannot_be_adapted_are_named(change: dict[str, Any], match: str, tiny_gpt2: LM) -> None:
    supported, reason = OPPUEditor(oppu_hparams(tiny_gpt2[0], **change)).supports(tiny_gpt2[0])
    assert not supported
    assert re.search(match, reason)


def test_only_the_named_layers_get_an_adapter(tiny_lm: LM) -> None:
    personal = edited(tiny_lm, layers=(1,))
    names = [name for name, _ in personal.adapter.named_parameters() if "lora_A" in name]
    assert len(names) == len(LORA_MODULES[tiny_lm[0].config.model_type])
    assert all(".1." in name for name in names)


def test_nan_is_reported_and_nothing_changes(tiny_gpt2: LM) -> None:
    personal = edited(tiny_gpt2, LONG)
    before, history = personal.state()
    with torch.no_grad():
        tiny_gpt2[0].transformer.h[2].mlp.c_fc.bias.fill_(float("nan"))
    with pytest.raises(NumericalError, match="OPPU, step 0: the loss is nan; lower lr"):
        OPPUEditor(personal.hparams).apply(personal, tiny_gpt2[1], [SHORT])
    assert all(torch.equal(old, new) for old, new in zip(before, personal.tuned, strict=True))
    assert personal.memory.feedback == history
    assert not any(parameter.requires_grad for parameter in personal.tuned)


def test_a_prompt_beyond_the_context_is_refused(tiny_gpt2: LM) -> None:
    with pytest.raises(UsageError, match="does not fit the model's context of 256"):
        edited(tiny_gpt2, {"prompt": "town of " * 200, "target_new": "Quin"})


# The keys and value spellings of EasyEdit's LoRA files.
EASYEDIT = """\
alg_name: "LoRA"
model_name: "./hugging_cache/some-model"
device: 0

lora_type: "adalora"
layers: []
num_steps: 5
batch_size: 1
max_length: 30
lr: 5e-3
weight_decay: 0
kl_factor: 0
rank: 8
lora_alpha: 32
lora_dropout: 0.1
norm_constraint: false
target_modules: ["q_proj", "v_proj"]  #["up_proj", "down_proj"]
model_parallel: false
"""


def test_easyedits_own_file_is_accepted_and_runs(tiny_llama: LM, tmp_path: Path) -> None:
    path = tmp_path / "lora.yaml"
    path.write_text(EASYEDIT, encoding="utf-8")
    hparams = OPPUHParams.from_hparams(path)
    assert (hparams.lr, hparams.alg_name, hparams.norm_constraint) == (5e-3, "LoRA", None)
    assert hparams.override({"lr": "1e-3"}).lr == 1e-3
    personal, restore = apply_oppu_to_model(*tiny_llama, [LONG], hparams, train_ds=None)
    assert restore == {}
    assert isinstance(personal, nn.Module)
    assert any(parameter.any() for parameter in personal.tuned)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_stepz": 3}, "unknown key 'num_stepz'.*num_steps"),
        ({"lora_type": "dora"}, "lora_type.*'lora' or 'adalora'"),
        ({"norm_constraint": 5e-4}, "norm_constraint.*set false"),
        ({"kl_factor": 0.5}, "kl_factor"),
        ({"target_modules": ()}, "target_modules"),
        ({"alg_name": "QLoRA"}, "alg_name"),
    ],
)
def test_bad_settings_are_refused_by_name(change: dict[str, Any], match: str, tiny_gpt2: LM) -> None:
    values = oppu_hparams(tiny_gpt2[0]).model_dump()
    with pytest.raises(UsageError, match=match):
        OPPUHParams.build({**values, **change}, "test")


@pytest.mark.parametrize("model", ["testbed-gpt2", "testbed-llama", "gpt2", "gpt2-xl", "Llama-2-7b-hf", "llama3-8b"])
def test_every_shipped_file_loads(model: str) -> None:
    hparams = create_editor("oppu", model, HPARAMS).hparams
    assert isinstance(hparams, OPPUHParams)
    assert hparams.alg_name == "OPPU"
