"""How EasyEdit calls a method and looks at what it returns, always run, on a stand-in for EasyEdit."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from easyedit_helpers import FAKE, HPARAMS, stand_in, world_edits

from kgt_editor import register_with_easyedit
from kgt_editor.errors import UsageError

MODELS = ("testbed-gpt2", "testbed-llama")


def base_editor(hparams: Any) -> Any:
    from easyeditor import BaseEditor

    return BaseEditor.from_hparams(hparams)


def facts(model: Any) -> set[Any]:
    return set(model.graph.added)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sequential", [True, False])
def test_unchanged_code_personalises_a_model(
    bridge: Any, hparams: Any, edits: Any, model: str, sequential: bool
) -> None:
    editor = base_editor(hparams(model))
    weights = {name: value.clone() for name, value in editor.model.state_dict().items()}
    metrics, edited, _ = editor.edit(**edits(3), sequential_edit=sequential)
    for key in ("rewrite_acc", "rephrase_acc"):
        assert sum(metric["pre"][key] for metric in metrics) == 0
        assert sum(metric["post"][key] for metric in metrics) == 3
    assert all(metric["post"]["locality"] == metric["pre"]["locality"] for metric in metrics)
    assert all(torch.equal(value, weights[name]) for name, value in editor.model.state_dict().items())
    assert len({triple.head for triple in facts(edited)}) == (3 if sequential else 0)
    assert (editor.model in bridge._SEQUENCES) == sequential


def test_a_sequence_goes_on_and_single_edits_leave_it_as_it_is(bridge: Any, hparams: Any, edits: Any) -> None:
    editor = base_editor(hparams("testbed-gpt2"))
    _, first, _ = editor.edit(**edits(2), sequential_edit=True)
    known = facts(first)
    assert len(known) == 2
    editor.edit(**edits(2, skip=2), sequential_edit=False)
    assert facts(first) == known
    _, second, _ = editor.edit(**edits(2, skip=4), sequential_edit=True)
    assert known < facts(second)
    bridge.reset(editor.model)
    _, third, _ = editor.edit(**edits(2, skip=6), sequential_edit=True)
    assert not facts(third) & facts(second)


def test_nothing_leaks_to_another_editor_or_model(bridge: Any, hparams: Any, edits: Any) -> None:
    shared = hparams("testbed-gpt2")  # even where two editors have one and the same hyperparameters
    one, other = base_editor(shared), base_editor(shared)
    one.edit(**edits(3), sequential_edit=True)
    _, edited, _ = other.edit(**edits(2, skip=3), sequential_edit=True)
    assert {triple.head for triple in facts(edited)} == set(edits(2, skip=3)["subject"])


def test_two_editors_on_one_model_are_told_apart(bridge: Any, hparams: Any, edits: Any) -> None:
    one, other = base_editor(hparams("testbed-gpt2")), base_editor(hparams("testbed-gpt2"))
    other.model = one.model
    one.edit(**edits(2), sequential_edit=True)
    with pytest.raises(UsageError, match=r"^KGT edits of another editor are in force .*reset\(model\)") as caught:
        other.edit(**edits(1, skip=2))
    assert "\n" not in str(caught.value)
    bridge.reset(one.model)
    _, edited, _ = other.edit(**edits(1, skip=2), sequential_edit=True)
    assert len(facts(edited)) == 1


def test_what_is_in_force_goes_with_the_model(bridge: Any, hparams: Any, edits: Any) -> None:
    editor = base_editor(hparams("testbed-gpt2"))
    _, edited, restore = editor.edit(**edits(1), sequential_edit=True)
    assert len(bridge._SEQUENCES) == 1
    del editor, edited, restore
    gc.collect()
    assert len(bridge._SEQUENCES) == 0


def test_a_copy_leaves_the_sequence_as_it_is(bridge: Any, hparams: Any, edits: Any) -> None:
    editor = base_editor(hparams("testbed-gpt2"))
    asked = edits(1)
    request = {"prompt": asked["prompts"][0], "subject": asked["subject"][0], "target_new": asked["target_new"][0]}
    copied, _ = bridge.apply_kgt_to_model(editor.model, editor.tok, [request], editor.hparams, copy=True)
    assert len(facts(copied)) == 1
    assert editor.model not in bridge._SEQUENCES
    again, _ = bridge.apply_kgt_to_model(copied, editor.tok, [request], editor.hparams)
    assert again is copied


def wanted(edits: dict[str, Any]) -> dict[str, Any]:
    return {name: edits[name] for name in ("prompts", "target_new", "subject")}


@pytest.mark.parametrize("sequential", [True, False])
def test_several_requests_a_call(bridge: Any, hparams: Any, edits: Any, sequential: bool) -> None:
    editor = base_editor(hparams("testbed-gpt2"))
    assert editor.hparams.batch_size == 1
    editor.hparams.batch_size = 2
    edited, _ = editor.batch_edit(**wanted(edits(3)), sequential_edit=sequential)
    assert {triple.head for triple in facts(edited)} == (set(edits(3)["subject"]) if sequential else set())


def test_a_journal_keeps_the_facts_of_each_user(bridge: Any, hparams: Any, edits: Any, tmp_path: Path) -> None:
    def told(user: str, **asked: Any) -> set[Any]:
        settings = hparams("testbed-gpt2")
        settings.journal, settings.user = str(tmp_path / "facts.db"), user
        _, edited, _ = base_editor(settings).edit(**asked, sequential_edit=True)
        return facts(edited)

    first = told("ada", **edits(1))
    assert first < told("ada", **edits(1, skip=1))
    assert not first & told("milo", **edits(1, skip=2))


def test_relations_of_the_users_own(bridge: Any, hparams: Any, edits: Any) -> None:
    settings = hparams("testbed-gpt2")
    settings.relation_source, settings.relations = "user", {edits(1)["prompts"][0]: ["grew up speaking"]}
    editor = base_editor(settings)
    _, edited, _ = editor.edit(**edits(1), sequential_edit=True)
    assert {triple.relation for triple in facts(edited)} == {"grew up speaking"}
    with pytest.raises(UsageError, match="relation"):
        editor.edit(**edits(1, skip=1), sequential_edit=True)
    assert len(facts(edited)) == 1


@pytest.fixture(scope="module", params=MODELS)
def personal(request: pytest.FixtureRequest) -> Any:
    """An editor, the model it returned after two edits in a row, and the edits."""
    with stand_in() as bridge:
        editor = base_editor(bridge.KGTHyperParams.from_hparams(HPARAMS / "KGT" / request.param))
        asked = world_edits(2)
        _, edited, _ = editor.edit(**asked, sequential_edit=True)
    return editor, edited, asked


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_a_batch_is_answered_as_its_rows_alone(personal: Any, side: str) -> None:
    editor, edited, asked = personal
    rows = [f"{prompt} {target}" for prompt, target in zip(asked["prompts"], asked["target_new"], strict=True)]
    rows += ["The weather in the mountains changes quickly and without warning", asked["rephrase_prompts"][1]]
    batch = editor.tok(rows, padding=True, padding_side=side, return_tensors="pt")
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    found = edited(**batch, labels=labels)
    without_mask = edited(input_ids=batch.input_ids, labels=labels)  # EasyEdit's perplexity passes none
    losses = []
    for row, text in enumerate(rows):
        one = editor.tok(text, return_tensors="pt")
        alone, plain = edited(**one).logits[0], editor.model(**one).logits[0]
        own = batch.attention_mask[row].bool()
        for logits in (found.logits[row][own], without_mask.logits[row][own]):
            assert (logits.softmax(-1) - alone.softmax(-1)).abs().max() < 1e-5
            assert torch.allclose(logits, alone, rtol=1e-5, atol=1e-5)  # they go up to 30, single precision
        assert torch.allclose(alone, plain, atol=1e-5) == (row == 2)  # no fact bears on the weather
        losses.append(torch.nn.functional.cross_entropy(alone[:-1], one.input_ids[0, 1:], reduction="none"))
    assert found.loss.item() == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)
    assert without_mask.loss.item() == pytest.approx(found.loss.item(), abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_it_generates_the_new_answer_behind_the_prompt_as_given(personal: Any, side: str) -> None:
    editor, edited, asked = personal
    prompts = [*asked["prompts"], "The weather in the mountains"]
    batch = editor.tok(prompts, padding=True, padding_side=side, return_tensors="pt")
    width = batch.input_ids.shape[1]
    outputs = [
        edited.generate(**batch, max_new_tokens=3, do_sample=False, use_cache=cached) for cached in (True, False)
    ]
    assert torch.equal(*outputs)
    assert torch.equal(outputs[0][:, :width], batch.input_ids)
    written = [editor.tok.decode(row, skip_special_tokens=True).strip() for row in outputs[0][:, width:]]
    assert all(text.startswith(target) for text, target in zip(written, asked["target_new"], strict=False))


def test_retrieval_does_not_profit_from_the_target_in_sight(personal: Any) -> None:
    _, edited, asked = personal
    targets = (*asked["target_new"], "Tavernier", "nothing")
    for prompt in (*asked["prompts"], *asked["rephrase_prompts"]):
        alone = [fact.triple for fact in edited.facts([prompt])[0]]
        assert alone
        swapped = edited.facts([f"{prompt} {target}" for target in targets], joined=True)
        assert all([fact.triple for fact in facts] == alone for facts in swapped)


def test_importing_easyedit_changes_nothing_of_the_callers(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("EASYEDIT_HOME", str(FAKE))
    root = logging.getLogger()
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    told = (list(root.handlers), root.level, dict(os.environ), list(sys.meta_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        register_with_easyedit()
    assert "easyeditor" in sys.modules
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert before[2] == random.getstate()
    assert told == (list(root.handlers), root.level, dict(os.environ), list(sys.meta_path))
    assert not [name for name, module in sys.modules.items() if type(module).__name__ == "_StandIn"]
    register_with_easyedit()  # again: nothing happens
    assert list(sys.modules["easyeditor.util.alg_dict"].ALG_DICT) == ["KGT"]
