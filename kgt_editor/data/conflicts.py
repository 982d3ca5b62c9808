"""Feedback that contradicts what the user, another user or the base graph said before.

Nobody measures this, and it is what personalisation is about (Sun, Du and Chen, arXiv 2405.19686, section 1): people
change their minds, say the same in other words, tell several things about one entity, take things back, and disagree
with each other. A conflict is told in steps, and each step names what must hold after it. Those of this module are
built from the world's facts; facts of the validation splits, on which settings are chosen, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from kgt_editor.data import world
from kgt_editor.data.base import KnownFact
from kgt_editor.data.factbook import Fact
from kgt_editor.data.record import Held, Step
from kgt_editor.errors import UsageError

USER, OTHER_USER = "user", "other user"


@dataclass(frozen=True, slots=True)
class Topic:
    """Something an entity can be asked for, with what is true of it before anybody says otherwise.

    Attributes:
        subject: the entity.
        relation: Wikidata id or phrase; ``phrase`` is the relation in words.
        truth: the answer that holds as long as nobody contradicts it.
        query: the question, the subject filled in.
        reworded: the same in other words; users use it too.
        paraphrases: further wordings, which no step uses.
        choices: possible answers that are not true of the subject.
    """

    subject: str
    relation: str
    phrase: str
    truth: str
    query: str
    reworded: str
    paraphrases: tuple[str, ...]
    choices: tuple[str, ...]

    def answers(self, count: int, seed: str) -> list[str]:
        """Different answers, none of them true.

        Raises:
            UsageError: there are not so many.
        """
        if len(self.choices) < count:
            raise UsageError(f"{self.subject!r} {self.phrase}: there are no {count} answers that are not true")
        return sorted(self.choices, key=lambda name: world.stable_hash(seed, self.subject, self.relation, name))[:count]


@dataclass(frozen=True, slots=True)
class Conflict:
    """What is said about one subject, and what must hold.

    Attributes:
        kind: one of ``KINDS``.
        subject: the entity all steps are about.
        relation: Wikidata id or phrase of the first topic.
        truth: what was true of it before the first step.
        steps: in order, each with what must hold after it.
        prompts: queries that were answered, with the answers :data:`USER` must get after the last step.
        paraphrases: the same in wordings that no step used.
        others: questions about the subject that no step touched, with their true answers.
        contradicted: relation phrases of which the steps say something else than the base.
    """

    kind: str
    subject: str
    relation: str
    truth: str
    steps: tuple[Step, ...]
    prompts: tuple[KnownFact, ...]
    paraphrases: tuple[KnownFact, ...]
    others: tuple[KnownFact, ...]
    contradicted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Move:
    """A user answers a topic's query (or, with ``reworded``, its other wording); without an answer, takes back."""

    topic: Topic
    answer: str | None
    user: str = USER
    reworded: bool = False


def _conflict(kind: str, entity: Sequence[Topic], moves: Sequence[_Move]) -> Conflict:
    """Play the moves on paper: what every user is owed after each of them."""
    topics = list(dict.fromkeys(move.topic for move in moves))
    others = tuple(KnownFact(topic.query, topic.truth) for topic in entity if topic not in topics)
    users = list(dict.fromkeys([USER, *(move.user for move in moves)]))
    said: dict[str, list[tuple[Topic, str]]] = {user: [] for user in users}

    def owed(user: str, topic: Topic) -> str:
        return next((answer for about, answer in reversed(said[user]) if about == topic), topic.truth)

    steps = []
    for move in moves:
        if move.answer is None:
            said[move.user].pop()
        else:
            said[move.user].append((move.topic, move.answer))
        holds = [
            Held(user, text, owed(user, topic))
            for user in users
            for topic in topics
            for text in (topic.query, *topic.paraphrases)
        ]
        holds += [Held(user, item.prompt, item.answer) for user in users for item in others]
        query = move.topic.reworded if move.reworded else move.topic.query
        steps.append(Step(move.user, query, move.answer, tuple(holds)))
    return Conflict(
        kind=kind,
        subject=topics[0].subject,
        relation=topics[0].relation,
        truth=topics[0].truth,
        steps=tuple(steps),
        prompts=tuple(KnownFact(topic.query, owed(USER, topic)) for topic in topics),
        paraphrases=tuple(KnownFact(text, owed(USER, topic)) for topic in topics for text in topic.paraphrases),
        others=others,
        contradicted=tuple(topic.phrase for topic in topics),
    )


# What is said about a topic, or about all topics of its entity.
Maker = Callable[[Topic, Sequence[Topic], str], list[_Move]]


def _again(topic: Topic, entity: Sequence[Topic], seed: str) -> list[_Move]:
    return [_Move(topic, answer) for answer in topic.answers(2, seed)]


def _twice(topic: Topic, entity: Sequence[Topic], seed: str) -> list[_Move]:
    return [_Move(topic, answer) for answer in topic.answers(3, seed)]


def _reworded(topic: Topic, entity: Sequence[Topic], seed: str) -> list[_Move]:
    first, second = topic.answers(2, seed)
    return [_Move(topic, first), _Move(topic, second, reworded=True)]


def _base(topic: Topic, entity: Sequence[Topic], seed: str) -> list[_Move]:
    return [_Move(topic, answer) for answer in topic.answers(1, seed)]


def _several(topic: Topic, entity: Sequence[Topic], seed: str) -> list[_Move]:
    return [_Move(each, each.answers(1, seed)[0]) for each in entity]


def _undone(topic: Topic, entity: Sequence[Topic], seed: str) -> list[_Move]:
    return [_Move(topic, topic.answers(1, seed)[0]), _Move(topic, None)]


def _restated(topic: Topic, entity: Sequence[Topic], seed: str) -> list[_Move]:
    return [_Move(topic, topic.answers(1, seed)[0])] * 2


def _other_user(topic: Topic, entity: Sequence[Topic], seed: str) -> list[_Move]:
    first, second = topic.answers(2, seed)
    return [_Move(topic, first), _Move(topic, second, user=OTHER_USER)]


KINDS: dict[str, Maker] = {
    "again": _again,
    "twice": _twice,
    "reworded": _reworded,
    "base": _base,
    "several": _several,
    "other_user": _other_user,
    "undone": _undone,
    "restated": _restated,
}


def make_conflict(kind: str, topic: Topic, entity: Sequence[Topic], seed: str) -> Conflict:
    """A conflict of a kind about a topic; ``entity`` are all topics of its subject.

    Raises:
        UsageError: an unknown kind, or a topic with too few possible answers.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of conflict '{kind}'; known: {', '.join(KINDS)}")
    return _conflict(kind, entity, KINDS[kind](topic, entity, seed))


@cache
def _topics(subject: str) -> dict[Fact, Topic]:
    """The topics of an entity of the world."""
    facts = world.book().by_subject[subject]
    true = {known.object for known in facts}

    def ask(fact: Fact, sentence: str) -> str:
        return sentence.replace("{}", fact.subject)

    return {
        fact: Topic(
            subject=subject,
            relation=fact.relation,
            phrase=fact.phrase,
            truth=fact.object,
            query=ask(fact, world.book().prompt(fact)),
            reworded=ask(fact, world.book().trained_templates(fact)[1]),
            paraphrases=tuple(ask(fact, text) for text in world.book().held_out_templates(fact)),
            choices=tuple(name for name in world.book().objects[fact.relation] if name not in true),
        )
        for fact in facts
    }


@cache
def _pool(kind: str) -> tuple[Fact, ...]:
    kept = [fact for name in ("test", "neighbour", "training") for fact in world.splits()[name]]
    if kind == "base":
        heads = {head for head, _, _ in world.world_triples()}
        kept = [fact for fact in kept if fact.subject in heads]
    if kind == "several":
        kept = [fact for fact in kept if len(world.book().by_subject[fact.subject]) > 1]
    return tuple(kept)


def conflicts(kind: str, size: int, seed: int = 0) -> list[Conflict]:
    """``size`` conflicts of a kind, the same for the same seed; facts come again with other answers when they run out.

    - ``again``: the same query is answered anew; ``twice``: and once more; ``reworded``: the same question in other
      words is.
    - ``base``: the base graph says the opposite of the answer.
    - ``several``: every known relation of the subject gets a new answer; all must survive.
    - ``other_user``: two users answer the same query differently; each keeps their own.
    - ``undone``: the answer is taken back; the world's own must return.
    - ``restated``: the same answer is given twice.

    Raises:
        UsageError: an unknown kind.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of conflict '{kind}'; known: {', '.join(KINDS)}")
    pool = sorted(_pool(kind), key=lambda fact: fact.rank(f"conflict {seed}"))
    made = []
    for number in range(size):
        fact = pool[number % len(pool)]
        topics = _topics(fact.subject)
        made.append(make_conflict(kind, topics[fact], list(topics.values()), f"{seed}/{number // len(pool)}"))
    return made
