"""LocFT-BF: an edit tunes on all edits that the weights hold, and on no other."""

from __future__ import annotations

from typing import Any

import torch
from editor_builders import locft_hparams

from kgt_editor.data.record import Record
from kgt_editor.editors import locft
from kgt_editor.editors.base import restore_model
from kgt_editor.editors.by_weights import same_editor
from kgt_editor.editors.locft import LocFTEditor, apply_locft_to_model
from kgt_editor.lm.scoring import score_targets

LM = tuple[Any, Any]


def held(lm: LM, records: tuple[Record, ...]) -> int:
    model, tok = lm
    return sum(
        one.greedy for one in score_targets(model, tok, [r.query for r in records], [r.target_new for r in records])
    )


def test_earlier_edits_are_held_where_one_after_the_other_forgets_them(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    records = tuple(tiny_records[:8])
    editor = LocFTEditor(locft_hparams(model, num_steps=40))
    for record in records:
        editor.apply(model, tok, [record.request()])
    assert editor.edits_in(model)[0].prompt == records[0].query
    assert held(tiny_gpt2, records) >= 6


def test_every_pass_goes_over_all_edits_so_far(tiny_gpt2: LM, tiny_records: Any, monkeypatch: Any) -> None:
    model, tok = tiny_gpt2
    seen = []
    whole = locft.target_batches

    def watched(model: Any, tok: Any, requests: Any, hparams: Any) -> Any:
        seen.append({request.prompt for request in requests})
        return whole(model, tok, requests, hparams)

    monkeypatch.setattr(locft, "target_batches", watched)
    editor = LocFTEditor(locft_hparams(model))
    for record in tiny_records[:3]:
        editor.apply(model, tok, [record.request()])
    queries = [record.query for record in tiny_records[:3]]
    assert seen == [set(queries[:1]), set(queries[:2]), set(queries)]


def test_an_edit_that_is_undone_is_not_tuned_on_again(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = LocFTEditor(locft_hparams(model))
    first, second, third = tiny_records[:3]
    editor.apply(model, tok, [first.request()])
    _, restore = editor.apply(model, tok, [second.request()], return_orig_weights=True)
    restore_model(model, restore)
    assert [edit.prompt for edit in editor.edits_in(model)] == [first.query]
    editor.apply(model, tok, [third.request()])
    assert [edit.prompt for edit in editor.edits_in(model)] == [first.query, third.query]


def test_a_newer_answer_takes_the_older_ones_place(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = LocFTEditor(locft_hparams(model))
    request = tiny_records[0].request()
    editor.apply(model, tok, [request])
    editor.apply(model, tok, [request | {"target_new": "Norrish"}])
    assert [(edit.prompt, edit.target_new) for edit in editor.edits_in(model)] == [(request["prompt"], "Norrish")]


def test_weights_of_somebody_else_hold_no_edits_of_ours(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = LocFTEditor(locft_hparams(model))
    editor.apply(model, tok, [tiny_records[0].request()])
    with torch.no_grad():
        next(parameter for name, parameter in model.named_parameters() if "h.1.mlp.c_proj.weight" in name).mul_(1.5)
    assert editor.edits_in(model) == ()


def test_the_call_form_goes_on_after_its_last_call(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    hparams = locft_hparams(model)
    for record in tiny_records[:2]:
        apply_locft_to_model(model, tok, [record.request()], hparams)
    editor = same_editor(LocFTEditor, model, hparams)
    assert len(editor.edits_in(model)) == 2
