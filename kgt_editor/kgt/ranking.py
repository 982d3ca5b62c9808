"""The best of many continuations of one prompt, without scoring them all.

A continuation is at most as probable as its first token, and the prompt's own pass gives that for every one. So the
prompt is run once and kept as a KV cache, the continuations with the likeliest first tokens are scored as a tree
behind it, and the others only if their first token leaves them a chance. The result is that of scoring all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from kgt_editor.lm.tree import MAX_NODES, Branch, Tree, check_length, score_branches

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
        UnsupportedModelError: the model's attention takes no mask.
    """
    found: list[list[int]] = []
    for pack in _packs(questions):
        found += _rank_pack(model, pack, k)
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


def _rank_pack(model: Any, pack: Sequence[Question], k: int) -> list[list[int]]:
    """Rank behind all prompts together: a pass over the prompts, then as a rule one over what their ends leave open."""
    tree = Tree(model)
    for context, continuations in pack:
        check_length(model, len(context) + max(len(ids) for ids in continuations) - 1)
    ends = [tree.insert(context)[-1] for context, _ in pack]
    rows = {node: row for row, node in enumerate(dict.fromkeys(ends))}
    first = tree.run(list(rows))
    rankings = [
        _Ranking(first[rows[end]], continuations, k) for end, (_, continuations) in zip(ends, pack, strict=True)
    ]
    while asked := [(number, index) for number, ranking in enumerate(rankings) for index in ranking.open()]:
        # What a continuation's first token costs is known already.
        branches = [Branch(pack[number][1][index], 1, ends[number]) for number, index in asked]
        learnt: dict[int, dict[int, float]] = {}
        for (number, index), score in zip(asked, score_branches(tree, branches, MAX_NODES), strict=True):
            learnt.setdefault(number, {})[index] = score.log_prob
        for number, found in learnt.items():
            rankings[number].learn(found)
    return [ranking.best() for ranking in rankings]
