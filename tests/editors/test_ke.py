"""KE: the constraint its network is trained under, its training, cache and hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from editor_builders import ke_hparams

from kgt_editor.config import HParams
from kgt_editor.editors.hypernet.ke import KEEditor, KEHParams, apply_ke_to_model
from kgt_editor.editors.hypernet.training import Constraint, Sampler, batch_losses
from kgt_editor.errors import NumericalError, UsageError
from kgt_editor.lm.scoring import score_targets

LM = tuple[Any, Any]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))


def test_the_multiplier_grows_over_the_margin_and_shrinks_below_it_to_zero() -> None:
    constraint = Constraint(multiplier=1.0, margin=0.5, rate=0.1)
    above = constraint.penalty(torch.tensor(2.5, requires_grad=True))
    assert above.item() == pytest.approx(1.0 * (2.5 - 0.5))
    assert constraint.multiplier == pytest.approx(1.0 + 0.1 * 2.0)
    for _ in range(3):
        before = constraint.multiplier
        constraint.penalty(torch.tensor(0.1))
        assert constraint.multiplier == pytest.approx(before - 0.1 * 0.4)
    for _ in range(40):
        constraint.penalty(torch.tensor(0.1))
    assert constraint.multiplier == 0.0
    assert constraint.penalty(torch.tensor(7.0)).item() == 0.0
    assert constraint.multiplier > 0


def test_the_constraint_keeps_other_answers_in_place(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    batch = Sampler(model, tok, tiny_records, ke_hparams(model, batch_size=32, seed=5)).draw()
    losses = []
    for cloc, multiplier_lr in ((0.0, 0.0), (0.0, 5.0)):
        editor = KEEditor(ke_hparams(model, max_iters=40, lr=5e-3, cloc=cloc, multiplier_lr=multiplier_lr))
        editor.prepare(model, tok, tiny_records)
        with torch.no_grad():
            losses.append(batch_losses(model, editor._networks[model], batch))
    (free_edit, free_divergence), (_, held_divergence) = losses
    with torch.no_grad():
        start_edit, _ = batch_losses(model, editor.network_for(model), batch)
    assert free_edit < start_edit - 0.5
    assert held_divergence < free_divergence / 2


def test_embeddings_are_read_and_not_trained(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    before = model.get_input_embeddings().weight.detach().clone()
    editor = KEEditor(ke_hparams(model))
    editor.prepare(model, tok, tiny_records)
    assert torch.equal(model.get_input_embeddings().weight, before)
    vocabulary = before.shape[0]
    assert all(vocabulary not in value.shape for value in editor._networks[model].state_dict().values())


def test_training_reaches_every_part_of_the_network(tiny_lm: LM, tiny_records: Any) -> None:
    model, tok = tiny_lm
    hparams = ke_hparams(model)
    editor = KEEditor(hparams)
    first = editor.network_for(model).state_dict()
    editor.prepare(model, tok, tiny_records)
    trained = editor._networks[model].state_dict()
    assert {name for name in first if torch.equal(first[name], trained[name])} == {"scales"}


def test_second_preparation_comes_from_the_cache(tiny_lm: LM, tiny_records: Any, tmp_path: Path) -> None:
    model, tok = tiny_lm
    seen: list[tuple[str, int, int]] = []
    first = KEEditor(ke_hparams(model))
    first.prepare(model, tok, tiny_records, lambda *step: seen.append(step))
    assert seen == [("KE hypernetwork", i, 4) for i in range(1, 5)]
    second = KEEditor(ke_hparams(model))
    second.prepare(model, tok, tiny_records, lambda *_: pytest.fail("trained again"))
    assert first._networks[model].state_dict().keys() == second._networks[model].state_dict().keys()
    for name, value in first._networks[model].state_dict().items():
        assert torch.equal(value, second._networks[model].state_dict()[name]), name
    KEEditor(ke_hparams(model, margin=0.5)).prepare(model, tok, tiny_records)
    assert len(list((tmp_path / "cache" / "ke").iterdir())) == 2


def test_several_edits_at_once_are_all_made(tiny_lm: LM, tiny_records: Any) -> None:
    model, tok = tiny_lm
    editor = KEEditor(ke_hparams(model, max_iters=1))
    editor.prepare(model, tok, tiny_records)
    chosen = tiny_records[:2]

    def score(lm: Any) -> list[float]:
        scores = score_targets(lm, tok, [record.query for record in chosen], [record.target_new for record in chosen])
        return [score.mean_log_prob for score in scores]

    before = score(model)
    edited, _ = editor.apply(model, tok, [record.request() for record in chosen])
    assert all(after > start for after, start in zip(score(edited), before, strict=True))


def test_diverged_training_is_a_numerical_error(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    with pytest.raises(NumericalError, match="KE training, iteration 1: the loss is nan; lower lr or edit_lr"):
        KEEditor(ke_hparams(model, edit_lr=1e38)).prepare(model, tok, tiny_records)


def test_training_needs_several_subjects(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    with pytest.raises(UsageError, match="KE trains on records of several subjects"):
        KEEditor(ke_hparams(model)).prepare(model, tok, tiny_records[:1])


def test_call_form_prepares_once(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    hparams, requests = ke_hparams(model), [tiny_records[0].request()]
    with pytest.raises(UsageError, match="KE trains a hypernetwork before the first edit: pass train_ds"):
        apply_ke_to_model(model, tok, requests, hparams)
    apply_ke_to_model(model, tok, requests, hparams, train_ds=tiny_records)
    edited, _ = apply_ke_to_model(model, tok, requests, hparams)
    assert edited is model


# What the KE files of EasyEdit hold, which it has no code for.
EASYEDIT = """
alg_name: "KE"
alg: KE
archive: ./results/models/KE/gpt2-xl
device: cuda:5
model_name: ./hugging_cache/gpt2-xl
model_class: GPT2LMHeadModel
tokenizer_class: GPT2Tokenizer
tokenizer_name: ./hugging_cache/gpt2-xl
inner_params: [transformer.h.46.mlp.c_proj.weight, transformer.h.46.mlp.c_fc.weight]
lr: 1e-5
edit_lr: 1e-2
lr_lr: 1e-3
lr_scale: 1.0
seed: 42
cedit: 0.1
cloc: 1.0
cbase: 1.0
dropout: 0.0
train_base: False
no_grad_layers: null
batch_size: 1
model_save_pt: 5000
silent: False
max_iters: 100000
log_interval: 10
eval_log_interval: 100
final_eval: True
val_interval: 10
early_stop_patience: 20000
early_stop_key: "loss/total_edit_val"
eval_only: True
half: False
debug: False
save: False
verbose: True
val_batch_size: 5
accumulate_bs: 10
val_steps: 500
opt: Adam
grad_clip: 100.
results_dir: ./results
"""


def test_easyedits_files_load_unchanged(tmp_path: Path) -> None:
    (tmp_path / "gpt2-xl.yaml").write_text(EASYEDIT)
    hparams = KEHParams.from_hparams(tmp_path / "gpt2-xl")
    assert hparams.lr == 1e-5
    assert hparams.edit_lr == 1e-2
    assert hparams.accumulate_bs == 10
    assert hparams.inner_params[0] == "transformer.h.46.mlp.c_proj.weight"
    (tmp_path / "gpt2-xl.yaml").write_text(EASYEDIT + "margn: 1\n")
    with pytest.raises(UsageError, match=r"unknown key 'margn'.*margin"):
        KEHParams.from_hparams(tmp_path / "gpt2-xl")


@pytest.mark.parametrize(("field", "value"), [("margin", -1), ("lstm_dim", 0), ("opt", "SGD"), ("train_base", True)])
def test_wrong_values_are_refused(field: str, value: Any, tiny_gpt2: LM) -> None:
    values = ke_hparams(tiny_gpt2[0]).model_dump()
    with pytest.raises(UsageError, match=field):
        KEHParams.build({**values, field: value}, "here")
    assert issubclass(KEHParams, HParams)
