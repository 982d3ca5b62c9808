"""KGT on models whose weights are quantised, offloaded or spread: it reads them, so it takes them as they are."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from torch import nn

from kgt_editor.data.record import Record
from kgt_editor.editors.base import create_editor, restore_model
from kgt_editor.editors.kgt import KGTEditor
from kgt_editor.evaluation.base_weights import BaseWeights
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.scoring import TargetScore

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
LM = tuple[Any, Any]
Records = tuple[Record, ...]
# The graph changes whatever a random model makes of the facts.
EAGER: dict[str, Any] = {"optimizer": "algorithm1", "stop": "loss", "epsilon": 0, "retrieval_min": 0, "K": 2}


def edit_ask_and_undo(model: nn.Module, tok: Any, records: Records) -> tuple[list[TargetScore], str, int]:
    """Scores and an answer after two edits; how many triples they added. The edits are taken back."""
    prompts, targets = [r.query for r in records], [r.target_new for r in records]
    editor = KGTEditor(KGTHyperParams(**{**AS_PRINTED, **EAGER}))
    before, _ = editor.apply(model, tok, [])
    assert isinstance(before, KGEnhancedLM)
    plain = before.score_targets(prompts, targets)
    edited, restore = editor.apply(before, tok, [records[0].request(), records[2].request()])
    assert isinstance(edited, KGEnhancedLM)
    after, answer, added = edited.score_targets(prompts, targets), edited.answer(prompts[0]), len(edited.graph.added)
    assert after != plain
    restore_model(edited, restore)
    assert edited.score_targets(prompts, targets) == plain
    return after, answer, added


def test_an_offloaded_model_is_edited_as_if_it_were_not(tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    scores, answer, added = edit_ask_and_undo(model, tok, tiny_records)
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert next(model.parameters()).device.type == "meta"
    assert device_of(model).type == "cpu"
    found, same_answer, same_added = edit_ask_and_undo(model, tok, tiny_records)
    assert [score.log_prob for score in found] == pytest.approx([score.log_prob for score in scores], abs=1e-4)
    assert (same_answer, same_added) == (answer, added)


def test_a_model_spread_over_devices_is_asked_for_all_logits(tiny_lm: LM, tiny_records: Records) -> None:
    model, tok = tiny_lm
    scores, answer, added = edit_ask_and_undo(model, tok, tiny_records)
    model.hf_device_map = {"first": 0, "second": 1}  # as accelerate leaves it
    kept = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: kept.append("logits_to_keep" in kwargs), with_kwargs=True
    )
    found, same_answer, same_added = edit_ask_and_undo(model, tok, tiny_records)
    assert [score.log_prob for score in found] == pytest.approx([score.log_prob for score in scores], abs=1e-4)
    assert (same_answer, same_added) == (answer, added)
    assert False in kept


def test_a_quantised_model_is_edited(tiny_llama: LM, tiny_records: Records) -> None:
    model, tok = tiny_llama
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own notes on its quantisation's future
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    _, _, added = edit_ask_and_undo(model, tok, tiny_records)
    assert added


@pytest.mark.parametrize("name", ["rome", "mend", "ke", "kn", "ft", "oppu"])
@pytest.mark.parametrize(("how", "reason"), [("offload", "weights are offloaded"), ("spread", "spread over several")])
def test_editors_of_weights_refuse_a_model_that_is_not_in_one_place(
    tiny_gpt2: LM, name: str, how: str, reason: str
) -> None:
    model, _ = tiny_gpt2
    editor = create_editor(name, "testbed-gpt2", HPARAMS)
    if how == "offload":
        cpu_offload(model, execution_device=torch.device("cpu"))
    else:
        model.hf_device_map = {"first": 0, "second": 1}
    supported, why = editor.supports(model)
    assert not supported
    assert reason in why
    assert "without --device-map" in why
    for reads in ("none", "kgt", "icl"):
        assert create_editor(reads, "testbed-gpt2", HPARAMS).supports(model) == (True, "")


def test_an_offloaded_model_is_a_base_that_cells_start_from(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    cpu_offload(model, execution_device=torch.device("cpu"))
    base = BaseWeights(model, tok)
    base.restore(model)
    assert base.difference(model) is None
    model.get_output_embeddings().register_forward_hook(lambda module, args, output: output * 2)
    assert base.difference(model) == "the weights are the same, its answers are not"
