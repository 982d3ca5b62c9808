from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kgt_editor.data.base import KnownFact
from kgt_editor.errors import KgtError
from kgt_editor.evaluation.base_weights import BaseWeights
from kgt_editor.evaluation.inference import plain_inference
from kgt_editor.evaluation.protocol import (
    FACTS_AFTER_EACH_EDIT,
    CellPlan,
    SpoiledCellError,
    run_cell,
)
from kgt_editor.results.cell_log import CellLog


def ignore(*_):
    pass


@pytest.fixture
def cell(tiny_lm, tiny_data, fake_editors):
    """Runs a cell of a fake editor; returns its results, one a size (the only one where there is one), and the rest."""
    model, tok = tiny_lm
    base = BaseWeights(model, tok)

    def start(kind="WeightEditor", mode="sequential", records=None, known=None, sizes=(), log=None, **hparams):
        editor = getattr(fake_editors, kind)(fake_editors.FakeHParams(**hparams))
        plan = CellPlan(
            records or tiny_data.sample(6, 0), known or tiny_data.known_facts, tiny_data.validation, mode, 0, sizes
        )
        log = log or CellLog("fake", 0)
        run_cell(editor, model, tok, plan, base, log, ignore)
        return (log.results if sizes else log.results[0]), log, model, base

    return start


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_every_record_is_edited_once_in_order_and_evaluated(cell, tiny_data, fake_editors, mode):
    result, log, _, _ = cell(mode=mode)
    cases = result.cases
    order = [record.case_id for record in tiny_data.sample(6, 0)]
    assert [case.case_id for case in cases] == [edit.case_id for edit in log.edits] == order
    assert [case.position for case in cases] == list(range(6))
    applied = [case for kind, case in fake_editors.WeightEditor.log if kind == "apply"]
    warm_up = [record.case_id for record in tiny_data.validation]
    assert applied == warm_up + order
    assert all(case.scores and case.edit_seconds > 0 for case in cases)
    assert len(result.edit_seconds) == 6
    assert result.peak_memory_bytes > 0


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_an_editor_that_learns_by_heart_gets_full_marks(cell, mode):
    result, _, _, _ = cell("MemoryEditor", mode)
    found = [case.scores.metrics() for case in result.cases]
    assert {metrics["efficacy_score"] for metrics in found} == {1.0}
    assert {metrics["efficacy_accuracy"] for metrics in found} == {1.0}


def test_sequential_evaluates_after_the_last_edit_and_single_after_each(cell, tiny_data):
    first = tiny_data.sample(1, 0)[0]
    wrong = replace(first, case_id=900, target_new="Osthaven")
    sequential, _, _, _ = cell("MemoryEditor", "sequential", [first, wrong])
    single, _, _, _ = cell("MemoryEditor", "single", [first, wrong])
    assert [case.scores.edit.new.greedy for case in sequential.cases] == [False, True]
    assert [case.scores.edit.new.greedy for case in single.cases] == [True, True]


def test_single_leaves_the_model_bit_for_bit_as_it_was(cell):
    _, _, model, base = cell(mode="single")
    assert base.difference(model) is None


def test_sequential_changes_it_and_restore_brings_it_back(cell):
    _, _, model, base = cell(mode="sequential")
    assert "differs" in base.difference(model)
    base.restore(model)
    assert base.difference(model) is None


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_a_refused_edit_is_counted_and_still_evaluated(cell, tiny_data, mode):
    refused = tiny_data.sample(6, 0)[2].case_id
    result, _, _, _ = cell(mode=mode, refuse=(refused,))
    cases = result.cases
    assert result.failed_edits == 1
    assert len(result.edit_seconds) == 5
    assert cases[2].failure == f"case {refused} is refused"
    assert cases[2].scores is not None
    assert cases[2].edit_seconds is None


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_an_edit_that_raises_whatever_it_is_is_a_failed_edit(cell, tiny_data, mode):
    broken = tiny_data.sample(6, 0)[1].case_id
    result, log, _, _ = cell(mode=mode, crash_at=(broken,))
    assert [case.failure for case in result.cases if case.failure] == ["RuntimeError: a defect over two lines"]
    assert len(log.failed) == 1
    assert all(case.scores for case in result.cases)


def test_no_edit_at_all_is_no_row(cell):
    with pytest.raises(SpoiledCellError, match="all 6 edits failed, the first because: RuntimeError: a defect over"):
        cell(crash=True)


def test_single_goes_on_from_the_base_model_after_an_edit_that_stopped_half_way(cell, tiny_data):
    order = [record.case_id for record in tiny_data.sample(6, 0)]
    spoiled, _, model, base = cell(mode="single", half_way=(order[1],))
    assert base.difference(model) is None
    plain, _, _, _ = cell(mode="single")
    assert [case.scores for case in spoiled.cases[2:]] == [case.scores for case in plain.cases[2:]]


@pytest.mark.parametrize(
    "told", ["CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory"]
)
def test_out_of_memory_ends_the_cell_and_is_no_failed_edit(cell, told):
    with pytest.raises(KgtError, match="ran out of memory") as raised:
        cell(exhaust=told)
    assert not isinstance(raised.value, SpoiledCellError)


@pytest.mark.parametrize("kind", ["WeightEditor", "MemoryEditor"])
def test_every_size_on_the_way_is_what_a_run_of_that_size_gives(cell, tiny_data, kind):
    order = tiny_data.sample(6, 0)
    # A fact that the third edit touches: known at two edits, no longer at four.
    known = (*tiny_data.known_facts, KnownFact(order[2].query, order[2].target_true))
    several, log, model, base = cell(kind, sizes=(2, 4, 6), known=known)
    assert [one.size for one in several] == [2, 4, 6]
    assert [len(one.recalled) for one in several] == [4, 3, 3]
    assert len(log.edits) == 6
    for found in several:
        base.restore(model)
        alone, _, _, _ = cell(kind, records=order[: found.size], known=known)
        assert [replace(case, edit_seconds=None) for case in found.cases] == [
            replace(case, edit_seconds=None) for case in alone.cases
        ]
        assert found.recalled == alone.recalled
    seconds = [[case.edit_seconds for case in one.cases] for one in several]
    assert seconds[0] == seconds[1][:2] == seconds[2][:2]  # measured once


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_an_editor_that_does_not_undo_its_edit_is_found_out(cell, mode):
    with pytest.raises(KgtError, match=r"editor 'fake' did not undo its own edit: .* differs"):
        cell(mode=mode, leak=True)


def test_a_hook_left_behind_is_found_out_though_no_weight_changed(cell):
    with pytest.raises(KgtError, match="the weights are the same, its answers are not"):
        cell(hook=True)


def test_an_early_end_leaves_what_was_edited_in_the_log(tiny_lm, tiny_data, fake_editors):
    model, tok = tiny_lm
    edits, log = [], CellLog("x", 0)

    class Stopping(fake_editors.MemoryEditor):
        def apply(self, model, tok, requests, **kwargs):
            edits.append(requests[0]["case_id"])
            if len(edits) == len(tiny_data.validation) + 4:
                raise KeyboardInterrupt
            return super().apply(model, tok, requests, **kwargs)

    plan = CellPlan(tiny_data.sample(6, 0), (), tiny_data.validation, "sequential", 0)
    editor = Stopping(fake_editors.FakeHParams())
    with pytest.raises(KeyboardInterrupt):
        run_cell(editor, model, tok, plan, BaseWeights(model, tok), log, ignore)
    assert [edit.position for edit in log.edits] == [0, 1, 2]
    assert all(edit.seconds is not None for edit in log.edits)
    assert log.results == []


def test_recall_asks_every_known_fact_that_no_edit_of_the_run_touches(cell, tiny_data):
    edited = tiny_data.sample(6, 0)[0]
    known = (*tiny_data.known_facts, KnownFact(edited.query, edited.target_true))
    sequential, _, model, base = cell(known=known)
    base.restore(model)
    assert len(sequential.recalled) == len(tiny_data.known_facts)
    single, _, _, _ = cell(mode="single", known=known)
    assert len(single.recalled) == 6 * FACTS_AFTER_EACH_EDIT
    assert [len(case.recalled) for case in single.cases] == [FACTS_AFTER_EACH_EDIT] * 6


def test_no_known_facts_is_no_recall(tiny_lm, tiny_data, fake_editors):
    model, tok = tiny_lm
    for mode in ("sequential", "single"):
        plan = CellPlan(tiny_data.sample(2, 0), (), (), mode, 0)
        editor = fake_editors.MemoryEditor(fake_editors.FakeHParams())
        log = CellLog("x", 0)
        run_cell(editor, model, tok, plan, BaseWeights(model, tok), log, ignore)
        assert log.results[0].recalled == []


def test_the_same_seed_gives_the_same_numbers(cell):
    first, _, model, base = cell()
    base.restore(model)
    again, _, _, _ = cell()
    assert [case.scores for case in first.cases] == [case.scores for case in again.cases]


def test_base_weights_see_a_single_bit_and_a_changed_structure(tiny_lm):
    model, tok = tiny_lm
    base = BaseWeights(model, tok)
    name, weight = list(model.named_parameters())[-1]
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(100.0))
    assert base.difference(model) == f"{name} differs"
    weight.requires_grad_(False)
    model.train()
    base.restore(model)
    assert base.difference(model) is None
    assert weight.requires_grad
    assert not model.training
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(KgtError, match=r"cannot be brought back: extra\.\w+ was added"):
        base.restore(model)


def test_plain_inference_gives_seconds_and_bytes(tiny_lm, tiny_records):
    seconds, peak = plain_inference(*tiny_lm, tiny_records)
    assert 0 < seconds < 5
    assert peak > 1_000_000


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_what_became_of_each_edit_is_kept_with_its_case(cell, mode):
    result, _, _, _ = cell(mode=mode, outcomes=("held", "restated", "kept but not followed"))
    told = [case.details["outcome"] for case in result.cases]
    assert sorted(told) == sorted(2 * ["held", "restated", "kept but not followed"])


def test_an_outcome_that_there_is_not_is_an_error_that_names_it(cell):
    with pytest.raises(KgtError, match="outcome 'lost', which is none of 'held', 'kept but not followed'"):
        cell(outcomes=("lost",))
