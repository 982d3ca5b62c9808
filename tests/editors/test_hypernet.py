"""What hypernetworks share: gradients in factors, their effect on a forward pass, training batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from editor_builders import MEND_LAYERS, build, mend_hparams

from kgt_editor.editors.base import restore_model
from kgt_editor.editors.cache import Unfinished
from kgt_editor.editors.factors import (
    Factors,
    edited_logits,
    gradient_factors,
    layer_shapes,
    target_logits,
)
from kgt_editor.editors.hypernet import training
from kgt_editor.editors.hypernet.editor import HypernetEditor
from kgt_editor.editors.hypernet.training import Sampler
from kgt_editor.editors.targets import encode_targets
from kgt_editor.lm.layers import frozen, linear_layer
from kgt_editor.lm.scoring import score_targets


def edit_batch(model: Any, tok: Any, records: Any) -> Any:
    return encode_targets(model, tok, [record.query for record in records], [record.target_new for record in records])


def test_factors_reproduce_the_weight_gradient(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    batch = edit_batch(model, tok, tiny_records[:5])
    names = MEND_LAYERS[model.config.model_type]
    with frozen(model):
        factors, _ = gradient_factors(model, batch, names)
    assert all(parameter.grad is None for parameter in model.parameters())
    logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits[batch.rows, batch.columns]
    batch.row_losses(logits).sum().backward()
    for name in names:
        layer = linear_layer(model, name)
        assert layer.weight.grad is not None
        torch.testing.assert_close(layer.stored(factors[name].matrix()), layer.weight.grad, rtol=1e-4, atol=1e-5)


def test_a_matrix_is_the_same_in_either_layout(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    names = MEND_LAYERS[model.config.model_type]
    factors, _ = gradient_factors(model, edit_batch(model, tok, tiny_records[:2]), names)
    for name in names:
        layer = linear_layer(model, name)
        matrix = factors[name].matrix_like(layer)
        assert layer.stored(matrix).is_contiguous()
        torch.testing.assert_close(matrix, factors[name].matrix())


def test_row_losses_are_mean_token_losses(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    records = tiny_records[:6]
    with torch.no_grad():
        batch = edit_batch(model, tok, records)
        losses = batch.row_losses(target_logits(model, batch))
    scores = score_targets(model, tok, [record.query for record in records], [record.target_new for record in records])
    torch.testing.assert_close(losses, torch.tensor([-score.mean_log_prob for score in scores]))


def test_changes_in_the_forward_pass_equal_changed_weights(tiny_lm: tuple[Any, Any], tiny_records: Any) -> None:
    model, tok = tiny_lm
    batch = edit_batch(model, tok, tiny_records[:3])
    names = MEND_LAYERS[model.config.model_type]
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / 10

    changes = {
        name: Factors(draw(3, 4, features), draw(3, 4, out))
        for name, (out, features) in layer_shapes(model, names).items()
    }
    with torch.no_grad():
        together = batch.row_losses(edited_logits(model, batch, changes))
        for row in range(3):
            originals = {}
            for name in names:
                layer = linear_layer(model, name)
                originals[layer.parameter] = layer.weight.detach().clone()
                layer.weight.add_(layer.stored(changes[name].select(torch.tensor([row])).matrix()))
            alone = batch.row_losses(target_logits(model, batch))[row]
            restore_model(model, originals)
            torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-4)


def test_sampler_draws_the_unrelated_prompts_from_the_records_alone(
    tiny_gpt2: tuple[Any, Any], tiny_records: Any
) -> None:
    model, tok = tiny_gpt2
    record = tiny_records[0]
    always = Sampler(model, tok, tiny_records, mend_hparams(model, neighbour_share=1.0))
    drawn = {always._unrelated(record) for _ in range(200)}
    neighbours = {(prompt, record.target_true) for prompt in record.neighbourhood_prompts}
    same_relation = {
        (prompt, other.target_true)
        for other in tiny_records
        if other.relation_id == record.relation_id and other.subject != record.subject
        for prompt in (other.query, *other.paraphrase_prompts)
    }
    assert drawn & neighbours
    assert drawn - neighbours
    assert drawn <= neighbours | same_relation
    never = Sampler(model, tok, tiny_records, mend_hparams(model, neighbour_share=0.0))
    assert all(record.subject not in never._unrelated(record)[0] for _ in range(50))


@pytest.mark.parametrize("name", ["mend", "ke"])
def test_an_interrupted_training_is_gone_on_with_bit_for_bit(
    name: str, tiny_gpt2: tuple[Any, Any], tiny_records: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tok = tiny_gpt2
    monkeypatch.setattr(training, "_KEEP_EVERY", 0.0)

    def trained(cache: str, stop_at: int | None = None) -> dict[str, torch.Tensor]:
        monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / cache))
        seen: list[int] = []

        def progress(_: str, done: int, __: int) -> None:
            seen.append(done)
            if done == stop_at:
                raise KeyboardInterrupt

        editor = build(name, model, max_iters=8, accumulate_bs=2)
        editor.prepare(model, tok, tiny_records, progress)
        assert isinstance(editor, HypernetEditor)
        iterations.append(seen)
        return editor._network(model).state_dict()

    iterations: list[list[int]] = []
    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("parts", stop_at=5)
    parts = trained("parts")
    assert iterations == [list(range(1, 9)), list(range(5, 9))]  # a step is two iterations: 4 were kept
    assert parts.keys() == whole.keys()
    assert all(torch.equal(value, whole[key]) for key, value in parts.items())
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_broken_unfinished_training_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path))
    unfinished = Unfinished("mend", "key")
    assert unfinished.load() is None
    unfinished.save({"iteration": 3, "values": torch.ones(2)})
    kept = unfinished.load()
    assert kept is not None
    assert kept["iteration"] == 3
    (path,) = tmp_path.rglob("*.unfinished")
    path.write_bytes(path.read_bytes()[:100])
    assert unfinished.load() is None
    path.write_bytes(b"no file of torch's")
    assert unfinished.load() is None
