"""Which prompts the edits of a run change on purpose, and which edits a later one takes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kgt_editor.data.record import Record
from kgt_editor.evaluation.edited import Edited

SPEAKS = Record(0, "Ada Brun", "P103(native language)", "{} speaks", "Quin", "Norrish")
LIVES = Record(1, "Ada Brun", "P551", "{} lives in", "Oslo", "Rome")
AGAIN = replace(SPEAKS, case_id=2, prompt="The mother tongue of {} is", target_new="Plavic")


def test_an_edit_is_superseded_by_a_later_one_of_the_same_subject_and_relation():
    edited = Edited([SPEAKS, LIVES, AGAIN])
    assert [edited.superseded(record) for record in (SPEAKS, LIVES, AGAIN)] == [True, False, False]
    assert not Edited([AGAIN, LIVES, SPEAKS]).superseded(SPEAKS)


def test_the_same_target_again_supersedes_nothing():
    edited = Edited([SPEAKS, replace(AGAIN, target_new="Quin")])
    assert not edited.superseded(SPEAKS)


def test_edits_that_are_undone_one_by_one_supersede_nothing():
    edited = Edited([SPEAKS, AGAIN], one_by_one=True)
    assert not edited.superseded(SPEAKS)
    assert edited.changes("Ada Brun speaks", "P103")


def test_without_a_relation_the_query_tells_edits_of_one_fact():
    first = replace(SPEAKS, relation_id="")
    reworded = replace(AGAIN, relation_id="")
    repeated = replace(first, case_id=3, target_new="Plavic")
    assert not Edited([first, reworded]).superseded(first)
    assert Edited([first, repeated]).superseded(first)


@pytest.mark.parametrize(
    ("prompt", "relation", "changed"),
    [
        ("Ada Brun speaks", "", True),  # the edit prompt itself
        ("The mother tongue of Ada Brun is", "P103", True),
        ("Ada Brun's mother tongue is", "P103", True),
        ("Ada Brun", "P103", True),
        ("The mother tongue of Ada Brun is", "P27", False),  # a relation that is not edited
        ("The mother tongue of Ada Brunner is", "P103", False),  # a part of a word
        ("The mother tongue of Ada is", "P103", False),
        ("The mother tongue of Ada Brun is", "", False),
        ("", "P103", False),
    ],
)
def test_a_prompt_is_changed_where_it_names_a_subject_edited_under_its_relation(prompt, relation, changed):
    assert Edited([SPEAKS, LIVES]).changes(prompt, relation) is changed


def test_subjects_with_signs_are_found_whole():
    record = replace(SPEAKS, subject="AT&T (US)")
    assert Edited([record]).changes("In AT&T (US), they speak", "P103")
    assert not Edited([record]).changes("In AT&T, they speak", "P103")


def test_no_edits_change_nothing():
    assert not Edited().changes("Ada Brun speaks", "P103")
    assert not Edited().superseded(SPEAKS)


def test_without_a_relation_a_wording_of_an_edit_is_changed_on_purpose():
    bare = replace(SPEAKS, relation_id="", paraphrase_prompts=("At home Ada Brun spoke",))
    other = replace(bare, case_id=4, subject="Runa Gildt", paraphrase_prompts=())
    other = replace(other, neighbourhood_prompts=("At home Ada Brun spoke", "Sava Irk speaks"))
    assert Edited([bare, other]).neighbourhood(other) == ("Sava Irk speaks",)
    named = replace(bare, relation_id="P103")
    assert not Edited([named]).changes("At home Ada Brun spoke", "")
