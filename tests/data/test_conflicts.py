"""Conflicts: what is asked fits what was said."""

from __future__ import annotations

import pytest

from kgt_editor.data import world
from kgt_editor.data.conflicts import KINDS, conflicts
from kgt_editor.errors import UsageError


def true_objects(subject: str) -> set[str]:
    return {fact.object for fact in world.by_subject()[subject]}


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
        last = (
            true_objects(conflict.subject) if kind == "undone" else set(answers if kind == "several" else answers[-1:])
        )
        assert expected <= last
        assert {item.answer for item in conflict.others} <= true_objects(conflict.subject)


def test_each_kind_is_what_its_name_says() -> None:
    heads = {head for head, _, _ in world.world_triples()}
    assert all(
        len({s.answer for s in c.steps}) == 2 and len({s.query for s in c.steps}) == 1 for c in conflicts("again", 50)
    )
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
