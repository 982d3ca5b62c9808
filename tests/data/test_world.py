"""The world: enough facts, disjoint splits, deterministic records."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from kgt_editor.data import world
from kgt_editor.data.base import load
from kgt_editor.graph.relations import WIKIDATA_PHRASES, verbalise


def test_the_world_is_large_enough():
    facts = world.book().facts
    assert len(facts) >= 2000
    assert len({fact.relation for fact in facts}) >= 25
    assert sum(len(known) >= 2 for known in world.book().by_subject.values()) >= 500
    assert len({(fact.subject, fact.relation) for fact in facts}) == len(facts)


def test_every_relation_has_ten_sentences_that_end_where_the_object_follows():
    assert set(world.book().templates) == set(world.book().objects) <= set(WIKIDATA_PHRASES)
    for sentences in world.book().templates.values():
        assert len(set(sentences)) == 10
        for sentence in sentences:
            assert sentence.count("{}") == 1
            assert sentence == sentence.strip()
            assert "  " not in sentence
            assert sentence[-1].isalpha() or sentence.endswith("{}")


def test_held_out_sentences_are_never_trained_with_their_fact():
    for fact in world.book().facts:
        trained, held_out = world.book().trained_templates(fact), world.book().held_out_templates(fact)
        assert len(trained) >= 8
        assert len(held_out) == 2
        assert not set(trained) & set(held_out)
        assert world.book().prompt(fact) in trained


def test_every_sentence_is_trained_with_some_subject():
    trained = {sentence for fact in world.book().facts for sentence in world.book().trained_templates(fact)}
    assert trained == {sentence for sentences in world.book().templates.values() for sentence in sentences}


def test_splits_share_no_subject_and_lose_no_fact():
    splits = world.splits()
    subjects = [{fact.subject for fact in listed} for listed in splits.values()]
    assert sum(map(len, subjects)) == len(set.union(*subjects))
    assert Counter(fact for listed in splits.values() for fact in listed) == Counter(world.book().facts)


def test_records_follow_the_papers_layout():
    data = load("world")
    true = {(fact.subject, fact.relation): fact.object for fact in world.book().facts}
    known = {item.prompt for item in data.known_facts}
    assert len(data.records) >= 1000
    assert len(data.training) >= 800
    assert len(data.validation) >= 100
    for record in (*data.records, *data.training, *data.validation):
        assert true[record.subject, record.relation_id] == record.target_true
        assert record.target_new != record.target_true
        assert record.target_new in world.book().objects[record.relation_id]
        assert len(record.paraphrase_prompts) == 2
        assert all(record.subject in prompt for prompt in record.paraphrase_prompts)
        assert record.query not in record.paraphrase_prompts
    reported = {prompt for record in data.records for prompt in record.neighbourhood_prompts}
    assert reported <= known
    learnt = {prompt for record in data.training for prompt in (record.query, *record.neighbourhood_prompts)}
    assert not reported & learnt


def test_most_reported_records_have_neighbours_with_the_same_true_object():
    data = load("world")
    answers = {item.prompt: item.answer for item in data.known_facts}
    assert sum(bool(record.neighbourhood_prompts) for record in data.records) >= 0.7 * len(data.records)
    for record in data.records:
        assert all(answers[prompt] == record.target_true for prompt in record.neighbourhood_prompts)


def test_the_world_is_the_same_in_another_process():
    code = "from kgt_editor.data.base import load; print(load('world').revision)"
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(2)}
    assert runs == {load("world").revision + "\n"}


def test_half_of_the_subjects_are_in_the_base_graph():
    half, everything = world.world_triples(), world.world_triples("all")
    assert set(half) < set(everything)
    assert len(everything) == len(world.book().facts)
    assert 0.4 < len({head for head, _, _ in half}) / len(world.book().by_subject) < 0.6
    assert all(relation in WIKIDATA_PHRASES.values() for _, relation, _ in half)


def test_relations_are_verbalised():
    assert verbalise("P103") == verbalise("P103(native language)") == "has native language"
    assert verbalise("has native language") == "has native language"
    assert verbalise("P99999(chess title)") == "chess title"
    assert verbalise("AtLocation") == "is located at"
    assert verbalise("SeenBeside") == "seen beside"
    assert verbalise("is_part_of") == "is part of"
