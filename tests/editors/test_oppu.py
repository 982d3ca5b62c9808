"""OPPU: what is trained, on which feedback, who sees it, and what is kept on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from editor_builders import oppu_hparams
from oppu_cases import LM, LONG, PROMPTS, SHORT, edited, logits, told
from peft import PeftModel

from kgt_editor.editors.memory import Feedback
from kgt_editor.editors.oppu.editor import OPPUEditor, encode_feedback, tune
from kgt_editor.editors.oppu.model import PersonalLM, with_shared_weights
from kgt_editor.errors import UsageError
from kgt_editor.lm.scoring import score_targets

TARGETS = ["Old Velmoran", "Velmora"]


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


def test_generate_without_prompts_is_refused_in_a_line(tiny_gpt2: LM) -> None:
    model, tok = tiny_gpt2
    personal = PersonalLM(model, tok, oppu_hparams(model))
    with pytest.raises(UsageError, match="generate needs input_ids"):
        personal.generate(max_new_tokens=1)


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


def modes(folder: Path) -> set[int]:
    """Of a folder and all that is in it."""
    return {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


def test_a_saved_adapter_is_one_of_pefts(tiny_lm: LM, tmp_path: Path) -> None:
    model, tok = tiny_lm
    personal = edited(tiny_lm, LONG)
    personal.save(tmp_path / "user")
    assert modes(tmp_path / "user") == {0o700, 0o600}
    plain = PeftModel.from_pretrained(with_shared_weights(model), str(tmp_path / "user")).eval()
    assert torch.equal(logits(plain, tok), logits(personal, tok))


def test_a_folder_that_is_no_user_of_this_model_is_refused(tiny_gpt2: LM, tiny_llama: LM, tmp_path: Path) -> None:
    hparams = oppu_hparams(tiny_gpt2[0])
    edited(tiny_gpt2, LONG).save(tmp_path / "user")
    shutil.copytree(tmp_path / "user", tmp_path / "broken")
    (tmp_path / "broken" / "history.json").write_text("[{]", encoding="utf-8")
    for name in ("adapter_model.safetensors", "adapter_config.json"):  # nothing is asked of a hub instead
        shutil.copytree(tmp_path / "user", tmp_path / f"without {name}")
        (tmp_path / f"without {name}" / name).unlink()
        with pytest.raises(UsageError, match=f"{name} is missing"):
            PersonalLM.load(*tiny_gpt2, hparams, tmp_path / f"without {name}")
    for lm, folder in ((tiny_gpt2, "none"), (tiny_gpt2, "broken"), (tiny_llama, "user")):
        with pytest.raises(UsageError, match="no adapter and history of this model"):
            PersonalLM.load(*lm, hparams, tmp_path / folder)
    assert json.loads((tmp_path / "user" / "history.json").read_text(encoding="utf-8"))[0]["target"] == "Old Velmoran"
