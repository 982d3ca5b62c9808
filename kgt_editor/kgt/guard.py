"""Whether a triple bears on a question: P(z|q) (eq. 5) for models that were never taught T_retrieve.

A triple answers the question that the user was asked when it was told (a base triple: "X <relation>"). The nearer that
is to the question asked now (see :mod:`kgt_editor.kgt.representation`), the likelier the triple bears on it; sentences
in front of the one that names the subject are no part of either::

    P(z|q) = 1 / (1 + exp(-slope * (similarity - midpoint)))

Slope and midpoint are chosen for a model on validation records. What is missing to 1 is the probability that no triple
bears on the question, and then the plain model's answer counts: eq. 1 with one more term. The same question word for
word has P(z|q) = 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from kgt_editor.kgt.representation import Representations, asked_of

#: log P(z|q) from which on a triple bears on a question as likely as not.
EVEN = math.log(0.5)
#: Similarity from which on two questions are taken for one: a new answer takes the place of the earlier one. What bears
#: on a question is far from being the same question: few that ask for something else are as near, and half of the
#: rewordings of a question.
SAME_QUESTION = 0.6


class Asked(NamedTuple):
    """A question and the questions that an entity's triples answer.

    Attributes:
        query: with the subject in it.
        subject: as it stands in the query.
        stored: for each triple the question that it answers, subject included.
        head: the subject as it stands in those.
    """

    query: str
    subject: str
    stored: Sequence[str]
    head: str


def bearing(
    representations: Representations, asked: Sequence[Asked], midpoint: float, slope: float
) -> list[list[float]]:
    """For each question and each of its triples log P(z|q); one forward pass or few for all that is new.

    A question that is each triple's own is compared with nothing.
    """
    same = [[same_question(one.query, stored) for stored in one.stored] for one in asked]
    found = iter(similarities(representations, [one for one, alike in zip(asked, same, strict=True) if not all(alike)]))
    return [
        [0.0] * len(alike)
        if all(alike)
        else [0.0 if equal else value for equal, value in zip(alike, curve(next(found), midpoint, slope), strict=True)]
        for alike in same
    ]


def curve(similarity: Sequence[float], midpoint: float, slope: float) -> list[float]:
    """log P(z|q) of each similarity."""
    return [-_softplus(-slope * (value - midpoint)) for value in similarity]


def similarities(representations: Representations, asked: Sequence[Asked]) -> list[list[float]]:
    """For each question the similarity, -1 to 1, of every stored question to it."""
    queries = [asked_of(one.query, one.subject) for one in asked]
    stored = [[asked_of(text, one.head) for text in one.stored] for one in asked]
    vectors = representations([*queries, *(text for texts in stored for text in texts)])
    rows = iter(vectors[len(queries) :])
    return [
        [float(next(rows) @ vector) for _ in texts]
        for vector, texts in zip(vectors[: len(queries)], stored, strict=True)
    ]


def same_question(left: str, right: str) -> bool:
    """Whether two questions are the same word for word, spaces and case aside."""
    return " ".join(left.split()).casefold() == " ".join(right.split()).casefold()


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
