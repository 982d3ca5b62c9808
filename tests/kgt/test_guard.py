"""Representations, the guard and names of relations, on tiny random models: what must hold whatever a model knows."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.kgt import guard, naming
from kgt_editor.kgt.representation import Representations, asked_of, masked, neutral_sentences
from kgt_editor.lm.hidden import hidden_states

LM = tuple[Any, Any]


def test_hidden_states_are_those_of_one_text_at_a_time(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    texts = ["Ada Brun", "The mother tongue of Milo Castrel is", "Ada Brun was born in the town of"]
    found = hidden_states(model, tok, texts, [1, 3])
    for text, states in zip(texts, found, strict=True):
        out = model(**tok(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        for place, layer in enumerate((1, 3)):
            assert torch.allclose(states[0, place], out[layer][0, 1:].mean(0), atol=1e-4)
            assert torch.allclose(states[1, place], out[layer][0, -1], atol=1e-4)


def test_vectors_have_length_one_and_are_kept(tiny_lm: LM) -> None:
    found = Representations.of(*tiny_lm)
    assert found is Representations.of(*tiny_lm)
    vectors = found(["X was born in", "Where was X born?", "X was born in"])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-2)
    assert torch.equal(vectors[0], vectors[2])
    assert float(vectors[0] @ vectors[0]) == pytest.approx(1, abs=1e-2)
    assert set(found.neutral) == set(neutral_sentences())


def test_every_wikidata_relation_has_neutral_sentences_about_x() -> None:
    sentences = neutral_sentences()
    assert set(WIKIDATA_PHRASES) <= set(sentences)
    for statement, question in sentences.values():
        assert "X" in statement.split() or "X" in statement.replace("'s", "").split()
        assert question.endswith("?")
        assert not statement.endswith("?")


def test_the_subject_is_masked_as_a_word() -> None:
    assert masked("Where was ada brun born?", "Ada Brun") == "Where was X born?"
    assert masked("Annabel met Ann", "Ann") == "Annabel met X"
    assert masked("Who is C++ for?", "C++") == "Who is X for?"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Shayna goes still. Ada Brun, a native", "X, a native"),
        ("He asked (twice!) why.\n\nHistory\nWhere was ada brun born?", "Where was X born?"),
        ("Which sport does Ada Brun play? She plays", "Which sport does X play? She plays"),
        ("Ada Brun is kind. Where does Ada Brun live?", "Where does X live?"),
        ("In 3.5 years Ada Brun moved to", "In 3.5 years X moved to"),
        ("It rained. Nobody is named here", "It rained. Nobody is named here"),
    ],
)
def test_what_stands_before_the_subjects_sentence_is_not_asked(text: str, asked: str) -> None:
    assert asked_of(text, "Ada Brun") == asked


def test_a_foreign_sentence_in_front_changes_no_similarity(tiny_lm: LM) -> None:
    representations = Representations.of(*tiny_lm)
    query, stored = "The mother tongue of Ada Brun is", ["Ada Brun was born in"]
    plain, behind = (
        guard.similarities(representations, [guard.Asked(text, "Ada Brun", stored, "Ada Brun")])
        for text in (query, f"The station is unattended. {query}")
    )
    assert plain == behind


def test_the_same_question_bears_for_certain_and_others_by_the_curve(tiny_lm: LM) -> None:
    representations = Representations.of(*tiny_lm)
    query = "Ada Brun was born in the town of"
    asked = guard.Asked(query, "Ada Brun", [query.upper(), "The mother tongue of Ada Brun is"], "Ada Brun")
    (logs,) = guard.bearing(representations, [asked], 0.1, 20.0)
    (near,) = guard.similarities(representations, [asked])
    assert logs[0] == 0.0
    assert math.exp(logs[1]) == pytest.approx(1 / (1 + math.exp(-20 * (near[1] - 0.1))), rel=1e-6)
    assert -1.01 <= near[1] <= 1.01


def test_the_curve_is_finite_far_out() -> None:
    low, middle, high = guard.curve([-1.0, 0.2, 1.0], 0.2, 1000.0)
    assert low == pytest.approx(-1200)
    assert middle == pytest.approx(math.log(0.5))
    assert high == pytest.approx(0)


def test_ranking_gives_different_relations_of_the_vocabulary(tiny_lm: LM) -> None:
    vocabulary = list(WIKIDATA_PHRASES.values())
    queries = [
        ("Ada Brun was born in", "Ada Brun", "Velmora"),
        ("The mother tongue of Ada Brun is", "Ada Brun", "Quin"),
    ]
    found = naming.rank(*tiny_lm, queries, [vocabulary, vocabulary[:3]], 5)
    assert [len(set(names)) for names in found] == [5, 3]
    assert set(found[0]) <= set(vocabulary)
    assert found == naming.rank(*tiny_lm, queries, [vocabulary, vocabulary[:3]], 5)


def test_a_sentence_is_nearest_to_the_relation_that_it_stands_for(tiny_lm: LM) -> None:
    vocabulary = list(WIKIDATA_PHRASES.values())
    statement, _ = neutral_sentences()["P413"]
    near = naming.Namer(*tiny_lm)._similarity(statement, vocabulary)  # in any model, whatever the answer
    assert WIKIDATA_PHRASES["P413"] in [vocabulary[index] for index in near.topk(3).indices.tolist()]


def test_every_wikidata_relation_has_sentences_of_its_own() -> None:
    listed = {relation: naming.sentences(relation) for relation in WIKIDATA_PHRASES.values()}
    for relation, texts in listed.items():
        assert len(texts) >= 6, relation
        assert all(re.findall(r"\bX\b", text) == ["X"] for text in texts), relation
    together = [text for texts in listed.values() for text in texts]
    assert len(set(together)) == len(together)
    assert naming.sentences("is fond of") == ["X is fond of"]


@pytest.mark.parametrize(
    ("query", "relation"),
    [
        ("Danielle Darrieux was born in", "was born in"),
        ("The mother tongue of Danielle Darrieux is", "mother tongue of … is"),
        ("Danielle Darrieux's mother tongue is", "mother tongue is"),
        ("Danielle Darrieux, who plays", "who plays"),
        ("What does Danielle Darrieux eat?", "What does … eat"),
        ("danielle darrieux lives in", "lives in"),
        ("Danielle Darrieux", "is"),
    ],
)
def test_the_users_own_words_name_the_relation(query: str, relation: str) -> None:
    assert naming.from_query(query, "Danielle Darrieux") == relation
