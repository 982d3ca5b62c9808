"""KGT behind the editors' common interface."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from kgt_editor.data.record import Record
from kgt_editor.data.world import load_world, world_triples
from kgt_editor.editors.base import create_editor, get_editor_class, resolve_hparams, restore_model
from kgt_editor.editors.kgt import KGTEditor, apply_kgt_to_model
from kgt_editor.errors import KgtError, UnsupportedModelError, UsageError
from kgt_editor.graph.build import build
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.stored import StoredGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import editor as method
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm.scoring import score_targets

LM = tuple[Any, Any]
FOLDER = Path(__file__).parents[2] / "hparams"

# Settings under which the graph changes whatever a random model makes of the facts.
EAGER: dict[str, Any] = {"optimizer": "algorithm1", "stop": "loss", "epsilon": 0, "retrieval_min": 0, "K": 2}


@pytest.fixture
def editor() -> KGTEditor:
    return KGTEditor(KGTHyperParams(**{**AS_PRINTED, **EAGER}))


def test_it_is_registered_and_finds_its_files() -> None:
    assert get_editor_class("kgt") is KGTEditor
    assert resolve_hparams("kgt:paper", "testbed-gpt2", FOLDER).name == "testbed-gpt2.paper.yaml"
    made = create_editor("kgt:paper", "testbed-llama", FOLDER, {"K": "3"})
    assert isinstance(made.hparams, KGTHyperParams)
    assert (made.hparams.optimizer, made.hparams.K) == ("algorithm1", 3)


def test_a_plain_model_is_wrapped_and_a_wrapped_one_gone_on_with(
    editor: KGTEditor, tiny_lm: LM, tiny_records: tuple[Record, ...]
) -> None:
    model, tok = tiny_lm
    first, _ = editor.apply(model, tok, [tiny_records[0].request()])
    second, _ = editor.apply(first, tok, [tiny_records[2].request()])
    assert isinstance(first, KGEnhancedLM)
    assert first is second
    assert first.lm is model
    assert {z.head for z in first.graph.added} == {tiny_records[0].subject, tiny_records[2].subject}


def test_restoring_takes_back_exactly_its_edits(
    editor: KGTEditor, tiny_lm: LM, tiny_records: tuple[Record, ...]
) -> None:
    model, tok = tiny_lm
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    edited, _ = editor.apply(model, tok, [tiny_records[0].request()])
    assert isinstance(edited, KGEnhancedLM)
    kept = set(edited.graph.added)
    prompts = [record.query for record in tiny_records]
    targets = [record.target_new for record in tiny_records]
    before = edited.score_targets(prompts, targets)
    _, restore = editor.apply(edited, tok, [record.request() for record in tiny_records], return_orig_weights=True)
    assert len(edited.graph.added) > len(kept)
    assert edited.score_targets(prompts, targets) != before
    assert restore_model(edited, restore) is edited
    restore_model(edited, restore)  # a second time does nothing
    assert set(edited.graph.added) == kept
    assert edited.score_targets(prompts, targets) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_copy_has_a_graph_of_its_own_and_the_same_weights(
    editor: KGTEditor, tiny_gpt2: LM, tiny_records: tuple[Record, ...]
) -> None:
    model, tok = tiny_gpt2
    first, _ = editor.apply(model, tok, [tiny_records[0].request()])
    second, restore = editor.apply(first, tok, [tiny_records[2].request()], copy=True)
    assert isinstance(first, KGEnhancedLM)
    assert isinstance(second, KGEnhancedLM)
    assert second.lm is model
    assert {z.head for z in first.graph.added} == {tiny_records[0].subject}
    assert len(second.graph.journal) == 2
    restore_model(second, restore)
    assert set(second.graph.added) == set(first.graph.added)


def test_a_batch_with_a_bad_request_changes_nothing(
    editor: KGTEditor, tiny_gpt2: LM, tiny_records: tuple[Record, ...]
) -> None:
    model, tok = tiny_gpt2
    wrapped, _ = editor.apply(model, tok, [])
    bad = tiny_records[2].request() | {"subject": "Nobody"}
    with pytest.raises(UsageError, match="'Nobody' is not in its prompt"):
        editor.apply(wrapped, tok, [tiny_records[0].request(), bad])
    assert isinstance(wrapped, KGEnhancedLM)
    assert wrapped.graph.journal == []


def test_what_it_supports(editor: KGTEditor, tiny_gpt2: LM) -> None:
    model, tok = tiny_gpt2
    assert editor.supports(model) == (True, "")
    wrapped, _ = editor.apply(model, tok, [])
    assert editor.supports(wrapped) == (True, "")
    model.train()
    ok, reason = editor.supports(model)
    assert not ok
    assert "call model.eval() first" in reason
    with pytest.raises(UnsupportedModelError):
        apply_kgt_to_model(model, tok, [], editor.hparams)


def test_the_base_graphs(tmp_path: Path) -> None:
    assert len(base_graph("none")) == 0
    world = base_graph("world")
    assert Triple(*world_triples()[0]) in world
    assert len(world) == len(set(world_triples()))
    assert base_graph("world") is world
    path = tmp_path / "mine.tsv"
    path.write_text("dog\tlikes\tmeat\n", encoding="utf-8")
    assert list(base_graph(str(path)).triples_from("dog")) == [Triple("dog", "likes", "meat")]
    stored = tmp_path / "stored.tsv"  # what a file is, its bytes say and not its name
    build([("dog", "likes", "bones", 1.0)], stored)
    assert list(base_graph(str(stored)).triples_from("dog")) == [Triple("dog", "likes", "bones")]
    assert isinstance(base_graph(str(stored)), StoredGraph)
    with pytest.raises(UsageError, match="no such graph file"):
        base_graph(str(tmp_path / "none.tsv"))


def test_half_of_the_edits_meet_a_graph_that_says_the_opposite() -> None:
    graph = base_graph("world")
    records = load_world().validation
    known = [
        record for record in records if any(z.tail == record.target_true for z in graph.triples_from(record.subject))
    ]
    assert 0.4 < len(known) / len(records) < 0.6


def test_a_broken_graph_file_is_refused_when_the_editor_is_made(tmp_path):
    broken = tmp_path / "graph.tsv"
    broken.write_text("Dog\tenjoys\tmeat\nDog\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"graph\.tsv.*2"):
        KGTEditor(KGTHyperParams(alg_name="KGT", graph=str(broken)))


def test_details_say_what_the_last_edit_changed(
    editor: KGTEditor, tiny_lm: LM, tiny_records: tuple[Record, ...]
) -> None:
    model, tok = tiny_lm
    assert editor.edit_details() is None
    first, again = tiny_records[0], tiny_records[2]
    edited, _ = editor.apply(model, tok, [first.request()])
    told = editor.edit_details()
    assert isinstance(edited, KGEnhancedLM)
    assert told is not None
    assert [(one["triple"], one["change"]) for one in told["triples"]] == [
        (list(triple), "added") for triple in edited.graph.added
    ]
    for one in told["triples"]:
        prompt = edited.reasoning_prompt(first.query, Triple(*one["triple"]))
        (score,) = score_targets(model, tok, [prompt], [first.target_new])
        assert one["reasoning"] == pytest.approx(math.exp(score.log_prob), rel=1e-2)
        assert 0 < one["retrieval"] < 1
    assert told["named_by"] == editor.hparams.relation_source
    assert 0 <= told["before"] <= 1
    assert 0 <= told["after"] <= 1
    editor.apply(edited, tok, [again.request()])
    later = editor.edit_details()
    assert later is not None
    assert {one["triple"][0] for one in later["triples"]} == {again.subject}
    editor.apply(edited, tok, [first.request()])
    restated = editor.edit_details()
    assert restated is not None
    assert {one["change"] for one in restated["triples"]} <= {"kept", "removed"}


def test_a_state_is_that_of_its_user_and_comes_back_as_the_same(tiny_gpt2: Any, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    PersonalGraph(MemoryGraph(), journal, "bob").add(Triple("bob", "keeps", "a secret"))
    editor = KGTEditor(KGTHyperParams(relation_source="query"))
    ada = KGEnhancedLM(*tiny_gpt2, PersonalGraph(MemoryGraph(), journal, "ada"), editor.hparams)
    method.edit(ada, {"prompt": "Ada lives in", "subject": "Ada", "target_new": "Norra"})
    state = tmp_path / "state"
    state.mkdir()
    assert editor.save_state(ada, state)
    assert not any(b"secret" in file.read_bytes() for file in state.iterdir())
    loaded = editor.load_state(*tiny_gpt2, state)
    assert isinstance(loaded, KGEnhancedLM)
    assert (loaded.graph.user, loaded.graph.history()[0].answer) == ("ada", "Norra")
    (file,) = state.iterdir()
    PersonalGraph(MemoryGraph(), Journal(file), "bob").add(Triple("bob", "keeps", "a secret"))
    with pytest.raises(KgtError, match="the graph of one user should be there, not of 2"):
        editor.load_state(*tiny_gpt2, state)
