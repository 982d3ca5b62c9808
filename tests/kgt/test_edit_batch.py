"""Edits of several users in the same passes, and on real architectures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from kgt.editing import BASE, LM, PRINTED, QUERY, enhanced, request, triples
from kgt_editor.errors import KgtError, NumericalError, UsageError
from kgt_editor.graph.entry import Edit
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import guard
from kgt_editor.kgt.editor import edit, edit_batch
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.representation import Representations
from kgt_editor.lm import continuations, tree
from kgt_editor.lm.batching import way_of
from kgt_editor.lm.scoring import TargetScore, score_targets


def test_rank_takes_three_passes_and_user_one(tiny_lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgt_editor.kgt.retrieval.WIKIDATA_PHRASES", {"P20": "died in"})
    way_of(tiny_lm[0], 10)
    passes = []
    tiny_lm[0].register_forward_hook(lambda *_: passes.append(1))
    edit(enhanced(tiny_lm, *BASE), request())
    assert len(passes) == 3
    passes.clear()
    edit(enhanced(tiny_lm, *BASE, relation_source="user"), request(relations=["was born in"]))
    assert len(passes) == 1


def test_by_similarity_the_first_fact_of_an_entity_is_one_pass_for_all_users(tiny_lm: LM) -> None:
    way_of(tiny_lm[0], 10)
    settings = KGTHyperParams(relation_source="query", reading="stored", contrast=0.5)
    users = [KGEnhancedLM(*tiny_lm, PersonalGraph(MemoryGraph(())), settings) for _ in range(3)]
    (alone,) = edit_batch(users[2:], [request()])
    passes: list[int] = []
    tiny_lm[0].register_forward_hook(lambda *_: passes.append(1))
    together, other = edit_batch(
        users[:2], [request(), request("Quindle", "Milo Castrel speaks", subject="Milo Castrel")]
    )
    assert len(passes) == 1
    assert other.edit.added == (Triple("Milo Castrel", "speaks", "Quindle"),)
    assert together.edit.added == alone.edit.added
    for found, wanted in zip(together.problem.proposals, alone.problem.proposals, strict=True):
        assert found.reasoning == pytest.approx(wanted.reasoning, abs=1e-4)
    assert together.problem.plain.log_prob == pytest.approx(alone.problem.plain.log_prob, abs=1e-4)
    (plain,) = score_targets(*tiny_lm, [QUERY], [request()["target_new"]])
    assert together.problem.plain.log_prob == pytest.approx(plain.log_prob, abs=1e-4)
    Representations.of(*tiny_lm)
    passes.clear()
    edit(users[0], request("Norrish", "Ada Brun speaks"))  # the entity has a fact: questions are compared first
    assert len(passes) == 2


@pytest.mark.parametrize(("similarity", "left"), [(0.55, ["Tarsil", "Quindle"]), (0.65, ["Quindle"])])
def test_only_an_answer_to_the_same_question_takes_the_place_of_another(
    tiny_lm: LM, monkeypatch: pytest.MonkeyPatch, similarity: float, left: list[str]
) -> None:
    settings = KGTHyperParams(relation_source="query", reading="stored")
    bearing = guard.curve([similarity], settings.guard_midpoint, settings.guard_slope)[0]
    model = KGEnhancedLM(*tiny_lm, PersonalGraph(MemoryGraph(())), settings)
    edit(model, request())
    monkeypatch.setattr(model.retrieval, "bearings", lambda asked: [[bearing] * len(one.stored) for one in asked])
    edit(model, request("Quindle", "Ada Brun drinks"))
    assert [triple.tail for triple in model.graph.triples_from("Ada Brun")] == left


def test_a_batch_is_one_edit_after_the_other(tiny_lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgt_editor.kgt.retrieval.WIKIDATA_PHRASES", {"P20": "died in"})
    settings: dict[str, Any] = {"stop": "loss", "answer_epsilon": 0, "min_gain": 1e-9, "retrieval_min": 0, "K": 2}
    other = request("Osthaven", "Milo Castrel speaks", subject="Milo Castrel")
    asked = [request(), request("Quindle"), other, request("Norrish", "The mother tongue of Ada Brun is"), request()]
    whose = [0, 1, 0, 0, 1]

    users = [enhanced(tiny_lm, *BASE, **settings) for _ in range(2)]
    alone = [edit(users[user], given) for user, given in zip(whose, asked, strict=True)]
    expected = [set(user.graph.triples_from(head)) for user in users for head in ("Ada Brun", "Milo Castrel")]

    users = [enhanced(tiny_lm, *BASE, **settings) for _ in range(2)]
    passes: list[int] = []
    tiny_lm[0].register_forward_hook(lambda *_: passes.append(1))
    outcomes = edit_batch([users[user] for user in whose], asked)
    # Two rounds, for two edits wait for an earlier one of the same user and entity; alone, each takes three passes.
    assert len(passes) < 3 * len(asked)
    assert [(o.edit.added, o.edit.removed) for o in outcomes] == [(o.edit.added, o.edit.removed) for o in alone]
    assert [set(u.graph.triples_from(head)) for u in users for head in ("Ada Brun", "Milo Castrel")] == expected
    for together, one in zip(outcomes, alone, strict=True):
        for found, wanted in zip(together.problem.proposals, one.problem.proposals, strict=True):
            assert found.triple == wanted.triple
            assert (found.retrieval, found.reasoning) == pytest.approx((wanted.retrieval, wanted.reasoning), abs=1e-4)


def test_a_batch_with_a_bad_edit_changes_no_graph(sensible: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [enhanced(sensible, *BASE) for _ in range(2)]
    with pytest.raises(UsageError, match="'subject' is missing"):
        edit_batch(users, [request(), request(subject="")])
    sensible_score = continuations.score_continuations

    def fails_later(model: Any, pairs: Sequence[tree.Pair], *sizes: Any) -> list[TargetScore]:
        if users[0].graph.journal:
            raise NumericalError("NaN logits")
        return sensible_score(model, pairs)

    monkeypatch.setattr(continuations, "score_continuations", fails_later)
    with pytest.raises(NumericalError):
        edit_batch([*users, users[1]], [request(), request(), request("Quindle")])
    assert [triples(user) for user in users] == [set(BASE), set(BASE)]


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_a_batch_whose_graphs_cannot_all_be_written_to_leaves_none_changed(
    sensible: LM, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: int
) -> None:
    base = MemoryGraph(BASE)
    names = ("ada", "bob", "eva")
    models = [KGEnhancedLM(*sensible, PersonalGraph(base, Journal(tmp_path / name), name), PRINTED) for name in names]
    before = [triples(model) for model in models]
    commit, calls = PersonalGraph.commit, []

    def faulty(self: PersonalGraph, *args: Any, **kwargs: Any) -> Edit:
        calls.append(self.user)
        if len(calls) == fails:
            raise KgtError("the disk is full")
        return commit(self, *args, **kwargs)

    monkeypatch.setattr(PersonalGraph, "commit", faulty)
    with pytest.raises(KgtError, match="the disk is full"):
        edit_batch(models, [request(), request("Quindle"), request("Osthaven")])
    assert [triples(model) for model in models] == before
    for model, name in zip(models, names, strict=True):
        again = PersonalGraph(base, Journal(tmp_path / name), name)
        assert (again.added, again.removed, again.journal) == ([], [], [])
        assert model.explain(QUERY)[0].feedback is None


def test_a_batch_needs_one_model_and_equal_settings(tiny_gpt2: LM) -> None:
    model = enhanced(tiny_gpt2, *BASE)
    assert edit_batch([], []) == []
    with pytest.raises(UsageError, match="2 models but 1 requests"):
        edit_batch([model, model], [request()])
    with pytest.raises(UsageError, match="one language model with equal settings"):
        edit_batch([model, enhanced(tiny_gpt2, K=2)], [request(), request()])


@pytest.mark.parametrize("source", ["rank", "generate", "user"])
@pytest.mark.parametrize("optimizer", ["greedy", "algorithm1"])
def test_real_models_are_edited_and_their_weights_stay(tiny_lm: LM, source: str, optimizer: str) -> None:
    before = {name: value.clone() for name, value in tiny_lm[0].state_dict().items()}
    model = enhanced(
        tiny_lm,
        *BASE,
        relation_source=source,
        optimizer=optimizer,
        K=3,
        stop="loss",
        answer_epsilon=0,
        epsilon=0,
        min_gain=1e-9,
        retrieval_min=0,
    )
    outcome = edit(model, request(relation_id="P19"))
    assert outcome.solution.steps or optimizer == "greedy"
    assert set(model.graph.triples_from("Ada Brun")) == {z.triple for z in outcome.solution.graph}
    assert all(torch.equal(value, before[name]) for name, value in tiny_lm[0].state_dict().items())


@pytest.mark.parametrize("settings", [{}, {"guard": "similarity", "fact": "sentence", "ranking": "similarity"}])
def test_a_relation_of_a_thousand_characters_keeps_nobody_from_editing(tiny_lm: LM, settings: dict[str, Any]) -> None:
    model = enhanced(tiny_lm, relation_source="rank", **settings)
    long = Triple("Ada Brun", "is " + "very " * 199 + "x", "Norra")
    assert len(long.relation) > 990
    model.graph.commit("Ada Brun is", "Norra", [long])
    outcome = edit(model, request())
    assert outcome.edit.added
    model.answer(QUERY)
