"""FT: both objectives and Adam's step by hand, the norm constraint, batches, and EasyEdit's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from editor_builders import ft_hparams

from kgt_editor.editors.ft import FTEditor, FTHParams, apply_ft_to_model, fine_tune, target_batches
from kgt_editor.errors import NumericalError, UnsupportedModelError, UsageError
from kgt_editor.lm.layers import frozen, linear_layer
from kgt_editor.lm.scoring import score_targets
from kgt_editor.lm.tokens import continuation_ids
from kgt_editor.requests import EditRequest

# Targets of two tokens and of one: the objectives differ, and the rows of a batch are unequal.
LONG = {"prompt": "The mother tongue of Ada Brun is", "subject": "Ada Brun", "target_new": "Old Velmoran"}
SHORT = {"prompt": "Milo Castrel was born in the town of", "subject": "Milo Castrel", "target_new": "Velmora"}
OBJECTIVES = pytest.mark.parametrize("objective", ["prompt_last", "target_new"])


def loss_of(model: Any, tok: Any, request: dict[str, str], objective: str) -> torch.Tensor:
    """The objective as its definition reads, one text without padding at a time; nats a token."""
    prompt, target = continuation_ids(tok, request["prompt"], request["target_new"])
    if objective == "prompt_last":
        log_probs = model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        return -torch.stack([log_probs[token] for token in target]).mean()
    log_probs = model(input_ids=torch.tensor([prompt + target])).logits[0].log_softmax(-1)
    return -torch.stack([log_probs[len(prompt) - 1 + i, token] for i, token in enumerate(target)]).mean()


def layer_of(model: Any, block: int = 1) -> Any:
    return linear_layer(model, ft_hparams(model).rewrite_module_tmp.format(block))


def change_of(model: Any, tok: Any, requests: list[dict[str, str]], hparams: FTHParams) -> torch.Tensor:
    """What an edit adds to block 1's layer, (out, in); the model is left as it was."""
    edited, _ = FTEditor(hparams).apply(model, tok, requests, copy=True)
    return layer_of(edited).matrix.detach() - layer_of(model).matrix.detach()


@OBJECTIVES
def test_loss_is_the_objective_by_hand(objective: str, tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    hparams = ft_hparams(model, objective_optimization=objective)
    requests = [EditRequest.parse(request) for request in (LONG, SHORT)]
    (batch,) = target_batches(model, tok, requests, hparams)
    with torch.no_grad():
        logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits
        wanted = torch.stack([loss_of(model, tok, request, objective) for request in (LONG, SHORT)])
    torch.testing.assert_close(batch.row_losses(logits[batch.rows, batch.columns]), wanted)


@OBJECTIVES
def test_one_step_is_adams_on_the_gradient_by_hand(objective: str, tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    layer = layer_of(model)
    loss = (loss_of(model, tok, LONG, objective) + loss_of(model, tok, SHORT, objective)) / 2
    (gradient,) = torch.autograd.grad(loss, layer.weight)
    # Adam's first step is lr g / (|g| + eps).
    wanted = layer.stored(-1e-3 * gradient / (gradient.abs() + 1e-8))
    hparams = ft_hparams(
        model, objective_optimization=objective, num_steps=1, lr=1e-3, norm_constraint=None, stop_loss=0.0
    )
    change = change_of(model, tok, [LONG, SHORT], hparams)
    # A gradient near Adam's eps has no sign to rely on.
    clear = layer.stored(gradient).abs() > 1e-5
    assert clear.float().mean() > 0.8
    torch.testing.assert_close(change[clear], wanted[clear], rtol=1e-2, atol=1e-6)


def test_weight_decay_pulls_the_weights_themselves(tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    hparams = ft_hparams(model, num_steps=1, norm_constraint=None, lr=1e-3, weight_decay=1e6)
    matrix = layer_of(model).matrix.detach()
    change = change_of(model, tok, [LONG], hparams)
    large = matrix.abs() > 1e-3
    assert torch.equal(change[large].sign(), -matrix[large].sign())


@pytest.mark.parametrize("distance", [5e-4, 2e-2])
def test_no_weight_moves_further_than_the_norm_constraint(distance: float, tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    change = change_of(model, tok, [LONG, SHORT], ft_hparams(model, norm_constraint=distance))
    assert change.abs().max().item() == pytest.approx(distance, rel=1e-2)
    free = change_of(model, tok, [LONG, SHORT], ft_hparams(model, norm_constraint=False))
    assert free.abs().max().item() > distance


def test_masked_target_edit_makes_the_target_the_answer(tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    assert not score_targets(model, tok, [LONG["prompt"]], [LONG["target_new"]])[0].greedy
    apply_ft_to_model(model, tok, [LONG], ft_hparams(model, norm_constraint=None))
    assert score_targets(model, tok, [LONG["prompt"]], [LONG["target_new"]])[0].greedy


def test_prompt_last_edit_makes_every_target_token_likelier_at_the_prompt(tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    prompt, target = continuation_ids(tok, LONG["prompt"], LONG["target_new"])
    assert len(target) == 2

    def log_probs() -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1)[target]

    before = log_probs()
    apply_ft_to_model(model, tok, [LONG], ft_hparams(model, objective_optimization="prompt_last"))
    assert bool((log_probs() > before + 1).all())


def test_requests_of_one_call_are_all_made(tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    requests = [LONG, SHORT, {**LONG, "prompt": "At home Tove Jarn spoke", "subject": "Tove Jarn"}]
    apply_ft_to_model(model, tok, requests, ft_hparams(model, norm_constraint=None, batch_size=2, num_steps=60))
    prompts, targets = [r["prompt"] for r in requests], [r["target_new"] for r in requests]
    assert all(score.greedy for score in score_targets(model, tok, prompts, targets))


def test_batches_hold_batch_size_requests(tiny_gpt2: tuple[Any, Any]) -> None:
    model, tok = tiny_gpt2
    requests = [EditRequest.parse(request) for request in (LONG, SHORT, LONG)]
    batches = target_batches(model, tok, requests, ft_hparams(model, batch_size=2))
    assert [len(batch.ids) for batch in batches] == [2, 1]
    # Two steps a pass instead of one: not the same update.
    one = change_of(model, tok, [LONG, SHORT], ft_hparams(model, num_steps=1))
    two = change_of(model, tok, [LONG, SHORT], ft_hparams(model, num_steps=1, batch_size=1))
    assert not torch.allclose(one, two)


def test_a_loss_below_the_stop_takes_no_step(tiny_gpt2: tuple[Any, Any]) -> None:
    model, tok = tiny_gpt2
    assert not change_of(model, tok, [LONG], ft_hparams(model, stop_loss=100.0)).any()
    hparams = ft_hparams(model, norm_constraint=None, lr=1e-3, num_steps=200, stop_loss=2.0)
    edited, _ = FTEditor(hparams).apply(model, tok, [LONG], copy=True)
    with torch.no_grad():
        loss = loss_of(edited, tok, LONG, "target_new").item()
    # It ended at the first loss below, not at what 200 steps would give.
    assert 1.8 < loss < 2.0


def test_tuning_leaves_the_model_alone_until_the_update_is_written(tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    hparams = ft_hparams(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with frozen(model):
        batches = target_batches(model, tok, [EditRequest.parse(LONG)], hparams)
        update = fine_tune(model, batches, FTEditor(hparams).layers(model), hparams)
    assert [matrix.shape for matrix in update.values()] == [layer_of(model).shape]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_several_layers_are_tuned_together(tiny_gpt2: tuple[Any, Any]) -> None:
    model, tok = tiny_gpt2
    editor = FTEditor(ft_hparams(model, layers=(1, 0)))
    _, restore = editor.apply(model, tok, [LONG], return_orig_weights=True)
    assert isinstance(restore, dict)
    assert sorted(restore) == ["transformer.h.0.mlp.c_proj.weight", "transformer.h.1.mlp.c_proj.weight"]


def test_nan_is_reported_and_leaves_the_model(tiny_gpt2: tuple[Any, Any]) -> None:
    model, tok = tiny_gpt2
    with torch.no_grad():
        model.transformer.h[2].mlp.c_fc.bias.fill_(float("nan"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(NumericalError, match="FT, step 0: the loss is nan; lower lr"):
        FTEditor(ft_hparams(model)).apply(model, tok, [LONG])
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(7.0), before[name].nan_to_num(7.0)), name


def test_wrong_module_names_are_refused_by_name(tiny_gpt2: tuple[Any, Any]) -> None:
    model, _ = tiny_gpt2
    editor = FTEditor(ft_hparams(model, layers=(5,)))
    supported, reason = editor.supports(model)
    assert not supported
    assert "transformer.h.5" in reason
    with pytest.raises(UnsupportedModelError, match=r"transformer\.h\.5"):
        editor.apply(model, None, [])


def test_a_request_without_subject_is_made(tiny_gpt2: tuple[Any, Any]) -> None:
    model, tok = tiny_gpt2
    assert change_of(model, tok, [{"prompt": "Ada was born in", "target_new": "Tarsil"}], ft_hparams(model)).any()


# The keys and value spellings of EasyEdit's files: "5e-4" without a dot is a text in YAML 1.1.
EASYEDIT = """\
alg_name: "FT"
model_name: "./hugging_cache/some-model"
device: 0
layers: [21]
num_steps: 25
batch_size: 1
max_length: 40
lr: 5e-4
weight_decay: 0
kl_factor: 0
norm_constraint: {constraint}
objective_optimization: "prompt_last"
rewrite_module_tmp: "model.layers.{{}}.mlp.down_proj.weight"
layer_module_tmp: "model.layers.{{}}"
mlp_module_tmp: "model.layers.{{}}.mlp"
attn_module_tmp: "model.layers.{{}}.self_attn"
ln_f_module: "model.norm"
lm_head_module: "lm_head"
model_parallel: false
"""


@pytest.mark.parametrize(("constraint", "wanted"), [("5e-4", 5e-4), ("0.001", 1e-3), ("false", None)])
def test_easyedits_own_file_is_accepted(constraint: str, wanted: float | None, tmp_path: Path) -> None:
    path = tmp_path / "ft.yaml"
    path.write_text(EASYEDIT.format(constraint=constraint), encoding="utf-8")
    hparams = FTHParams.from_hparams(path)
    assert hparams.lr == 5e-4
    assert hparams.norm_constraint == wanted
    assert hparams.override({"lr": "1e-3"}).norm_constraint == wanted
    model = torch.nn.Module()
    assert FTEditor(hparams).layers(model) == ["model.layers.21.mlp.down_proj"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_stepz": 3}, "unknown key 'num_stepz'.*num_steps"),
        ({"norm_constraint": True}, "norm_constraint.*or false"),
        ({"norm_constraint": 0.0}, "norm_constraint.*greater than 0"),
        ({"objective_optimization": "last"}, "objective_optimization.*'prompt_last' or 'target_new'"),
        ({"kl_factor": 0.5}, "kl_factor"),
        ({"layers": ()}, "layers"),
    ],
)
def test_bad_settings_are_refused_by_name(change: dict[str, Any], match: str, tiny_gpt2: tuple[Any, Any]) -> None:
    values = ft_hparams(tiny_gpt2[0]).model_dump()
    with pytest.raises(UsageError, match=match):
        FTHParams.build({**values, **change}, "test")
