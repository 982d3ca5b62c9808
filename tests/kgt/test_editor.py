"""Whole edits, with chosen probabilities in the language model's place, and on tiny real models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kgt.editing import BASE, LM, PRINTED, QUERY, enhanced, request, triples
from kgt_editor.errors import KgtError, NumericalError, UsageError
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.editor import edit
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM


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
