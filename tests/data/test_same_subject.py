"""Other questions on an edited subject, from the records themselves and from a file of facts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kgt_editor.data import base, world
from kgt_editor.data.extension import read_questions, sentences
from kgt_editor.data.record import Record
from kgt_editor.data.same_subject import Question, with_questions
from kgt_editor.errors import UsageError
from kgt_editor.evaluation.edited import Edited


def record(number, subject, relation, prompt="{} was born in"):
    return Record(number, subject, relation, prompt, "Norr", "Velm")


def test_the_other_relations_of_a_subject_are_asked_each_once():
    records = [
        record(0, "Ada", "P19(place of birth)"),
        record(1, "Ada", "P103", "{} speaks"),
        record(2, "Runa", "P19"),
        record(3, "Sava", "", "{} likes"),
        replace(record(4, "Ada", "P27", "{} is from"), same_subject_prompts=("Who is Ada?",)),
    ]
    more = [Question("Ada", "P103", "The language of Ada is"), Question("Runa", "P69", "Runa went to")]
    found = with_questions(records, more)
    assert [one.same_subject_prompts for one in found] == [
        ("Ada speaks", "Ada is from"),
        ("Ada was born in", "Ada is from"),
        ("Runa went to",),
        (),
        ("Who is Ada?",),
    ]
    assert [replace(one, same_subject_prompts=()) for one in found[:4]] == records[:4]
    # Of one subject's two edits, neither is asked to leave the other's alone.
    assert Edited(found[:2]).same_subject(found[0]) == ("Ada is from",)


def test_the_worlds_records_ask_for_what_else_is_true_of_the_subject():
    records = world.load_world().records
    asked = [one for one in records if one.same_subject_prompts]
    assert len(asked) > 300
    for one in asked[:50]:
        for prompt in one.same_subject_prompts:
            assert one.subject in prompt
            assert prompt != one.query


def test_a_file_of_facts_gives_questions_in_our_own_sentences(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text(json.dumps({"subject": "Ada Brun", "object": "Norr", "relation_id": "P19"}))
    (found,) = read_questions(path)
    assert found == Question("Ada Brun", "P19", sentences()["P19"].edit.replace("{}", "Ada Brun"))


def test_counterfact_takes_them_and_the_world_says_that_it_does_not(tmp_path):
    row = {
        "case_id": 1,
        "requested_rewrite": {
            "prompt": "{} speaks",
            "relation_id": "P103",
            "target_new": {"str": "Norrish"},
            "target_true": {"str": "Velmoran"},
            "subject": "Ada Brun",
        },
        "paraphrase_prompts": [],
        "neighborhood_prompts": [],
    }
    path = tmp_path / "counterfact.json"
    path.write_text(json.dumps([row]))
    questions = [Question("Ada Brun", "P19", "Ada Brun was born in")]
    plain, asked = base.load("counterfact", path), base.load("counterfact", path, questions=questions)
    everything = (*asked.records, *asked.training, *asked.validation)
    assert asked.all_records[0].same_subject_prompts == ("Ada Brun was born in",)
    assert plain.all_records[0].same_subject_prompts == ()
    assert all(one.same_subject_prompts for one in everything)
    with pytest.raises(UsageError, match="'world' takes no questions from --same-subject; these do: counterfact, "):
        base.load("world", questions=questions)
