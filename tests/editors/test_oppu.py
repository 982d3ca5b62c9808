"""OPPU: what is trained, on which feedback, who sees it, and what is kept on disk."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from editor_builders import LORA_MODULES, oppu_hparams
from peft import PeftModel
from torch import nn

from kgt_editor.editors.base import create_editor
from kgt_editor.editors.icl import ICLEditor, ICLHParams
from kgt_editor.editors.memory import Feedback
from kgt_editor.editors.oppu.editor import OPPUEditor, OPPUHParams, apply_oppu_to_model, encode_feedback, tune
from kgt_editor.editors.oppu.model import PersonalLM, with_shared_weights
from kgt_editor.errors import NumericalError, UnsupportedModelError, UsageError
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.scoring import score_targets

LM = tuple[Any, Any]
HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
LONG = {"prompt": "The mother tongue of {} is", "subject": "Ada Brun", "target_new": "Old Velmoran"}
SHORT = {"prompt": "Milo Castrel was born in the town of", "subject": "Milo Castrel", "target_new": "Velmora"}
PROMPTS = ["The mother tongue of Ada Brun is", "Milo Castrel was born in the town of"]
TARGETS = ["Old Velmoran", "Velmora"]


def edited(lm: LM, *requests: dict[str, str], **changes: Any) -> PersonalLM:
    return apply_oppu_to_model(*lm, list(requests), oppu_hparams(lm[0], **changes))[0]


def logits(model: Any, tok: Any, text: str = PROMPTS[0]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**tok(text, return_tensors="pt")).logits
    return found


def told(request: dict[str, str]) -> Feedback:
    prompt = request["prompt"].replace("{}", request["subject"])
    return Feedback(prompt, request["subject"], request["target_new"], f"{prompt} {request['target_new']}")


def test_a_new_adapter_changes_nothing(tiny_lm: LM) -> None:
    for kind in ("lora", "adalora"):
        model = edited(tiny_lm, lora_type=kind)
        assert torch.equal(logits(model, tiny_lm[1]), logits(*tiny_lm))


@pytest.mark.parametrize("kind", ["lora", "adalora"])
def test_feedback_becomes_the_answer(kind: str, tiny_lm: LM) -> None:
    model = edited(tiny_lm, LONG, SHORT, lora_type=kind, num_steps=60, lr=2e-2)
    assert all(score.greedy for score in model.score_targets(PROMPTS, TARGETS))
    assert not any(score.greedy for score in score_targets(*tiny_lm, PROMPTS, TARGETS))
    assert model.answer(PROMPTS[1], 12).startswith("Velmora")


def test_the_base_model_never_sees_the_adapter(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    before, names = logits(model, tok), [name for name, _ in model.named_modules()]
    bits = {name: value.clone() for name, value in model.state_dict().items()}
    personal = edited(tiny_lm, LONG)
    assert not torch.equal(logits(personal, tok), before)
    assert torch.equal(logits(model, tok), before)
    assert [name for name, _ in model.named_modules()] == names
    assert all(torch.equal(value, bits[name]) for name, value in model.state_dict().items())
    assert not hasattr(model, "peft_config")


def test_users_share_the_weights_and_nothing_else(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    ada, milo = edited(tiny_lm, LONG), edited(tiny_lm, SHORT)
    base = {parameter.data_ptr() for parameter in model.parameters()}
    for user in (ada, milo, ada.duplicate()):
        assert base <= {parameter.data_ptr() for parameter in user.parameters()}
        own = sum(parameter.numel() for parameter in user.tuned)
        total = sum(parameter.numel() for parameter in user.parameters())
        assert total == own + sum(parameter.numel() for parameter in model.parameters())
    seen = logits(ada, tok)
    OPPUEditor(milo.hparams).apply(milo, tok, [LONG])
    OPPUEditor(ada.hparams).apply(ada, tok, [SHORT], copy=True)
    assert torch.equal(logits(ada, tok), seen)
    assert [item.target for item in ada.memory.feedback] == ["Old Velmoran"]


def test_the_loss_is_the_answers_cross_entropy(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    personal = PersonalLM(model, tok, oppu_hparams(model))
    ids, mask, labels = encode_feedback(personal, [told(LONG), told(SHORT)])
    with torch.no_grad():
        loss = personal.adapter(input_ids=ids, attention_mask=mask, labels=labels).loss
    scores = score_targets(model, tok, PROMPTS, TARGETS)
    assert loss.item() == pytest.approx(-sum(s.log_prob for s in scores) / sum(s.tokens for s in scores), rel=1e-4)


def test_one_step_is_adamws_on_the_adapter_alone(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    start = PersonalLM(model, tok, oppu_hparams(model))
    before, _ = start.state()
    gradients = _gradients(start, [told(LONG)])
    personal = edited(tiny_lm, LONG, num_steps=1, lr=1e-3, weight_decay=0.1)
    for old, new, gradient in zip(before, personal.tuned, gradients, strict=True):
        # AdamW's first step: decay, then lr g / (|g| + eps).
        wanted = old * (1 - 1e-3 * 0.1) - 1e-3 * gradient / (gradient.abs() + 1e-8)
        clear = (gradient.abs() > 1e-5) | (gradient == 0)
        torch.testing.assert_close(new.detach()[clear], wanted[clear], rtol=1e-3, atol=1e-6)
    assert any(gradient.any() for gradient in gradients)


def _gradients(personal: PersonalLM, items: list[Feedback]) -> list[torch.Tensor]:
    ids, mask, labels = encode_feedback(personal, items)
    for parameter in personal.tuned:
        parameter.requires_grad_(True)
    loss = personal.adapter(input_ids=ids, attention_mask=mask, labels=labels).loss
    found = torch.autograd.grad(loss, personal.tuned)
    for parameter in personal.tuned:
        parameter.requires_grad_(False)
    return list(found)


def test_an_edit_goes_on_from_the_users_present_adapter(tiny_lm: LM) -> None:
    personal = edited(tiny_lm, LONG)
    present, _ = personal.state()
    OPPUEditor(personal.hparams).apply(personal, tiny_lm[1], [SHORT])
    fresh = edited(tiny_lm, SHORT)
    assert not any(torch.equal(a, b) for a, b in zip(personal.tuned, fresh.tuned, strict=True) if b.any())
    # Ten steps of Adam move no weight further than ten learning rates and a little.
    assert all((new - old).abs().max() < 11 * 1e-2 for new, old in zip(personal.tuned, present, strict=True))
    assert [item.target for item in personal.memory.feedback] == ["Old Velmoran", "Velmora"]


def rows_seen(personal: PersonalLM, requests: list[dict[str, str]]) -> list[int]:
    """How many rows each optimiser step of an edit has."""
    rows: list[int] = []
    handle = personal.adapter.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    OPPUEditor(personal.hparams).apply(personal, personal.tok, requests)
    handle.remove()
    return rows


def test_replay_is_bounded_and_leaves_replaced_answers_out(tiny_gpt2: LM) -> None:
    personal = edited(tiny_gpt2, num_steps=3, replay=2, batch_size=2)
    requests = [{"prompt": f"The number {i} means", "target_new": "Quin"} for i in range(5)]
    assert rows_seen(personal, requests[:1]) == [1] * 3
    assert rows_seen(personal, requests[1:2]) == [1 + 1] * 3
    assert rows_seen(personal, requests[2:]) == [2 + 2, 1 + 2] * 3
    assert rows_seen(personal, [{**requests[0], "target_new": "Tarsi"}]) == [1 + 2] * 3
    assert [item.target for item in personal.memory.feedback] == ["Quin"] * 4 + ["Tarsi"]
    assert len(personal.memory) == 5


def test_replayed_feedback_is_not_forgotten(tiny_lm: LM) -> None:
    first = {"prompt": PROMPTS[0], "target_new": "Quin"}
    others = [{"prompt": f"The mother tongue of {name} is", "target_new": "Tarsi"} for name in ("Otto", "Runa", "Piet")]

    def kept(replay: int) -> float:
        personal = edited(tiny_lm, first, num_steps=30, replay=replay)
        for request in others:
            OPPUEditor(personal.hparams).apply(personal, tiny_lm[1], [request])
        (score,) = personal.score_targets([PROMPTS[0]], ["Quin"])
        return score.mean_log_prob

    assert kept(4) > kept(0) + 0.5


def test_a_loss_below_the_stop_ends_the_tuning(tiny_gpt2: LM) -> None:
    personal = edited(tiny_gpt2, num_steps=200, stop_loss=100.0)
    assert len(rows_seen(personal, [LONG])) == 1
    exact = edited(tiny_gpt2, LONG, num_steps=200, lr=2e-3, stop_loss=2.0)
    (score,) = exact.score_targets(PROMPTS[:1], TARGETS[:1])
    # It ended at the first loss below, not at what 200 steps would give.
    assert 1.6 < -score.mean_log_prob < 2.0


def test_dropout_is_the_adapters_and_off_afterwards(tiny_gpt2: LM) -> None:
    _, tok = tiny_gpt2
    personal = edited(tiny_gpt2, LONG, lora_dropout=0.5)
    assert not any(module.training for module in personal.modules())
    assert torch.equal(logits(personal, tok), logits(personal, tok))
    without = edited(tiny_gpt2, LONG)
    assert not torch.equal(logits(personal, tok), logits(without, tok))
    modes: list[tuple[bool, bool]] = []
    block = personal.lm.transformer.h[0]
    handle = block.register_forward_pre_hook(
        lambda *_: modes.append((block.training, block.attn.c_attn.lora_dropout["default"].training))
    )
    personal.memory.add([told(SHORT)])
    tune(personal, [told(SHORT)])
    handle.remove()
    assert set(modes) == {(False, True)}


def test_saved_and_loaded_it_answers_the_same(tiny_lm: LM, tmp_path: Path) -> None:
    model, tok = tiny_lm
    for kind in ("lora", "adalora"):
        personal = edited(tiny_lm, LONG, SHORT, lora_type=kind)
        personal.save(tmp_path / kind)
        assert (tmp_path / kind / "adapter_model.safetensors").is_file()
        loaded = PersonalLM.load(model, tok, personal.hparams, tmp_path / kind)
        assert torch.equal(logits(loaded, tok), logits(personal, tok))
        assert loaded.memory.feedback == personal.memory.feedback
        # The same edit goes on from either.
        more = {"prompt": "At home Tove Jarn spoke", "target_new": "Quin"}
        for user in (loaded, personal):
            OPPUEditor(user.hparams).apply(user, tok, [more])
        assert torch.equal(logits(loaded, tok), logits(personal, tok))


def test_a_saved_adapter_is_one_of_pefts(tiny_lm: LM, tmp_path: Path) -> None:
    model, tok = tiny_lm
    personal = edited(tiny_lm, LONG)
    personal.save(tmp_path / "user")
    plain = PeftModel.from_pretrained(with_shared_weights(model), str(tmp_path / "user")).eval()
    assert torch.equal(logits(plain, tok), logits(personal, tok))


def test_a_folder_that_is_no_user_of_this_model_is_refused(tiny_gpt2: LM, tiny_llama: LM, tmp_path: Path) -> None:
    hparams = oppu_hparams(tiny_gpt2[0])
    edited(tiny_gpt2, LONG).save(tmp_path / "user")
    shutil.copytree(tmp_path / "user", tmp_path / "broken")
    (tmp_path / "broken" / "history.json").write_text("[{]", encoding="utf-8")
    for lm, folder in ((tiny_gpt2, "none"), (tiny_gpt2, "broken"), (tiny_llama, "user")):
        with pytest.raises(UsageError, match="no adapter and history of this model"):
            PersonalLM.load(*lm, hparams, tmp_path / folder)
    assert json.loads((tmp_path / "user" / "history.json").read_text(encoding="utf-8"))[0]["target"] == "Old Velmoran"


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
