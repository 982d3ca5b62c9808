"""ROME: the rank-one insert against eq. 2 by hand, the search for v*, and its inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from editor_builders import rome_hparams
from torch import Tensor
from torch.nn.functional import kl_div

from kgt_editor.editors.key_value.hparams import ROMEHParams
from kgt_editor.editors.key_value.keys import Covariance, key_moments
from kgt_editor.editors.key_value.rome import ROMEEditor, apply_rome_to_model, rank_one_update
from kgt_editor.editors.key_value.search import ESSENCE_PROMPT, ValueSearch
from kgt_editor.editors.targets import token_ending_at
from kgt_editor.errors import NumericalError, UnsupportedModelError, UsageError
from kgt_editor.lm.layers import linear_layer
from kgt_editor.lm.scoring import score_targets
from kgt_editor.lm.tokens import continuation_ids, join
from kgt_editor.lm.trace import Trace
from kgt_editor.requests import EditRequest


def subject_key(model: Any, tok: Any, name: str, text: str) -> torch.Tensor:
    """The layer's input at the last token of ``text``, which ends with the subject."""
    with torch.no_grad(), Trace(model, [name], stop=True) as trace:
        model(input_ids=torch.tensor([tok(text).input_ids]))
    return trace[name].input[0, -1]


def layer_output(model: Any, tok: Any, name: str, text: str) -> torch.Tensor:
    with torch.no_grad(), Trace(model, [name], stop=True) as trace:
        model(input_ids=torch.tensor([tok(text).input_ids]))
    return trace[name].output[0, -1]


def test_rank_one_update_is_eq_2_by_hand() -> None:
    # W = [[1, 0], [0, 2]], k* = (1, 2), v* = (3, 5): Lambda = (v* - W k*) / ((C^-1 k*) . k*), C = diag(1, 4).
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    key, value = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    covariance = Covariance(torch.linalg.cholesky(torch.diag(torch.tensor([1.0, 4.0]))))
    update = rank_one_update(key[None], key, value - weight @ key, covariance)
    # C^-1 k* = (1, .5); its product with k* is 2; v* - W k* = (2, 1); Lambda = (1, .5).
    torch.testing.assert_close(update, torch.tensor([[1.0, 0.5], [0.5, 0.25]]))
    torch.testing.assert_close((weight + update) @ key, value)


def test_rank_one_update_without_covariance_projects_on_the_key() -> None:
    key, delta = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])
    torch.testing.assert_close(rank_one_update(key[None], key, delta), torch.outer(delta, key) / 5)


def test_rank_one_update_refuses_an_orthogonal_key() -> None:
    with pytest.raises(NumericalError, match="orthogonal"):
        rank_one_update(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 1.0]), torch.ones(2))


def test_edited_layer_gives_v_star_at_the_subject(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    hparams = rome_hparams(model)
    record = tiny_records[8]
    name = hparams.rewrite_module_tmp.format(1)
    request = EditRequest.parse(record.request())
    prefix = request.prompt[: request.subject_end]
    search = ValueSearch(model, tok, request, ["", *hparams.context_prefixes], 1, hparams)
    wanted = layer_output(model, tok, name, prefix) + search.find_delta()
    torch.testing.assert_close(search.keys[0], subject_key(model, tok, name, prefix))
    torch.testing.assert_close(search.keys[1], subject_key(model, tok, name, f"{hparams.context_prefixes[0]} {prefix}"))
    before = linear_layer(model, name).matrix.detach().clone()
    ROMEEditor(hparams).apply(model, tok, [record.request()])
    torch.testing.assert_close(layer_output(model, tok, name, prefix), wanted, rtol=1e-4, atol=1e-4)
    change = linear_layer(model, name).matrix.detach() - before
    assert torch.linalg.matrix_rank(change, rtol=1e-4) == 1


def test_edit_makes_the_target_the_answer(tiny_lm: tuple[Any, Any]) -> None:
    # The subject stands last: a random model's attention would not carry it to a later token.
    model, tok = tiny_lm
    request = {"prompt": "The town of birth of Ada Brun", "subject": "Ada Brun", "target_new": "Velmora"}
    assert not score_targets(model, tok, [request["prompt"]], [request["target_new"]])[0].greedy
    apply_rome_to_model(model, tok, [request], rome_hparams(model))
    assert score_targets(model, tok, [request["prompt"]], [request["target_new"]])[0].greedy


@pytest.mark.parametrize("share_prefix", [True, False])
def test_a_step_gives_the_models_own_logits(tiny_lm: tuple[Any, Any], tiny_records: Any, share_prefix: bool) -> None:
    model, tok = tiny_lm
    request = EditRequest.parse(tiny_records[0].request())
    prefixes = ["", "It rained.", "It rained, and they met again in spring."]
    hparams = rome_hparams(model, share_prefix=share_prefix)
    search = ValueSearch(model, tok, request, prefixes, 0, hparams)
    delta = torch.randn(model.config.hidden_size)
    block = hparams.layer_module_tmp.format(0)

    def changed(ids: list[int], column: int) -> Tensor:
        """All logits of a text by itself, with the change at the subject's last token."""

        def add(_: str, __: Tensor, output: Tensor) -> Tensor:
            output = output.clone()
            output[0, column] += delta
            return output

        with Trace(model, [block], edit=add):
            logits: Tensor = model(input_ids=torch.tensor([ids])).logits[0]
        return logits

    with torch.no_grad():
        targets, essence = search._logits(delta)
        wanted = []
        for prefix in prefixes:
            prompt = join(prefix, request.prompt)
            stem, target = continuation_ids(tok, prompt, request.target_new)
            end = len(prompt) - len(request.prompt) + request.subject_end
            logits = changed([*stem, *target], token_ending_at(tok, prompt, end))
            wanted.append(logits[len(stem) - 1 : len(stem) + len(target) - 1])
        text = ESSENCE_PROMPT.format(request.subject)
        column = token_ending_at(tok, text, len(request.subject))
        alone = changed(tok(text).input_ids, column)[column]
    torch.testing.assert_close(targets, torch.cat(wanted), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(essence[0], alone, rtol=1e-4, atol=1e-4)


def test_a_shared_prefix_changes_nothing_but_the_time(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    request = EditRequest.parse(tiny_records[8].request())
    deltas = [
        ValueSearch(
            model, tok, request, ["", "It rained."], 0, rome_hparams(model, share_prefix=share, v_num_grad_steps=5)
        ).find_delta()
        for share in (True, False)
    ]
    torch.testing.assert_close(*deltas, rtol=1e-3, atol=1e-4)


def test_kl_term_is_the_divergence_of_the_edited_from_the_unedited(
    tiny_gpt2: tuple[Any, Any], tiny_records: Any
) -> None:
    model, tok = tiny_gpt2
    request = EditRequest.parse(tiny_records[0].request())

    def divergence(kl_factor: float) -> float:
        hparams = rome_hparams(model, kl_factor=kl_factor, v_weight_decay=0.0)
        search = ValueSearch(model, tok, request, [""], 1, hparams)
        with torch.no_grad():
            unedited = search._logits(torch.zeros(32))[1].log_softmax(-1)
        delta = search.find_delta()
        with torch.no_grad():
            edited = search._logits(delta)[1].log_softmax(-1)
        return kl_div(unedited, edited, log_target=True, reduction="sum").item()

    assert divergence(10.0) < 0.5 * divergence(0.0)


def test_delta_is_clamped(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    hparams = rome_hparams(model, clamp_norm_factor=0.25)
    request = EditRequest.parse(tiny_records[0].request())
    value = layer_output(model, tok, hparams.rewrite_module_tmp.format(1), request.prompt[: request.subject_end])
    delta = ValueSearch(model, tok, request, [""], 1, hparams).find_delta()
    assert delta.norm().item() == pytest.approx(0.25 * value.norm().item(), rel=1e-4)


def test_several_layers_each_get_an_update(tiny_gpt2: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    hparams = rome_hparams(model, layers=(1, 0))
    _, restore = ROMEEditor(hparams).apply(model, tok, [tiny_records[0].request()], return_orig_weights=True)
    assert isinstance(restore, dict)
    assert sorted(restore) == ["transformer.h.0.mlp.c_proj.weight", "transformer.h.1.mlp.c_proj.weight"]


def test_context_texts_are_kept_per_model(tiny_gpt2: tuple[Any, Any], tiny_llama: tuple[Any, Any]) -> None:
    gpt2, gpt2_tok = tiny_gpt2
    hparams = rome_hparams(gpt2, context_prefixes=(), context_template_length_params=((4, 2),))
    editor = ROMEEditor(hparams)
    other = type(gpt2)(gpt2.config)
    editor.prepare(gpt2, gpt2_tok)
    editor.prepare(other, gpt2_tok)
    assert editor._contexts[gpt2] != editor._contexts[other]


def test_an_edit_with_covariance_is_eq_2_by_hand(
    tiny_lm: tuple[Any, Any], tiny_records: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tok = tiny_lm
    model.double()
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    lines = [f"{first.query} {second.query}" for first in tiny_records for second in tiny_records]
    text = tmp_path / "text.txt"
    text.write_text("\n".join(lines), encoding="utf-8")
    hparams = rome_hparams(
        model, mom2_adjustment=True, mom2_dataset=str(text), mom2_dtype="float64", context_prefixes=("",)
    )
    name = hparams.rewrite_module_tmp.format(1)
    request = tiny_records[8].request()
    layer = linear_layer(model, name)
    # C over every token of the text, one line at a time; k* and W k* at the subject's last token.
    keys = []
    for line in lines:
        with torch.no_grad(), Trace(model, [name], stop=True) as trace:
            model(input_ids=torch.tensor([tok(line).input_ids]))
        keys.append(trace[name].input[0])
    stacked = torch.cat(keys)
    covariance = stacked.T @ stacked / len(stacked)
    parsed = EditRequest.parse(request)
    key = subject_key(model, tok, name, parsed.prompt[: parsed.subject_end])
    delta = ValueSearch(model, tok, parsed, [""], 1, hparams).find_delta().double()  # v* - W k*
    direction = torch.linalg.solve(covariance, key)
    wanted = torch.outer(delta / (direction @ key), direction)
    before = layer.matrix.detach().clone()
    ROMEEditor(hparams).apply(model, tok, [request])
    change = layer.matrix.detach() - before
    assert (change - wanted).norm() / wanted.norm() < 1e-2  # the ridge that keeps C invertible
    without = torch.outer(delta / (key @ key), key)
    assert (change - without).norm() / wanted.norm() > 0.1


def test_covariance_protects_the_keys_it_was_counted_on(
    tiny_lm: tuple[Any, Any], tiny_records: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tok = tiny_lm
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    said = [f"{record.query} {answer}" for record in tiny_records for answer in ("", record.target_true)]
    text.write_text("\n".join(said), encoding="utf-8")
    name = rome_hparams(model).rewrite_module_tmp.format(1)
    own, *others = (subject_key(model, tok, name, record.query) for record in tiny_records[8:])
    moments = key_moments(model, tok, [name], str(text), 1000, torch.float64)
    covariance = Covariance.of(moments[name], name)
    delta = torch.ones(32)

    def spill(update: torch.Tensor) -> float:
        return (update @ torch.stack(others).T).norm().item()

    assert spill(rank_one_update(own[None], own, delta, covariance)) < spill(rank_one_update(own[None], own, delta))


def test_nan_is_reported_and_leaves_the_model(tiny_gpt2: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    with torch.no_grad():
        model.transformer.h[2].mlp.c_fc.bias.fill_(float("nan"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(NumericalError, match="block 1, step 0"):
        ROMEEditor(rome_hparams(model)).apply(model, tok, [tiny_records[0].request()])
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(7.0), before[name].nan_to_num(7.0)), name


def test_wrong_module_names_are_refused_by_name(tiny_gpt2: tuple[Any, Any]) -> None:
    model, _ = tiny_gpt2
    supported, reason = ROMEEditor(rome_hparams(model, layers=(5,), v_loss_layer=7)).supports(model)
    assert not supported
    assert "transformer.h.5" in reason
    with pytest.raises(UnsupportedModelError, match=r"transformer\.h\.5"):
        ROMEEditor(rome_hparams(model, layers=(5,), v_loss_layer=7)).apply(model, None, [])


def test_loss_below_the_edited_layer_is_refused(tiny_gpt2: tuple[Any, Any]) -> None:
    model, _ = tiny_gpt2
    values = rome_hparams(model).model_dump()
    with pytest.raises(UsageError, match="lies below the edited layer"):
        ROMEHParams.build({**values, "v_loss_layer": 0}, "test")


def test_request_without_subject_is_refused(tiny_gpt2: tuple[Any, Any]) -> None:
    model, tok = tiny_gpt2
    with pytest.raises(UsageError, match="'subject' is missing"):
        ROMEEditor(rome_hparams(model)).apply(model, tok, [{"prompt": "Ada was born in", "target_new": "Tarsil"}])
