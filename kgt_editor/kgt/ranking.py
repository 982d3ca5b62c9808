"""The best of many continuations of one prompt, without scoring them all.

A continuation is at most as probable as its first token, and the prompt's own pass gives that for every one. So the
prompt is run once and kept as a KV cache, the continuations with the likeliest first tokens are scored as a tree
behind it, and the others only if their first token leaves them a chance. The result is that of scoring all.

A model that does not read trees (see :mod:`kgt_editor.lm.batching`) is asked the same in rows, each with the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from kgt_editor.lm.batching import Way, way_of
from kgt_editor.lm.continuations import continuation_log_probs, score_continuations
from kgt_editor.lm.length import check_length
from kgt_editor.lm.tree import MAX_NODES, Branch, Tree, score_branches

# Continuations whose first token is this much (in nats) less probable than the best one are put off: with a model
# that knows the answer none of them is needed.
_HEAD_START = 4.6

Question = tuple[Sequence[int], Sequence[Sequence[int]]]


def best_continuations(model: Any, questions: Sequence[Question], k: int) -> list[list[int]]:
    """For each question the numbers of its ``k`` most probable continuations, the most probable first.

    Args:
        model: a causal LM in evaluation mode.
        questions: token ids of a prompt and of each of its continuations (at least one), for any number of prompts.
        k: how many are wanted; where there are fewer, all are given.

    Raises:
        KgtError: a prompt with its longest continuation is longer than the model's context.
        NumericalError: the model gives NaN.
        UnsupportedModelError: see :func:`kgt_editor.lm.batching.check_model`.
    """
    if not questions:
        return []
    longest = max(len(context) + max(map(len, continuations)) for context, continuations in questions)
    check_length(model, longest - 1)
    reader = _TreeReader if way_of(model, longest) is Way.TREES else _RowReader
    found: list[list[int]] = []
    for pack in _packs(questions):
        found += _rank_pack(reader(model, pack), pack, k)
    return found


def _packs(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """The questions in order, as many at once as have ``MAX_NODES`` tokens of prompts."""
    pack: list[Question] = []
    nodes = 0
    for question in questions:
        if pack and nodes + len(question[0]) > MAX_NODES:
            yield pack
            pack, nodes = [], 0
        pack.append(question)
        nodes += len(question[0])
    if pack:
        yield pack


class _Ranking:
    """What is known of one question's continuations."""

    def __init__(self, first: torch.Tensor, continuations: Sequence[Sequence[int]], k: int) -> None:
        starts = torch.tensor([ids[0] for ids in continuations], device=first.device)
        self._bounds: list[float] = first[starts].double().tolist()
        self._order = sorted(range(len(continuations)), key=lambda index: -self._bounds[index])
        self._wanted = min(k, len(self._order))
        least_wanted = self._bounds[self._order[self._wanted - 1]]
        self._least = min(self._bounds[self._order[0]] - _HEAD_START, least_wanted)
        self._scores: dict[int, float] = {}

    def bound(self, index: int) -> float:
        """Log probability of a continuation's first token."""
        return self._bounds[index]

    def open(self) -> list[int]:
        """The continuations that may be among the best and are not scored yet."""
        return [index for index in self._order if index not in self._scores and self._bounds[index] >= self._least]

    def learn(self, rest: dict[int, float]) -> None:
        """Take in the log probability of the open continuations after their first token."""
        self._scores.update({index: self._bounds[index] + value for index, value in rest.items()})
        self._least = sorted(self._scores.values())[-self._wanted]

    def best(self) -> list[int]:
        """The numbers of the best continuations, once none is open."""
        return sorted(self._scores, key=lambda index: (-self._scores[index], index))[: self._wanted]


class _TreeReader:
    """Prompts as a tree that is kept, and what is asked behind their ends: a pass each."""

    def __init__(self, model: Any, pack: Sequence[Question]) -> None:
        self._pack = pack
        self._tree = Tree(model)
        self._ends = [self._tree.insert(context)[-1] for context, _ in pack]

    def first(self) -> list[torch.Tensor]:
        """Log probabilities (vocabulary) of the token behind each prompt."""
        rows = {node: row for row, node in enumerate(dict.fromkeys(self._ends))}
        found = self._tree.run(list(rows))
        return [found[rows[end]] for end in self._ends]

    def rest(self, asked: Sequence[tuple[int, int]], bounds: Sequence[float]) -> list[float]:
        """Log probability of continuations, given by question and number, after their first token."""
        # What a continuation's first token costs is known already.
        branches = [Branch(self._pack[number][1][index], 1, self._ends[number]) for number, index in asked]
        return [score.log_prob for score in score_branches(self._tree, branches, MAX_NODES)]


class _RowReader:
    """The same of a model that does not read trees: every prompt with every continuation that is asked for."""

    def __init__(self, model: Any, pack: Sequence[Question]) -> None:
        self._model, self._pack = model, pack

    def first(self) -> list[torch.Tensor]:
        # The continuation is a place holder: the distribution in its place is what is asked for.
        found = continuation_log_probs(self._model, [(list(context), [0]) for context, _ in self._pack])
        return [log_probs[0] for log_probs in found]

    def rest(self, asked: Sequence[tuple[int, int]], bounds: Sequence[float]) -> list[float]:
        pairs = [(list(self._pack[number][0]), list(self._pack[number][1][index])) for number, index in asked]
        scores = score_continuations(self._model, pairs)
        return [score.log_prob - bound for score, bound in zip(scores, bounds, strict=True)]


def _rank_pack(reader: _TreeReader | _RowReader, pack: Sequence[Question], k: int) -> list[list[int]]:
    """Rank behind all prompts together: a pass over the prompts, then as a rule one over what their ends leave open."""
    firsts = reader.first()
    rankings = [_Ranking(first, continuations, k) for first, (_, continuations) in zip(firsts, pack, strict=True)]
    while asked := [(number, index) for number, ranking in enumerate(rankings) for index in ranking.open()]:
        bounds = [rankings[number].bound(index) for number, index in asked]
        learnt: dict[int, dict[int, float]] = {}
        for (number, index), value in zip(asked, reader.rest(asked, bounds), strict=True):
            learnt.setdefault(number, {})[index] = value
        for number, found in learnt.items():
            rankings[number].learn(found)
    return [ranking.best() for ranking in rankings]
