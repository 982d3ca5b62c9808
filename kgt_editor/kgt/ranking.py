"""The best of many continuations of one prompt, without scoring them all.

A continuation is at most as probable as its first token, and the prompt's own pass gives that for every one. So the
prompt is run once and kept as a KV cache, the continuations with the likeliest first tokens are scored as a tree
behind it, and the others only if their first token leaves them a chance. The result is that of scoring all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from kgt_editor.errors import UnsupportedModelError
from kgt_editor.kgt.scoring import MAX_NODES, Tree, check_length, check_model, run_tree

# Continuations whose first token is this much (in nats) less probable than the best one are put off: with a model
# that knows the answer none of them is needed.
_HEAD_START = 4.6


@torch.no_grad()
def best_continuations(model: Any, context: Sequence[int], continuations: Sequence[Sequence[int]], k: int) -> list[int]:
    """Numbers of the ``k`` most probable continuations (all, where there are fewer), the most probable first.

    Args:
        model: a causal LM in evaluation mode.
        context: token ids of the prompt.
        continuations: token ids of each, at least one.
        k: how many are wanted.

    Raises:
        KgtError: the prompt with its longest continuation is longer than the model's context.
        NumericalError: the model gives NaN.
        UnsupportedModelError: the model's attention takes no mask.
    """
    ok, reason = check_model(model)
    if not ok:
        raise UnsupportedModelError(reason)
    check_length(model, len(context) + max(len(ids) for ids in continuations) - 1)
    past = DynamicCache()
    prompt = Tree()
    first = run_tree(model, prompt, prompt.insert(context)[-1:], past)[0]
    bounds = first[torch.tensor([ids[0] for ids in continuations], device=first.device)].double().tolist()
    order = sorted(range(len(continuations)), key=lambda index: -bounds[index])
    wanted = min(k, len(order))
    least = min(bounds[order[0]] - _HEAD_START, bounds[order[wanted - 1]])
    scores: dict[int, float] = {}
    while chosen := [index for index in order if index not in scores and bounds[index] >= least]:
        rest = _score(model, past, {index: continuations[index] for index in chosen})
        scores.update({index: bounds[index] + rest[index] for index in chosen})
        least = sorted(scores.values())[-wanted]
    return sorted(scores, key=lambda index: (-scores[index], index))[:wanted]


def _score(model: Any, past: DynamicCache, chosen: dict[int, Sequence[int]]) -> dict[int, float]:
    """Log probability of each continuation after its first token; ``past`` is left as it was."""
    scores = {index: 0.0 for index, ids in chosen.items() if len(ids) == 1}
    longer = [index for index in chosen if index not in scores]
    while longer:
        tree = Tree()
        paths: dict[int, list[int]] = {}
        while longer and (not paths or len(tree) + len(chosen[longer[0]]) <= MAX_NODES):
            index = longer.pop(0)
            paths[index] = tree.insert(chosen[index][:-1])
        log_probs = run_tree(model, tree, range(len(tree)), past)
        past.crop(-len(tree))
        for index, path in paths.items():
            picked = log_probs[path, list(chosen[index][1:])]
            scores[index] = float(picked.double().sum())
    return scores
