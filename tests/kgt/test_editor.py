"""Whole edits, with chosen probabilities in the language model's place, and on tiny real models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from kgt_editor.errors import KgtError, NumericalError, UsageError
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import relations
from kgt_editor.kgt.editor import edit, edit_batch
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm import continuations, tree
from kgt_editor.lm.batching import way_of
from kgt_editor.lm.scoring import TargetScore

LM = tuple[Any, Any]
QUERY = "Ada Brun was born in the town of"
BASE = [Triple("Ada Brun", "was born in", "Velmora"), Triple("Ada Brun", "speaks the language", "Quin")]


def request(answer: str = "Tarsil", query: str = QUERY, **more: Any) -> dict[str, Any]:
    return {"prompt": query, "subject": "Ada Brun", "target_new": answer, **more}


PRINTED = KGTHyperParams(**AS_PRINTED)


def enhanced(lm: LM, *base: Triple, **settings: Any) -> KGEnhancedLM:
    hparams = KGTHyperParams.build({**AS_PRINTED, **settings}, "test")
    return KGEnhancedLM(*lm, PersonalGraph(MemoryGraph(base)), hparams)


def triples(model: KGEnhancedLM) -> set[Triple]:
    return {z for head in model.graph.heads() for z in model.graph.triples_from(head)}


@pytest.fixture
def sensible(monkeypatch: pytest.MonkeyPatch, tiny_gpt2: LM) -> LM:
    """A language model that does as KGT's templates ask, and by itself believes in Velmora."""
    tok = tiny_gpt2[1]

    def probability(text: str, continuation: str) -> float:
        wanted = "was born in" if "born" in text or "birthplace" in text else "speaks the language"
        if "I need information" in text or "<relation>:" in text:
            relation = continuation.split(" <")[0]
            return 0.9 if relation == wanted else 0.01
        if "<facts>:" in text:
            fact = text.split("<facts>: ")[1].split(" <answer>:")[0]
            return 0.95 if wanted in fact and fact.endswith(continuation) else 0.02
        return 0.9 if continuation == "Velmora" else 0.01

    def score(model: Any, pairs: Sequence[tree.Pair], *sizes: Any) -> list[TargetScore]:
        found = []
        for context, continuation in pairs:
            chance = probability(tok.decode(context), tok.decode(continuation).strip())
            found.append(TargetScore(math.log(chance), len(continuation), chance > 0.5))
        return found

    def best(model: Any, questions: Sequence[tuple[list[int], list[list[int]]]], k: int) -> list[list[int]]:
        ranked = []
        for context, ends in questions:
            found = score(model, [(context, continuation) for continuation in ends])
            ranked.append(sorted(range(len(found)), key=lambda index: -found[index].log_prob)[:k])
        return ranked

    monkeypatch.setattr(continuations, "score_continuations", score)
    monkeypatch.setattr(relations, "best_continuations", best)
    return tiny_gpt2


def test_feedback_replaces_the_base_graphs_opposite(sensible: LM) -> None:
    model = enhanced(sensible, *BASE)
    outcome = edit(model, request())
    assert outcome.edit.added == (Triple("Ada Brun", "was born in", "Tarsil"),)
    assert outcome.edit.removed == (BASE[0],)
    assert (outcome.edit.query, outcome.edit.answer) == (QUERY, "Tarsil")
    assert triples(model) == {Triple("Ada Brun", "was born in", "Tarsil"), BASE[1]}
    assert outcome.solution.done
    (fact, *_) = model.explain(QUERY)
    assert fact.feedback == outcome.edit


def test_a_durable_graph_keeps_edits_with_their_probabilities(sensible: LM, tmp_path: Path) -> None:
    base = MemoryGraph(BASE)
    model = KGEnhancedLM(*sensible, PersonalGraph(base, Journal(tmp_path / "journal.db"), "ada"), PRINTED)
    outcome = edit(model, request())
    (entry,) = PersonalGraph(base, Journal(tmp_path / "journal.db"), "ada").journal
    assert entry == outcome.edit
    assert entry.removed == (BASE[0],)
    assert entry.before == pytest.approx(0.02)  # read with the base's town
    assert entry.after == pytest.approx(0.95)  # read with the user's
    again = KGEnhancedLM(*sensible, PersonalGraph(base, Journal(tmp_path / "journal.db"), "ada"), PRINTED)
    assert [(fact.triple, fact.feedback) for fact in again.explain(QUERY)] == [(entry.added[0], entry)]


def test_a_restated_answer_changes_nothing(sensible: LM) -> None:
    model = enhanced(sensible, *BASE)
    edit(model, request())
    before = triples(model)
    again = edit(model, request())
    assert (again.edit.added, again.edit.removed) == ((), ())
    assert triples(model) == before
    assert again.became == "restated"


def test_what_the_model_says_already_is_stored(sensible: LM) -> None:
    outcome = edit(enhanced(sensible), request("Velmora"))
    assert [triple.tail for triple in outcome.edit.added] == ["Velmora"]
    assert outcome.became == "held"


@pytest.mark.parametrize("query", [QUERY, "The birthplace of Ada Brun is"])
def test_a_later_answer_wins_and_the_old_triple_goes(sensible: LM, query: str) -> None:
    model = enhanced(sensible, *BASE)
    for answer in ("Tarsil", "Quindle", "Tarsil", "Osthaven"):
        edit(model, request(answer, query))
        assert triples(model) == {Triple("Ada Brun", "was born in", answer), BASE[1]}


def test_other_facts_of_the_user_survive(sensible: LM) -> None:
    model = enhanced(sensible, *BASE)
    edit(model, request("Norrish", "The mother tongue of Ada Brun is"))
    edit(model, request())
    edit(model, request("Quindle"))
    assert triples(model) == {
        Triple("Ada Brun", "speaks the language", "Norrish"),
        Triple("Ada Brun", "was born in", "Quindle"),
    }


def test_undoing_every_edit_gives_the_base(sensible: LM) -> None:
    model = enhanced(sensible, *BASE)
    for answer in ("Tarsil", "Quindle", "Osthaven"):
        edit(model, request(answer))
    while model.graph.journal:
        model.graph.undo()
    assert triples(model) == set(BASE)


def test_another_user_sees_nothing_of_it(sensible: LM) -> None:
    base = MemoryGraph(BASE)
    mine, yours = (KGEnhancedLM(*sensible, PersonalGraph(base), PRINTED) for _ in range(2))
    edit(mine, request())
    assert triples(yours) == set(BASE)
    assert [fact.triple for fact in yours.explain(QUERY)] == [BASE[0]]


def test_algorithm1_loses_what_the_default_keeps(sensible: LM) -> None:
    model = enhanced(sensible, *BASE, optimizer="algorithm1", stop="loss", K=2, epsilon=0.1, retrieval_min=0)
    edit(model, request())
    assert BASE[1] not in triples(model)
    assert len(triples(model)) == 2


def test_the_head_is_the_graphs_spelling(sensible: LM) -> None:
    model = enhanced(sensible, *(Triple("ada brun", z.relation, z.tail) for z in BASE))
    outcome = edit(model, request())
    assert outcome.edit.removed == (Triple("ada brun", "was born in", "Velmora"),)
    assert outcome.edit.added[0].head == "ada brun"


def test_the_users_relation_is_taken_as_it_is(sensible: LM) -> None:
    model = enhanced(sensible, relation_source="user", retrieval_min=0)
    assert edit(model, request(relation_id="P19")).edit.added == (Triple("Ada Brun", "was born in", "Tarsil"),)
    with pytest.raises(UsageError, match="needs the relation"):
        edit(model, request())


def test_the_vocabulary_is_the_graphs_and_wikidatas(sensible: LM) -> None:
    model = enhanced(sensible, Triple("dog", "likes", "meat"))
    model.graph.add(Triple("Rex", "sleeps in", "the kitchen"))
    words = model.retrieval.vocabulary()
    assert words[:2] == ["likes", "sleeps in"]
    assert "was born in" in words
    assert len(words) == len(set(words))


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


def test_when_the_model_writes_nothing_usable_the_vocabulary_is_ranked(
    sensible: LM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgt_editor.kgt.relations.generate", lambda *_: [])
    model = enhanced(sensible, relation_source="generate")
    outcome = edit(model, request())
    assert outcome.edit.added == (Triple("Ada Brun", "was born in", "Tarsil"),)
    assert outcome.named_by == "rank"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"prompt": "Milo Castrel was born in"}, "subject 'Ada Brun' is not in its prompt 'Milo Castrel was born in'"),
        ({"target_new": "  "}, "'target_new' must be a text"),
        ({"target_new": None}, "'target_new' must be a text"),
        ({"subject": ""}, "'subject' is missing"),
        ({"prompt": 3}, "'prompt' must be a text"),
    ],
)
def test_an_incomplete_request_is_refused(tiny_gpt2: LM, given: dict[str, Any], told: str) -> None:
    model = enhanced(tiny_gpt2, *BASE)
    with pytest.raises(UsageError, match=told):
        edit(model, request() | given)
    assert triples(model) == set(BASE)


def test_a_query_beyond_the_context_changes_nothing(tiny_gpt2: LM) -> None:
    model = enhanced(tiny_gpt2, *BASE)
    with pytest.raises(KgtError, match="does not fit the model's context of 256"):
        edit(model, request(query=QUERY + " town of" * 300))
    assert model.graph.journal == []


def test_nan_changes_nothing(tiny_lm: LM) -> None:
    with torch.no_grad():
        tiny_lm[0].get_output_embeddings().weight[:, 0] = float("nan")
    model = enhanced(tiny_lm, *BASE)
    with pytest.raises(NumericalError):
        edit(model, request())
    assert model.graph.journal == []


def test_feedback_that_changes_nothing_in_the_answer_is_kept_and_said(tiny_lm: LM) -> None:
    # A random model follows no fact: every edit is stored all the same, and told anew replaces the old answer.
    model = KGEnhancedLM(*tiny_lm, PersonalGraph(MemoryGraph(())), KGTHyperParams(relation_source="query"))
    first = edit(model, request("Tarsil"))
    assert first.became in ("held", "kept but not followed")
    assert first.edit.added == (Triple("Ada Brun", "was born in the town of", "Tarsil"),)
    second = edit(model, request("Quindle"))
    assert second.edit.removed == first.edit.added
    assert model.graph.triples_from("Ada Brun") == [Triple("Ada Brun", "was born in the town of", "Quindle")]
    assert edit(model, request("Quindle")).edit.added == ()
    (fact,) = model.explain(QUERY)
    assert (fact.triple.tail, fact.probability) == ("Quindle", 1.0)


def test_by_similarity_scoring_answering_and_generating_agree(tiny_lm: LM) -> None:
    settings = KGTHyperParams(relation_source="query", reading="stored", guard_midpoint=-1.0)
    model = KGEnhancedLM(*tiny_lm, PersonalGraph(MemoryGraph(())), settings)
    edit(model, request("Tarsil"))
    for prompt in (QUERY, "The birthplace of Ada Brun is"):
        ids = model.tok(prompt, return_tensors="pt").input_ids
        new = model.generate(ids, max_new_tokens=3)[0, ids.shape[1] :]
        assert model.tok.decode(new, skip_special_tokens=True).strip().split("\n")[0] == model.answer(prompt, 3)
    (score,) = model.score_targets([QUERY], ["Tarsil"])
    ids = model.tok(f"{QUERY} Tarsil", return_tensors="pt").input_ids
    logits = model(ids).logits[0].log_softmax(-1)
    joined = sum(float(logits[place - 1, ids[0, place]]) for place in range(ids.shape[1] - score.tokens, ids.shape[1]))
    assert joined == pytest.approx(score.log_prob, abs=2e-3)
