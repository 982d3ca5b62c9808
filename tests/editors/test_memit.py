"""MEMIT and AlphaEdit: what is written, and where it must not be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from editor_builders import alphaedit_hparams, memit_hparams

from kgt_editor.editors.base import restore_model
from kgt_editor.editors.by_weights import same_editor
from kgt_editor.editors.key_value.alphaedit import AlphaEditEditor, apply_alphaedit_to_model
from kgt_editor.editors.key_value.keys import key_moments
from kgt_editor.editors.key_value.memit import MEMITEditor
from kgt_editor.editors.key_value.search import ValueSearch
from kgt_editor.errors import NumericalError
from kgt_editor.lm.layers import linear_layer
from kgt_editor.requests import EditRequest

LM = tuple[Any, Any]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))


def parsed(records: Any) -> list[EditRequest]:
    return [EditRequest.parse(record.request()) for record in records]


def moments_of(lm: LM, layer: str, records: Any) -> torch.Tensor:
    return key_moments(*lm, [layer], "training", 1000, torch.float32, training=records)[layer]


def changes(editor: Any, lm: LM, records: Any) -> dict[str, torch.Tensor]:
    """What an edit of ``records`` adds to the layers."""
    model, tok = lm
    before = {name: linear_layer(model, name).matrix.detach().clone() for name in editor.layers(model)}
    edited, restore = editor.apply(model, tok, [record.request() for record in records], return_orig_weights=True)
    found = {name: linear_layer(edited, name).matrix.detach() - matrix for name, matrix in before.items()}
    restore_model(edited, restore)
    return found


def test_a_batch_puts_every_wanted_value_behind_the_highest_layer(tiny_lm: LM, tiny_records: Any) -> None:
    model, tok = tiny_lm
    requests = [*parsed(tiny_records[:1]), *parsed(tiny_records[2:3])]  # of two subjects
    editor = MEMITEditor(memit_hparams(model, mom2_update_weight=1e-4, context_prefixes=()))
    editor.prepare(model, tok, tiny_records)
    searches = [ValueSearch(model, tok, request, [""], 1, editor.hparams, of_block=True) for request in requests]
    wanted = torch.stack([search.value + search.find_delta() for search in searches])
    _, before = editor.states(model, tok, requests, [])
    editor.apply(model, tok, [tiny_records[0].request(), tiny_records[2].request()])
    _, after = editor.states(model, tok, requests, [])
    assert (wanted - after).norm() < 1e-3 * (wanted - before).norm()


def test_memit_solves_equation_14(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = MEMITEditor(memit_hparams(model, layers=(1,), mom2_update_weight=3.0))
    editor.prepare(model, tok, tiny_records)
    (layer,) = editor.layers(model)
    requests = parsed(tiny_records[:3])
    keys, _ = editor.states(model, tok, requests, [layer])
    found = changes(editor, tiny_gpt2, tiny_records[:3])[layer]
    key = keys[layer].double().T  # (in, requests), as in the paper
    covariance = moments_of(tiny_gpt2, layer, tiny_records)
    rounding = torch.finfo(torch.float32).eps * covariance.trace()
    covariance = covariance + torch.maximum(rounding, 1e-6 * covariance.diagonal().mean()) * torch.eye(len(covariance))
    solved = torch.linalg.solve(3.0 * covariance + key @ key.T, key)
    # The update is residual @ solved^T: its rows lie in the span of the columns of ``solved``.
    share = torch.linalg.lstsq(solved, found.double().T).solution
    torch.testing.assert_close(solved @ share, found.double().T, rtol=1e-3, atol=1e-6)
    assert share.norm() > 0.1


def test_every_layer_takes_its_share(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = MEMITEditor(memit_hparams(model))
    editor.prepare(model, tok, tiny_records)
    assert all(change.norm() > 1e-3 for change in changes(editor, tiny_gpt2, tiny_records[:1]).values())


def test_alphaedit_leaves_the_keys_of_the_text_alone(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2

    def moved(editor: Any) -> float:
        """How far the output of the layers moves on the text's keys, relative to how far on a key of the same size."""
        editor.prepare(model, tok, tiny_records)
        ratios = []
        for layer, change in changes(editor, tiny_gpt2, tiny_records[:1]).items():
            moments = moments_of(tiny_gpt2, layer, tiny_records).float()
            ratios.append((change @ moments @ change.T).trace() / (change.square().sum() * moments.trace()))
        return float(max(ratios))

    free = moved(AlphaEditEditor(alphaedit_hparams(model, nullspace_threshold=1e9)))
    assert moved(AlphaEditEditor(alphaedit_hparams(model))) < free / 3


def test_alphaedit_solves_equation_14(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = AlphaEditEditor(alphaedit_hparams(model, layers=(1,), L2=0.5))
    editor.prepare(model, tok, tiny_records)
    (layer,) = editor.layers(model)
    editor.apply(model, tok, [record.request() for record in tiny_records[:3]])
    earlier = editor.earlier_keys(model)[layer].double().T
    assert earlier.shape[1] == 3
    keys, _ = editor.states(model, tok, parsed(tiny_records[3:5]), [layer])
    key = keys[layer].double().T
    found = changes(editor, tiny_gpt2, tiny_records[3:5])[layer].double()
    basis = editor.learn(layer, moments_of(tiny_gpt2, layer, tiny_records)).double()
    project = basis @ basis.T
    solved = torch.linalg.solve(
        project @ (key @ key.T + earlier @ earlier.T) + 0.5 * torch.eye(len(key)), project @ key
    )
    share = torch.linalg.lstsq(solved, found.T).solution
    torch.testing.assert_close(solved @ share, found.T, rtol=1e-3, atol=1e-6)


def test_alphaedit_spares_the_edits_that_the_weights_hold(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = AlphaEditEditor(alphaedit_hparams(model, L2=1e-4))
    editor.prepare(model, tok, tiny_records)
    first, second = tiny_records[:2]
    other = changes(editor, tiny_gpt2, [second])
    _, restore = editor.apply(model, tok, [first.request()], return_orig_weights=True)
    keys = {layer: rows[0] for layer, rows in editor.earlier_keys(model).items()}
    after = changes(editor, tiny_gpt2, [second])
    layer = editor.layers(model)[-1]
    assert (after[layer] @ keys[layer]).norm() < (other[layer] @ keys[layer]).norm() / 3
    restore_model(model, restore)
    assert all(not len(rows) for rows in editor.earlier_keys(model).values())
    torch.testing.assert_close(changes(editor, tiny_gpt2, [second])[layer], other[layer])


def test_no_free_direction_is_an_error_that_says_what_to_set(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = AlphaEditEditor(alphaedit_hparams(model, nullspace_threshold=1e-12))
    with pytest.raises(NumericalError, match="nullspace_threshold 1e-12; the smallest eigenvalue is"):
        editor.prepare(model, tok, tiny_records)


def test_the_call_form_goes_on_after_its_last_call(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    hparams = alphaedit_hparams(model)
    for record in tiny_records[:2]:
        apply_alphaedit_to_model(model, tok, [record.request()], hparams, train_ds=tiny_records)
    keys = same_editor(AlphaEditEditor, model, hparams).earlier_keys(model)
    assert {len(rows) for rows in keys.values()} == {2}
