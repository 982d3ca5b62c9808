"""What every registered editor must do, whatever it changes and however."""

from __future__ import annotations

import pickle
import random
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract import (
    LM,
    Records,
    prepared,
    requests_of,
    same,
    scores,
    weights,
)
from editor_builders import BUILDERS, build
from torch import nn

from kgt_editor.config import HParams
from kgt_editor.editors.base import get_editor_class, names, restore_model
from kgt_editor.errors import UnsupportedModelError, UsageError

CHANGING = [name for name in names() if name != "none"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))


every_editor = pytest.mark.parametrize("name", names())


every_changing_editor = pytest.mark.parametrize("name", CHANGING)


def test_every_editor_is_held_to_this_contract() -> None:
    assert sorted(BUILDERS) == sorted(names())


@every_editor
def test_it_says_what_it_is(name: str) -> None:
    cls = get_editor_class(name)
    assert cls.name == name
    assert cls.description
    assert "\n" not in cls.description
    assert issubclass(cls.hparams_class, HParams)
    assert cls.hparams_class.model_fields["alg_name"].default == name.upper()


@every_editor
def test_it_refuses_hyperparameters_of_another_editor(name: str) -> None:
    class Foreign(HParams):
        alg_name: str = "FOREIGN"

    with pytest.raises(UsageError, match="Foreign"):
        get_editor_class(name)(Foreign())


@every_editor
def test_it_supports_both_architectures(name: str, tiny_lm: LM) -> None:
    assert build(name, tiny_lm[0]).supports(tiny_lm[0]) == (True, "")


@every_changing_editor
def test_an_edit_changes_what_the_model_answers(name: str, tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    editor = prepared(name, tiny_lm, tiny_records)
    before = scores(model, tok, tiny_records[:1])
    edited, _ = editor.apply(model, tok, requests_of(tiny_records[:1]))
    assert scores(edited, tok, tiny_records[:1]) != before


@every_editor
def test_records_evaluated_together_score_as_one_by_one(name: str, tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    editor = prepared(name, tiny_lm, tiny_records)
    edited, _ = editor.apply(model, tok, requests_of(tiny_records[:4]))
    together = scores(edited, tok, tiny_records)
    apart = [score for record in tiny_records for score in scores(edited, tok, (record,))]
    assert [score.log_prob for score in together] == pytest.approx([score.log_prob for score in apart], abs=1e-4)
    assert [score.greedy for score in together] == [score.greedy for score in apart]


@every_editor
@pytest.mark.parametrize("keyword", ["return_orig_weights", "keep_original_weight"])
def test_restoring_is_bit_identical(name: str, keyword: str, tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    editor = prepared(name, tiny_lm, tiny_records)
    kept, before = weights(model), scores(model, tok, tiny_records)
    edited, restore = editor.apply(model, tok, requests_of(tiny_records[:2]), **{keyword: True})
    restored = restore_model(edited, restore)
    assert scores(restored, tok, tiny_records) == before
    assert same(weights(model), kept)


@every_editor
def test_sequential_edits_add_up_and_come_off_one_by_one(name: str, tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    editor = prepared(name, tiny_lm, tiny_records)
    states, undo = [scores(model, tok, tiny_records)], []
    for record in tiny_records[:3]:
        model, restore = editor.apply(model, tok, [record.request()], return_orig_weights=True)
        states.append(scores(model, tok, tiny_records))
        undo.append(restore)
    if name in CHANGING:
        assert states[0] != states[1] != states[2] != states[3]
    while undo:
        assert scores(model, tok, tiny_records) == states.pop()
        restore_model(model, undo.pop())
    assert scores(model, tok, tiny_records) == states.pop()


@every_editor
@pytest.mark.parametrize("edits", [0, 3])
def test_a_saved_state_is_gone_on_with_bit_for_bit(
    name: str, edits: int, tiny_gpt2: LM, tiny_records: Records, tmp_path: Path
) -> None:
    base, tok = tiny_gpt2
    fresh = deepcopy(base)
    editor, model = prepared(name, tiny_gpt2, tiny_records), base
    # The last answer contradicts the first: what is taken away leaves its mark on what is kept.
    again = replace(tiny_records[0], target_new=tiny_records[0].target_true)
    told = [*tiny_records[: edits - 1], again] if edits else []
    for record in told:
        model, _ = editor.apply(model, tok, [record.request()])
    assert editor.save_state(model, tmp_path)
    another = prepared(name, (fresh, tok), tiny_records)
    loaded = another.load_state(fresh, tok, tmp_path)
    assert scores(loaded, tok, tiny_records) == scores(model, tok, tiny_records)
    for record in tiny_records[4:6]:
        model, _ = editor.apply(model, tok, [record.request()])
        loaded, _ = another.apply(loaded, tok, [record.request()])
        assert another.edit_details() == editor.edit_details()
    assert scores(loaded, tok, tiny_records) == scores(model, tok, tiny_records)


@every_editor
def test_a_copy_leaves_the_original_alone(name: str, tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    editor = prepared(name, tiny_lm, tiny_records)
    kept, before = weights(model), scores(model, tok, tiny_records)
    first, _ = editor.apply(model, tok, requests_of(tiny_records[:1]), copy=True)
    assert first is not model
    after = scores(first, tok, tiny_records)
    second, restore = editor.apply(first, tok, requests_of(tiny_records[1:2]), copy=True, return_orig_weights=True)
    assert scores(first, tok, tiny_records) == after
    restore_model(second, restore)
    assert scores(second, tok, tiny_records) == after
    assert scores(model, tok, tiny_records) == before
    assert same(weights(model), kept)


@every_editor
def test_two_models_in_one_process_do_not_see_each_other(
    name: str, tiny_gpt2: LM, tiny_llama: LM, tiny_records: Records
) -> None:
    (gpt2, gpt2_tok), (llama, llama_tok) = tiny_gpt2, tiny_llama
    alone, _ = prepared(name, tiny_gpt2, tiny_records).apply(gpt2, gpt2_tok, requests_of(tiny_records[:1]), copy=True)
    before = scores(llama, llama_tok, tiny_records)
    other = prepared(name, tiny_llama, tiny_records)
    editor = prepared(name, tiny_gpt2, tiny_records)
    edited, _ = editor.apply(gpt2, gpt2_tok, requests_of(tiny_records[:1]))
    assert scores(edited, gpt2_tok, tiny_records) == scores(alone, gpt2_tok, tiny_records)
    assert scores(llama, llama_tok, tiny_records) == before
    other.apply(llama, llama_tok, requests_of(tiny_records[1:2]))
    assert scores(edited, gpt2_tok, tiny_records) == scores(alone, gpt2_tok, tiny_records)


@every_editor
def test_two_editors_on_one_model_do_not_share_anything(name: str, tiny_gpt2: LM, tiny_records: Records) -> None:
    model, tok = tiny_gpt2
    first = prepared(name, tiny_gpt2, tiny_records)
    alone, _ = first.apply(model, tok, requests_of(tiny_records[:1]), copy=True)
    second = prepared(name, tiny_gpt2, tiny_records[:8], seed=3)
    second.apply(model, tok, requests_of(tiny_records[4:6]), copy=True)
    again, _ = first.apply(model, tok, requests_of(tiny_records[:1]), copy=True)
    assert scores(again, tok, tiny_records) == scores(alone, tok, tiny_records)


@every_editor
def test_a_seed_fixes_the_result_and_the_callers_randomness_stays(
    name: str, tiny_lm: LM, tiny_records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tok = tiny_lm
    results = []
    for run in range(2):
        monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / f"run{run}"))
        torch.manual_seed(run)
        random.seed(run)
        np.random.seed(run)
        states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
        editor = prepared(name, tiny_lm, tiny_records, seed=7)
        edited, _ = editor.apply(model, tok, requests_of(tiny_records[:1]), copy=True)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert np.random.get_state()[1].tolist() == states[2]
        results.append(scores(edited, tok, tiny_records))
    assert results[0] == results[1]


@every_editor
def test_nothing_is_printed(name: str, tiny_lm: LM, tiny_records: Records, capfd: pytest.CaptureFixture[str]) -> None:
    model, tok = tiny_lm
    edited, restore = prepared(name, tiny_lm, tiny_records).apply(
        model, tok, requests_of(tiny_records[:1]), return_orig_weights=True
    )
    restore_model(edited, restore)
    assert capfd.readouterr() == ("", "")


@every_editor
def test_modes_and_gradients_stay_as_they_were(name: str, tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    editor = prepared(name, tiny_lm, tiny_records)
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    model.train()
    supported, reason = editor.supports(model)
    if supported:
        editor.apply(model, tok, requests_of(tiny_records[:1]))
    else:  # an editor that asks the model, whose dropout is at work
        assert "in training mode" in reason
        with pytest.raises(UnsupportedModelError, match="in training mode"):
            editor.apply(model, tok, requests_of(tiny_records[:1]))
    assert all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == [p is not frozen for p in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@every_editor
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"subject": "Nobody Here"}, "'Nobody Here' is not in its prompt"),
        ({"target_new": " "}, "target_new"),
        ({"prompt": None}, "prompt"),
    ],
)
def test_a_bad_request_is_refused_and_none_is_made(
    name: str, change: dict[str, Any], match: str, tiny_gpt2: LM, tiny_records: Records
) -> None:
    model, tok = tiny_gpt2
    editor = prepared(name, tiny_gpt2, tiny_records)
    kept = weights(model)
    good, bad = requests_of(tiny_records[:2])
    with pytest.raises(UsageError, match=match):
        editor.apply(model, tok, [good, {**bad, **change}])
    assert same(weights(model), kept)


@every_editor
def test_no_requests_are_no_edit(name: str, tiny_gpt2: LM, tiny_records: Records) -> None:
    model, tok = tiny_gpt2
    before = scores(model, tok, tiny_records)
    edited, restore = prepared(name, tiny_gpt2, tiny_records).apply(model, tok, [], return_orig_weights=True)
    assert scores(restore_model(edited, restore), tok, tiny_records) == before


@every_editor
def test_extras_of_easyedit_are_taken(name: str, tiny_gpt2: LM, tiny_records: Records) -> None:
    model, tok = tiny_gpt2
    editor = prepared(name, tiny_gpt2, tiny_records)
    result = editor.apply(model, tok, requests_of(tiny_records[:1]), False, True, False, train_ds=None)
    assert isinstance(result, tuple)
    assert isinstance(result[0], nn.Module)


@every_editor
def test_an_editor_that_knows_a_model_can_be_sent_to_another_process(
    name: str, tiny_lm: LM, tiny_records: Records
) -> None:
    editor = prepared(name, tiny_lm, tiny_records)
    again = pickle.loads(pickle.dumps(editor))
    assert type(again) is type(editor)
    assert again.hparams == editor.hparams
