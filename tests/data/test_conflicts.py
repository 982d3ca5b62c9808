"""Conflicts: what is asked fits what was said."""

from __future__ import annotations

import pytest

from kgt_editor.data import world
from kgt_editor.data.base import load
from kgt_editor.data.conflicts import KINDS, OTHER_USER, USER, conflicts
from kgt_editor.data.personal_conflicts import conceptnet_conflicts
from kgt_editor.errors import UsageError


def true_objects(subject: str) -> set[str]:
    return {fact.object for fact in world.book().by_subject[subject]}


@pytest.mark.parametrize("kind", KINDS)
def test_what_must_hold_follows_from_the_steps(kind: str) -> None:
    told = conflicts(kind, 200)
    assert told == conflicts(kind, 200)
    assert told != conflicts(kind, 200, seed=1)
    for conflict in told:
        answers = [step.answer for step in conflict.steps if step.answer is not None]
        assert not set(answers) & true_objects(conflict.subject)
        assert all(conflict.subject in step.query for step in conflict.steps)
        asked = {step.query for step in conflict.steps}
        assert not asked & {item.prompt for item in (*conflict.paraphrases, *conflict.others)}
        expected = {item.answer for item in (*conflict.prompts, *conflict.paraphrases)}
        mine = [step.answer for step in conflict.steps if step.user == USER and step.answer is not None]
        last = true_objects(conflict.subject) if kind == "undone" else set(mine if kind == "several" else mine[-1:])
        assert expected <= last
        assert {item.answer for item in conflict.others} <= true_objects(conflict.subject)


def test_each_kind_is_what_its_name_says() -> None:
    heads = {head for head, _, _ in world.world_triples()}
    assert all(
        len({s.answer for s in c.steps}) == 2 and len({s.query for s in c.steps}) == 1 for c in conflicts("again", 50)
    )
    assert all(
        len({s.answer for s in c.steps}) == 3 and len({s.query for s in c.steps}) == 1 for c in conflicts("twice", 50)
    )
    assert all([s.user for s in c.steps] == [USER, OTHER_USER] for c in conflicts("other_user", 50))
    assert all(c.prompts[0].answer == c.steps[0].answer != c.steps[1].answer for c in conflicts("other_user", 50))
    assert all(len({s.query for s in c.steps}) == 2 for c in conflicts("reworded", 50))
    assert all(c.subject in heads for c in conflicts("base", 50))
    assert all(len(c.steps) == len(c.prompts) > 1 for c in conflicts("several", 50))
    assert all(c.steps[-1].answer is None for c in conflicts("undone", 50))
    assert all(len(set(c.steps)) == 1 for c in conflicts("restated", 50))


def test_facts_come_again_with_other_answers() -> None:
    first: dict[str, str] = {}
    differs = []
    for conflict in conflicts("base", 3000):
        (now,) = conflict.prompts
        if now.prompt in first:
            differs.append(now.answer != first[now.prompt])
        first.setdefault(now.prompt, now.answer)
    assert len(differs) > 1000
    assert sum(differs) > 0.8 * len(differs)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown kind of conflict 'x'; known: again"):
        conflicts("x", 1)


def owed(conflict, step, user):
    """What a user is owed on the first query after a step."""
    (found,) = {
        held.answer
        for held in conflict.steps[step].holds
        if held.user == user and held.prompt == conflict.steps[0].query
    }
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_names_what_holds_after_it(kind):
    for conflict in conflicts(kind, 40):
        last = conflict.steps[-1].holds
        final = {(item.prompt, item.answer) for item in (*conflict.prompts, *conflict.paraphrases, *conflict.others)}
        assert {(held.prompt, held.answer) for held in last if held.user == USER} == final
        for number, step in enumerate(conflict.steps):
            if step.answer is not None and step.query == conflict.steps[0].query:
                assert owed(conflict, number, step.user) == step.answer
            assert {held.prompt for held in step.holds} == {prompt for prompt, _ in final}


def test_users_do_not_hear_each_other_and_what_is_taken_back_is_gone():
    for conflict in conflicts("other_user", 40):
        first, second = (step.answer for step in conflict.steps)
        assert [owed(conflict, n, USER) for n in (0, 1)] == [first, first]
        assert [owed(conflict, n, OTHER_USER) for n in (0, 1)] == [conflict.truth, second]
    for conflict in conflicts("undone", 40):
        assert owed(conflict, 1, USER) == conflict.truth != owed(conflict, 0, USER)


CONCEPTNET = [
    ("apple", "AtLocation", "tree"), ("apple", "IsA", "fruit"), ("apple", "HasProperty", "red"),
    ("knife", "AtLocation", "drawer"), ("knife", "UsedFor", "cutting"), ("fish", "AtLocation", "sea"),
    ("car", "AtLocation", "street"), ("pen", "AtLocation", "desk"), ("pen", "AtLocation", "school bag"),
    ("sky", "HasProperty", "blue"), ("snow", "HasProperty", "white"), ("night", "HasProperty", "dark"),
    ("grass", "HasProperty", "green"), ("a very long name", "HasProperty", "long"),
]  # fmt: skip


def test_conceptnet_s_triples_give_conflicts_too(tmp_path):
    path = tmp_path / "triples.tsv"
    path.write_text("".join("\t".join(row) + "\t1\n" for row in CONCEPTNET))
    for kind in ("again", "twice", "reworded", "base", "other_user", "undone", "restated"):
        told = conceptnet_conflicts(path, kind, 8)
        assert told == conceptnet_conflicts(path, kind, 8)
        for conflict in told:
            assert conflict.subject not in ("pen", "a very long name")  # two places; too long a name
            known = {tail for head, _, tail in CONCEPTNET if head == conflict.subject}
            assert conflict.truth in known
            assert not {step.answer for step in conflict.steps} & known
            assert all(conflict.subject in step.query for step in conflict.steps)
    (several,) = conceptnet_conflicts(path, "several", 1)
    assert several.subject == "apple"
    assert len(several.steps) == 2
    with pytest.raises(UsageError, match=r"triples\.tsv: 2 triples fit conflicts of the kind 'several', fewer than 5"):
        conceptnet_conflicts(path, "several", 5)


def test_the_data_set_has_all_kinds_and_is_the_same_every_time():
    data = load("personal-conflicts", size=5)
    assert [record.kind for record in data.records] == [kind for kind in KINDS for _ in range(5)]
    assert data.revision == load("personal-conflicts", size=5).revision != load("personal-conflicts", size=6).revision
    assert data.revision != load("personal-conflicts", size=5, seed=1).revision
    for record in data.records:
        assert record.steps[0].query == record.query
        assert record.target_new in {step.answer for step in record.steps if step.user == USER}
        assert record.target_true in true_objects(record.subject)
