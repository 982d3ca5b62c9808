"""The training text is what inference will see, and holds nothing that is held out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kgt_editor.data import world
from kgt_editor.data.counterfact import role
from kgt_editor.kgt.templates import Templates
from kgt_editor.testbed.books import counterfact_book, counterfact_instructed, world_instructed
from kgt_editor.testbed.corpus import Corpus
from kgt_editor.testbed.recipes import Recipe
from kgt_editor.testbed.tokenizer import END, piece_encoder, train_tokenizer
from kgt_editor.testbed.train import collate, pack, subject_masks, train
from kgt_editor.testbed.training_text import INNER, LAST

SHARES = {"plain": 0.3, "relevant": 0.2, "irrelevant": 0.2, "retrieve": 0.15, "extract": 0.15}


@pytest.fixture(scope="module")
def tok():
    return train_tokenizer(world.book())


@pytest.fixture
def corpus(tok):
    return Corpus(world.book(), piece_encoder(tok), tok.eos_token_id, seed=3)


def test_examples_are_tokenised_as_running_text(tok, corpus):
    for _ in range(300):
        example = corpus.draw(SHARES)
        assert tok(tok.decode(example.ids)).input_ids == example.ids


def test_objects_are_single_tokens_and_space_does_not_matter(tok):
    single = [len(tok(name).input_ids) == 1 for names in world.book().objects.values() for name in names]
    assert sum(single) / len(single) > 0.9
    assert tok("Paris").input_ids == tok(" Paris").input_ids


def test_held_out_sentences_never_occur(tok, corpus):
    held_out = {
        sentence.replace("{}", fact.subject)
        for fact in world.book().facts
        for sentence in world.book().held_out_templates(fact)
    }
    trained = {
        sentence.replace("{}", fact.subject)
        for fact in world.book().facts
        for sentence in world.book().trained_templates(fact)
    }
    held_out -= trained
    text = "\n".join(tok.decode(corpus.draw(SHARES).ids) for _ in range(1500))
    assert not any(sentence in text for sentence in held_out)
    assert sum(sentence in text for sentence in trained) > 500


def test_templates_occur_word_for_word(tok, corpus):
    templates = Templates()
    opening = templates.retrieve.split("{q}")[0].strip()
    assert tok.decode(corpus.retrieve().ids).strip().startswith(opening)
    ids = corpus.extract().ids
    text = tok.decode(ids)
    subject = text.split("between the subject ")[1].split(" and the object ")[0]
    answer = text.split(" and the object ")[1].split(", considering")[0]
    query = text.split("<query>:")[1].split("<answer>:")[0].strip()
    count = text.split("identify ")[1].split(" ")[0]
    filled = templates.extract.format(K=count, e_q=subject, e_a=answer, q=query, a=answer)
    assert ids[: len(tok(filled).input_ids)] == tok(filled).input_ids


def test_the_masks_hide_the_subject_but_for_its_last_token(tok, corpus):
    batch = collate([pack(corpus, {"plain": 1.0})])
    early, later = subject_masks(batch)
    restricted = batch["restricted"][0]
    subject = batch["subject"][0]
    assert bool(restricted.any())
    assert not early[0, 0][restricted][:, subject > 0].any()
    assert not later[0, 0][restricted][:, subject == INNER].any()
    assert later[0, 0][restricted][:, subject == LAST].any()
    assert torch.equal(early[0, 0][~restricted], later[0, 0][~restricted])
    example = batch["example"][0]
    assert not later[0, 0][example[:, None] != example[None, :]].any()
    assert not later[0, 0].triu(1).any()


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path):
    recipe = Recipe(arch="llama", width=48, layers=2, heads=3, steps=4, rows=1)
    whole, _, _ = train(world.book(), recipe, tmp_path / "whole", checkpoint_every=100)

    class Stop(Exception):
        pass

    def stop(done, _total, _loss):
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        train(world.book(), recipe, tmp_path / "parts", progress=stop, checkpoint_every=2)
    rest, tok, _ = train(world.book(), recipe, tmp_path / "parts", checkpoint_every=100)
    assert tok.eos_token == END
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


def test_a_stage_that_ends_early_is_the_beginning_of_a_whole_one(tmp_path):
    recipe = Recipe(arch="llama", width=48, layers=2, heads=3, steps=4, rows=1)

    def losses(recipe):
        told = []
        train(world.book(), recipe, tmp_path, progress=lambda *step: told.append(step), checkpoint_every=100)
        return told

    whole, part = losses(recipe), losses(replace(recipe, ends_at=2))
    assert [(done, total) for done, total, _ in part] == [(1, 2), (2, 2)]
    assert [loss for _, _, loss in part] == [loss for _, _, loss in whole[:2]]  # the same rates, too


@pytest.fixture
def strict(tok):
    return Corpus(world.book(), piece_encoder(tok), tok.eos_token_id, seed=5, instructed=world_instructed())


def test_instruction_examples_name_only_instructed_and_made_up_entities(strict, monkeypatch):
    """Subjects asked about, heads and tails of facts: none is a subject of a test, neighbour or validation record."""
    held_out = set(world.book().by_subject) - world_instructed()
    assert {fact.subject for name in ("test", "validation") for fact in world.splits()[name]} <= held_out
    seen: set[str] = set()
    encode = strict.encode
    monkeypatch.setattr(strict, "encode", lambda text: (seen.add(text.strip()), encode(text))[1])
    for kind in ("relevant", "irrelevant", "retrieve", "extract"):
        for _ in range(700):
            strict.draw({kind: 1.0})
    assert not seen & held_out
    assert len(seen & world_instructed()) > 400
    for _ in range(700):
        strict.draw({"plain": 1.0})
    assert len(seen & held_out) > 300  # plain sentences are about all of them


def test_no_longer_name_of_a_held_out_subject_is_in_the_text_of_an_instruction_example(tok, strict):
    held_out = {name for name in set(world.book().by_subject) - world_instructed() if " " in name}
    inside_others = {name for name in held_out for other in world_instructed() if name in other}
    drawn = [
        tok.decode(strict.draw({kind: 1.0}).ids)
        for kind in ("relevant", "irrelevant", "retrieve", "extract")
        for _ in range(400)
    ]
    text = "\n".join(drawn)
    assert [name for name in sorted(held_out - inside_others) if f" {name} " in text] == []


def test_only_the_training_subjects_of_counterfact_are_instructed_in_the_large_testbed(tiny_records):
    book = counterfact_book(tiny_records)
    assert counterfact_instructed(book) == {name for name in book.by_subject if role(name) == "training"}


def test_a_book_without_an_instructed_fact_is_refused(tok):
    with pytest.raises(ValueError, match="no fact of the book is about an instructed subject"):
        Corpus(world.book(), piece_encoder(tok), tok.eos_token_id, instructed=("Nobody",))
