"""Log probabilities of any number of continuations, read in the fastest way that is right for the model.

Every caller outside this package's own engines comes through here: which engine runs is said by
:func:`kgt_editor.lm.batching.way_of` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kgt_editor.errors import NumericalError
from kgt_editor.lm.batching import Way, way_of
from kgt_editor.lm.forward import check_finite
from kgt_editor.lm.layers import device_of, plain_model
from kgt_editor.lm.length import check_length
from kgt_editor.lm.packed import score_packed
from kgt_editor.lm.passes import tokens_a_pass
from kgt_editor.lm.rows import Pair, row_log_probs, score_rows
from kgt_editor.lm.target import TargetScore
from kgt_editor.lm.tree import MAX_NODES, tree_log_probs

# Nodes a tree, where there are many of them: attention costs little then, and most of what can be shared is.
_NODES_OF_MANY = 128


def score_continuations(
    model: Any, pairs: Sequence[Pair], max_nodes: int = MAX_NODES, rows: int = 1, most: int | None = None
) -> list[TargetScore]:
    """The score of each (context ids, continuation ids) pair.

    Args:
        model: any causal LM of transformers in evaluation mode, inside adapters or compiled too.
        pairs: see :func:`kgt_editor.lm.tokens.continuation_ids`; any number, in any order, repeated or not.
        max_nodes, rows: of a model that reads trees, see :func:`kgt_editor.lm.packed.score_packed`.
        most: pairs a forward pass, at most.

    Raises:
        KgtError: a pair is longer than the model's context, or there is no memory for a pass over one pair.
        NumericalError: the model gives NaN.
        UnsupportedModelError: see :func:`kgt_editor.lm.batching.check_model`.
    """
    way = _way(model, pairs)
    if way is Way.TREES:
        return score_packed(model, pairs, max_nodes, rows, most)
    scores = score_rows(model, pairs, most, alone=way is Way.SINGLE_ROWS)
    if any(math.isnan(score.log_prob) for score in scores):
        raise NumericalError(
            f"{type(plain_model(model)).__name__} gives NaN logits; check its weights, or load it in float32"
        )
    return scores


def score_many(model: Any, pairs: Sequence[Pair], most: int | None = None) -> list[TargetScore]:
    """:func:`score_continuations` of an evaluation's pairs, in trees and passes of the size that is fastest for many.

    Raises:
        As :func:`score_continuations`.
    """
    return score_continuations(model, pairs, _NODES_OF_MANY, tokens_a_pass(device_of(model)) // _NODES_OF_MANY, most)


def score_each(model: Any, pairs: Sequence[Pair], most: int | None = None) -> list[TargetScore]:
    """:func:`score_many`, but a text for which the model gives NaN has a NaN score and no other text is touched.

    Raises:
        As :func:`score_continuations`, NumericalError excepted.
    """
    way = _way(model, pairs)
    if way is Way.TREES:
        try:
            return score_many(model, pairs, most)
        except NumericalError:
            pass  # texts of a tree share sums, in which one's NaN reaches the others; rows keep it to itself
    return score_rows(model, pairs, most, alone=way is Way.SINGLE_ROWS)


def continuation_log_probs(model: Any, pairs: Sequence[Pair], max_nodes: int = MAX_NODES) -> list[Tensor]:
    """Log probabilities of the whole vocabulary at every continuation token, shape (tokens, vocabulary), fp32.

    Raises:
        As :func:`score_continuations`.
    """
    way = _way(model, pairs)
    if way is Way.TREES:
        return tree_log_probs(model, pairs, max_nodes)
    found = row_log_probs(model, pairs, alone=way is Way.SINGLE_ROWS)
    for log_probs in found:
        check_finite(model, log_probs)
    return found


def _way(model: Any, pairs: Sequence[Pair]) -> Way:
    longest = max((len(context) + len(continuation) for context, continuation in pairs), default=0)
    check_length(model, longest - 1)
    return way_of(model, longest) if pairs else Way.SINGLE_ROWS
