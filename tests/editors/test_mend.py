"""MEND: the network that transforms gradients, its training and its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from editor_builders import MEND_LAYERS, mend_hparams

from kgt_editor.editors.base import restore_model
from kgt_editor.editors.factors import Factors, gradient_factors, layer_shapes
from kgt_editor.editors.hypernet.mend import MENDEditor, apply_mend_to_model
from kgt_editor.editors.hypernet.mend_network import MENDNetwork
from kgt_editor.editors.hypernet.training import Sampler, batch_losses
from kgt_editor.editors.targets import encode_targets
from kgt_editor.errors import NumericalError, UsageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))


def edit_batch(model: Any, tok: Any, records: Any) -> Any:
    return encode_targets(model, tok, [record.query for record in records], [record.target_new for record in records])


def test_network_starts_as_plain_gradient_descent(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    names = MEND_LAYERS[model.config.model_type]
    factors, _ = gradient_factors(model, edit_batch(model, tok, tiny_records[:2]), names)
    network = MENDNetwork(layer_shapes(model, names), rank=4, hidden=1, edit_lr=0.25, norm=False, seed=0)
    for name, edit in network(factors).items():
        torch.testing.assert_close(edit.matrix(), -0.25 * factors[name].matrix(), rtol=1e-4, atol=1e-6)


def test_layers_of_one_shape_share_a_network_but_not_its_scales(tiny_llama: tuple[Any, Any]) -> None:
    model, _ = tiny_llama
    network = MENDNetwork(layer_shapes(model, MEND_LAYERS["llama"]), rank=4, hidden=1, edit_lr=0.1, norm=True, seed=0)
    assert sorted(network.networks) == ["32x64", "64x32"]
    # gate and up projections of two blocks have one shape, the down projections another.
    assert network.networks["64x32"].blocks[0].scale.shape == (4, 96)
    assert network.networks["32x64"].blocks[0].scale.shape == (2, 96)
    assert len(network.edit_lrs) == 6


def test_normalised_factors_have_no_mean_and_unit_spread(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    names = MEND_LAYERS[model.config.model_type][:1]
    factors, _ = gradient_factors(model, edit_batch(model, tok, tiny_records), names)
    network = MENDNetwork(layer_shapes(model, names), rank=4, hidden=1, edit_lr=1.0, norm=True, seed=0)
    network.fit_normalisation([factors])
    value = factors[names[0]]
    seen = (value.outputs != 0).any(-1)
    edit = network(factors)[names[0]]
    inputs = edit.inputs[seen]
    torch.testing.assert_close(inputs.mean(0), torch.zeros(inputs.shape[1]), rtol=0, atol=1e-4)
    torch.testing.assert_close(inputs.std(0, unbiased=False), torch.ones(inputs.shape[1]), rtol=1e-3, atol=1e-3)
    assert not edit.outputs[~seen].any()


def test_training_lowers_the_edit_loss(tiny_gpt2: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    hparams = mend_hparams(model, max_iters=60, lr=5e-3, edit_lr=3e-2, cloc=0.0, batch_size=8)
    editor = MENDEditor(hparams)
    editor.prepare(model, tok, tiny_records)
    untrained = MENDNetwork(editor._networks[model].shapes, hparams.rank, 1, hparams.edit_lr, True, hparams.seed)
    for number in range(len(untrained.shapes)):
        for part in ("mean", "spread"):
            untrained.get_buffer(f"{part}_{number}").copy_(editor._networks[model].get_buffer(f"{part}_{number}"))
    sampler = Sampler(model, tok, tiny_records, mend_hparams(model, batch_size=32, seed=5))
    batch = sampler.draw()
    with torch.no_grad():
        before = batch_losses(model, untrained, batch)[0]
        after = batch_losses(model, editor._networks[model], batch)[0]
    assert after < before - 0.5


def test_locality_loss_is_zero_without_an_edit(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    network = MENDNetwork(
        layer_shapes(model, MEND_LAYERS[model.config.model_type]), 4, 1, edit_lr=0.0, norm=True, seed=0
    )
    batch = Sampler(model, tok, tiny_records, mend_hparams(model)).draw()
    with torch.no_grad():
        _, locality = batch_losses(model, network, batch)
    assert abs(locality.item()) < 1e-6


def test_training_needs_several_subjects(tiny_gpt2: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    for records in ([], tiny_records[:1]):
        with pytest.raises(UsageError, match="several subjects"):
            MENDEditor(mend_hparams(model)).prepare(model, tok, records)


def test_second_preparation_comes_from_the_cache(tiny_lm: tuple[Any, Any], tiny_records: Any, tmp_path: Path) -> None:
    model, tok = tiny_lm
    seen: list[tuple[str, int, int]] = []
    first = MENDEditor(mend_hparams(model))
    first.prepare(model, tok, tiny_records, lambda *step: seen.append(step))
    assert seen == [("MEND hypernetwork", i, 4) for i in range(1, 5)]
    second = MENDEditor(mend_hparams(model))
    second.prepare(model, tok, tiny_records, lambda *_: pytest.fail("trained again"))
    for name, value in first._networks[model].state_dict().items():
        assert torch.equal(value, second._networks[model].state_dict()[name]), name
    assert [path.suffix for path in (tmp_path / "cache" / "mend").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("change", ["hparams", "records", "weights"])
def test_cache_is_keyed_by_everything_that_matters(
    tiny_gpt2: tuple[Any, Any], tiny_records: Any, tmp_path: Path, change: str
) -> None:
    model, tok = tiny_gpt2
    MENDEditor(mend_hparams(model)).prepare(model, tok, tiny_records)
    if change == "weights":
        with torch.no_grad():
            model.transformer.wpe.weight[0, 0] += 1
    hparams = mend_hparams(model, seed=1 if change == "hparams" else 0)
    MENDEditor(hparams).prepare(model, tok, tiny_records[:-1] if change == "records" else tiny_records)
    assert len(list((tmp_path / "cache" / "mend").iterdir())) == 2


def test_broken_cache_file_is_rebuilt(tiny_gpt2: tuple[Any, Any], tiny_records: Any, tmp_path: Path) -> None:
    model, tok = tiny_gpt2
    first = MENDEditor(mend_hparams(model))
    first.prepare(model, tok, tiny_records)
    (path,) = (tmp_path / "cache" / "mend").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    MENDEditor(mend_hparams(model)).prepare(model, tok, tiny_records)
    assert path.read_bytes() == whole


def test_cache_folder_that_is_a_file_is_a_warning(
    tiny_gpt2: tuple[Any, Any], tiny_records: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "file"))
    model, tok = tiny_gpt2
    editor = MENDEditor(mend_hparams(model))
    with pytest.warns(UserWarning, match="KGT_EDITOR_CACHE"):
        editor.prepare(model, tok, tiny_records)
    editor.apply(model, tok, [tiny_records[0].request()])


def test_edit_before_preparation_is_refused(tiny_gpt2: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    with pytest.raises(UsageError, match="call prepare"):
        MENDEditor(mend_hparams(model)).apply(model, tok, [tiny_records[0].request()])


def test_network_of_one_model_is_not_used_for_another(tiny_gpt2: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = MENDEditor(mend_hparams(model))
    editor.prepare(model, tok, tiny_records)
    with pytest.raises(UsageError, match="call prepare"):
        editor.apply(type(model)(model.config), tok, [tiny_records[0].request()])


def test_two_edits_at_once_are_the_sum_of_both(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    editor = MENDEditor(mend_hparams(model))
    editor.prepare(model, tok, tiny_records)
    requests = [record.request() for record in tiny_records[:2]]
    name = f"{MEND_LAYERS[model.config.model_type][0]}.weight"
    weight = model.get_parameter(name)
    original = weight.detach().clone()

    def change(chosen: list[dict[str, Any]]) -> torch.Tensor:
        _, restore = editor.apply(model, tok, chosen, return_orig_weights=True)
        changed = weight.detach() - original
        restore_model(model, restore)
        return changed

    torch.testing.assert_close(change(requests), change(requests[:1]) + change(requests[1:]), rtol=1e-3, atol=1e-6)


def test_diverged_training_is_a_numerical_error(tiny_gpt2: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    with pytest.raises(NumericalError, match="MEND training, iteration"):
        MENDEditor(mend_hparams(model, edit_lr=1e38)).prepare(model, tok, tiny_records)


def test_call_form_prepares_once(tiny_gpt2: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    hparams = mend_hparams(model)
    requests = [tiny_records[0].request()]
    with pytest.raises(UsageError, match="train_ds"):
        apply_mend_to_model(model, tok, requests, hparams)
    apply_mend_to_model(model, tok, requests, hparams, train_ds=tiny_records)
    edited, _ = apply_mend_to_model(model, tok, requests, hparams)
    assert edited is model


def test_larger_gradients_make_no_larger_edits_where_each_edit_is_normalised(
    tiny_gpt2: tuple[Any, Any], tiny_records: Any
) -> None:
    model, tok = tiny_gpt2
    names = MEND_LAYERS["gpt2"]
    batch = encode_targets(
        model, tok, [one.query for one in tiny_records[:4]], [one.target_new for one in tiny_records[:4]]
    )
    factors, _ = gradient_factors(model, batch, names)
    larger = {name: Factors(value.inputs, value.outputs * 50) for name, value in factors.items()}
    for norm_edit in (False, True):
        network = MENDNetwork(layer_shapes(model, names), 4, 1, 1.0, norm=True, seed=0, norm_edit=norm_edit)
        network.fit_normalisation([factors])
        usual, found = network(factors), network(larger)
        for name in names:
            same = torch.allclose(usual[name].outputs, found[name].outputs, rtol=1e-3, atol=1e-6)
            assert same is norm_edit
