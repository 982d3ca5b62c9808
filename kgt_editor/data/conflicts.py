"""Feedback that contradicts what the user, or the base graph, said before, built from the world's facts.

Nobody measures this, and it is what personalisation is about (Sun, Du and Chen, arXiv 2405.19686, section 1): people
change their minds, say the same in other words, tell several things about one entity, and take things back. Facts of
the validation splits, on which settings are chosen, are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from kgt_editor.data import world
from kgt_editor.data.base import KnownFact
from kgt_editor.data.world import Fact
from kgt_editor.errors import UsageError


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the user: an answer to a query, or, without an answer, taking the last one back."""

    query: str
    answer: str | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """What a user says about one subject, and what must hold after the last step.

    Attributes:
        kind: one of ``KINDS``.
        subject: the entity all steps are about.
        steps: in order.
        prompts: queries that were answered, with the answers they must get now.
        paraphrases: the same in wordings that no step used.
        others: questions about the subject that no step touched, with their true answers.
        contradicted: relation phrases of which the steps say something else than the world.
    """

    kind: str
    subject: str
    steps: tuple[Step, ...]
    prompts: tuple[KnownFact, ...]
    paraphrases: tuple[KnownFact, ...]
    others: tuple[KnownFact, ...]
    contradicted: tuple[str, ...]


def _ask(fact: Fact, sentence: str) -> str:
    return sentence.replace("{}", fact.subject)


def _query(fact: Fact) -> str:
    return _ask(fact, world.prompt(fact))


def _answers(fact: Fact, count: int, seed: str) -> list[str]:
    """Different objects of the relation, none of them true of the subject."""
    true = {known.object for known in world.by_subject()[fact.subject]}
    choices = [name for name in world.objects()[fact.relation] if name not in true]
    return sorted(choices, key=lambda name: world.stable_hash(seed, fact.subject, fact.relation, name))[:count]


def _conflict(kind: str, facts: list[Fact], steps: list[Step], now: list[str]) -> Conflict:
    """Assemble a conflict about ``facts``, which must be answered ``now``."""
    touched = {fact.relation for fact in facts}
    pairs = list(zip(facts, now, strict=True))
    return Conflict(
        kind=kind,
        subject=facts[0].subject,
        steps=tuple(steps),
        prompts=tuple(KnownFact(_query(fact), answer) for fact, answer in pairs),
        paraphrases=tuple(
            KnownFact(_ask(fact, text), answer) for fact, answer in pairs for text in world.held_out_templates(fact)
        ),
        others=tuple(
            KnownFact(_query(other), other.object)
            for other in world.by_subject()[facts[0].subject]
            if other.relation not in touched
        ),
        contradicted=tuple(fact.phrase for fact in facts),
    )


def _again(fact: Fact, seed: str) -> Conflict:
    first, second = _answers(fact, 2, seed)
    steps = [Step(_query(fact), first), Step(_query(fact), second)]
    return _conflict("again", [fact], steps, [second])


def _reworded(fact: Fact, seed: str) -> Conflict:
    first, second = _answers(fact, 2, seed)
    steps = [Step(_query(fact), first), Step(_ask(fact, world.trained_templates(fact)[1]), second)]
    return _conflict("reworded", [fact], steps, [second])


def _base(fact: Fact, seed: str) -> Conflict:
    (answer,) = _answers(fact, 1, seed)
    return _conflict("base", [fact], [Step(_query(fact), answer)], [answer])


def _several(fact: Fact, seed: str) -> Conflict:
    known = list(world.by_subject()[fact.subject])
    answers = [_answers(each, 1, seed)[0] for each in known]
    steps = [Step(_query(each), answer) for each, answer in zip(known, answers, strict=True)]
    return _conflict("several", known, steps, answers)


def _undone(fact: Fact, seed: str) -> Conflict:
    (answer,) = _answers(fact, 1, seed)
    return _conflict("undone", [fact], [Step(_query(fact), answer), Step(_query(fact), None)], [fact.object])


def _restated(fact: Fact, seed: str) -> Conflict:
    (answer,) = _answers(fact, 1, seed)
    return _conflict("restated", [fact], [Step(_query(fact), answer)] * 2, [answer])


KINDS: dict[str, Callable[[Fact, str], Conflict]] = {
    "again": _again,
    "reworded": _reworded,
    "base": _base,
    "several": _several,
    "undone": _undone,
    "restated": _restated,
}


@cache
def _pool(kind: str) -> tuple[Fact, ...]:
    kept = [fact for name in ("test", "neighbour", "training") for fact in world.splits()[name]]
    if kind == "base":
        heads = {head for head, _, _ in world.world_triples()}
        kept = [fact for fact in kept if fact.subject in heads]
    if kind == "several":
        kept = [fact for fact in kept if len(world.by_subject()[fact.subject]) > 1]
    return tuple(kept)


def conflicts(kind: str, size: int, seed: int = 0) -> list[Conflict]:
    """``size`` conflicts of a kind, the same for the same seed; facts come again with other answers when they run out.

    - ``again``: the same query is answered anew; ``reworded``: the same question in other words is.
    - ``base``: the base graph says the opposite of the answer.
    - ``several``: every known relation of the subject gets a new answer; all must survive.
    - ``undone``: the answer is taken back; the world's own must return.
    - ``restated``: the same answer is given twice.

    Raises:
        UsageError: an unknown kind.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of conflict '{kind}'; known: {', '.join(KINDS)}")
    pool = sorted(_pool(kind), key=lambda fact: fact.rank(f"conflict {seed}"))
    return [KINDS[kind](pool[i % len(pool)], f"{seed}/{i // len(pool)}") for i in range(size)]
