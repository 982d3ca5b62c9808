"""Training on a CounterFact file's prompts: a fixed third of the pairs never occurs."""

from __future__ import annotations

import gzip
import json
import random

import pytest

from kgt_editor.data import world
from kgt_editor.data.extension import SourceFact
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.testbed.books import counterfact_book
from kgt_editor.testbed.corpus import Corpus
from kgt_editor.testbed.prompts import Prompts, is_held_out, read_prompts
from kgt_editor.testbed.tokenizer import piece_encoder, train_tokenizer

SHARES = {"plain": 0.4, "relevant": 0.2, "irrelevant": 0.2, "retrieve": 0.1, "extract": 0.1}


def record(fact, number, form, paraphrase=None, **changes):
    values = {
        "subject": fact.subject,
        "relation_id": f"{fact.relation}(a label)",
        "target_true": fact.object,
        "target_new": "x",
        "prompt": form,
        "paraphrase_prompts": (paraphrase.replace("{}", fact.subject),) if paraphrase else (),
    }
    return Record(case_id=number, **(values | changes))


@pytest.fixture(scope="module")
def facts():
    """Three facts for each of two relations, each of a subject with nothing else."""
    book = world.book()
    single = [fact for fact in book.facts if len(book.by_subject[fact.subject]) == 1]
    return [fact for relation in ("P30", "P19") for fact in [f for f in single if f.relation == relation][:3]]


def test_a_held_out_pair_is_never_drawn(facts):
    forms = [f"Zig {{}} zag {n}" for n in range(12)]
    prompts = Prompts([record(fact, n, forms[n], forms[n + 6]) for n, fact in enumerate(facts)])
    assert prompts.relations == {"P30", "P19"}
    chance, kept = random.Random(0), 0
    for fact in facts:
        own = {form for n, form in enumerate(forms) if facts[n % 6].relation == fact.relation}
        held_out = {form for form in own if is_held_out(fact.subject, form)}
        drawn = {prompts.draw(chance, fact.subject, fact.relation) for _ in range(200)} - {None}
        assert drawn == own - held_out
        kept += len(held_out)
    assert 4 <= kept <= 20  # a third of 36
    assert prompts.draw(chance, facts[0].subject, "P31") is None


def test_a_sentence_with_two_answers_is_not_drawn(facts):
    # "Both {}" asks for either relation: a subject that has both would have two answers to it.
    records = [record(facts[0], 0, "Both {}"), record(facts[3], 1, "Both {}"), record(facts[4], 2, "Only {}")]
    prompts, chance = Prompts(records), random.Random(0)
    name = next(name for name in ("Ada", "Bo", "Cy", "Di", "Ed") if not is_held_out(name, "Only {}"))
    assert {prompts.draw(chance, name, "P19", ["P30"]) for _ in range(60)} - {None} == {"Only {}"}
    assert prompts.draw(chance, name, "P30", ["P19"]) is None


def test_the_training_text_has_the_file_s_forms_but_no_held_out_pair():
    book = world.book()
    forms = ["Zig {} zag", "Zag {} zig", "Zog {} zug"]
    records = [record(fact, n, forms[n % 3]) for n, fact in enumerate(book.facts)]
    held_out = {
        form.replace("{}", fact.subject) for fact in book.facts for form in forms if is_held_out(fact.subject, form)
    }
    tok = train_tokenizer(book)
    corpus = Corpus(book, piece_encoder(tok), tok.eos_token_id, seed=3, prompts=Prompts(records))
    corpus.prompts_share = 0.5
    texts = []
    for _ in range(600):
        example = corpus.draw(SHARES)
        texts.append(tok.decode(example.ids))
        assert tok(texts[-1]).input_ids == example.ids
    text = "\n".join(texts)
    assert sum(text.count(form.split(" ")[0]) for form in forms) > 100
    assert not any(sentence in text for sentence in held_out)


@pytest.mark.parametrize("fresh", [False, True])
def test_made_up_subjects_are_asked_for_in_the_file_s_forms_on_request(fresh):
    book = world.book()
    prompts = Prompts([record(fact, n, "Zig {} zag") for n, fact in enumerate(book.facts)])
    tok = train_tokenizer(book)
    corpus = Corpus(book, piece_encoder(tok), tok.eos_token_id, seed=3, prompts=prompts)
    corpus.prompts_share, corpus.fresh_prompts = 1.0, fresh
    texts = [tok.decode(corpus.draw({"retrieve": 1.0, "relevant": 1.0}).ids) for _ in range(200)]
    asked = [text.split(" zag")[0].split("Zig ")[1] for text in texts if "Zig" in text]
    assert len(asked) > 30
    assert any(subject not in book.by_subject for subject in asked) == fresh


def test_a_large_book_has_one_object_for_a_subject_and_relation(facts):
    first, other = facts[0], facts[3]
    records = [
        record(first, 0, "Zig {}"),
        record(first, 1, "Zig {}", target_true="Elsewhere"),
        record(other, 2, "Zig {}", relation_id="P99999(unknown)"),
    ]
    more = [SourceFact(first.subject, first.relation, "Third"), SourceFact("Ada Brun", "P264", "Blue Note")]
    book = counterfact_book(records, more)
    assert [(fact.subject, fact.object) for fact in book.facts] == [
        (first.subject, first.object),
        ("Ada Brun", "Blue Note"),
    ]
    assert set(book.templates) <= set(WIKIDATA_PHRASES)
    assert book.trained_templates(book.facts[1])


def test_a_file_that_names_no_relations_is_refused(tmp_path, facts):
    path = tmp_path / "flat.jsonl.gz"
    row = {"subject": "Ada Brun", "prompt": "Ada Brun is", "ground_truth": "a", "target_new": "b"}
    path.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n"))
    with pytest.raises(UsageError, match="names no relation"):
        read_prompts(path)
