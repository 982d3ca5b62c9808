"""Continuations scored in prefix trees, some a forward pass, each a row of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kgt_editor.lm.forward import check_finite, dtype_of, last_logits, lowest
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.passes import in_passes
from kgt_editor.lm.rows import Pair
from kgt_editor.lm.target import TargetScore
from kgt_editor.lm.tree import MAX_NODES


def score_packed(
    model: Any, pairs: Sequence[Pair], max_nodes: int = MAX_NODES, rows: int = 1, most: int | None = None
) -> list[TargetScore]:
    """The score of each (context ids, continuation ids) pair.

    Args:
        model: a causal LM in evaluation mode that reads trees (see :mod:`kgt_editor.lm.batching`).
        pairs: see :func:`kgt_editor.lm.tokens.continuation_ids`; any number, in any order, repeated or not.
        max_nodes: nodes a tree; one whose first text is longer than half of that grows to twice that text.
        rows: trees of ``max_nodes`` a forward pass, each a row; of larger ones as many as have no more tokens. Fewer
            nodes and more rows share less, but attention, which grows with the square of a row, costs less.
        most: pairs a forward pass, at most.

    Raises:
        KgtError: there is no memory for a pass over one pair.
        NumericalError: the model gives NaN.
    """
    texts = [(context + continuation)[:-1] for context, continuation in pairs]
    # Neighbours in sorted order share the longest beginnings.
    order = sorted(range(len(pairs)), key=lambda index: texts[index])
    scores: dict[int, TargetScore] = {}

    def packed(start: int, end: int) -> Iterator[tuple[list[int], int]]:
        """Trees of the texts in order from ``start`` on, as lists of pairs, and how many nodes each has."""
        tree: list[int] = []
        nodes = 0
        for index in islice(order, start, end):
            new = _new_nodes(texts[tree[-1]], texts[index]) if tree else len(texts[index])
            # Long texts that share most of themselves, as everything a user told, are not torn apart.
            if tree and nodes + new > max(max_nodes, 2 * len(texts[tree[0]])):
                yield tree, nodes
                tree, nodes, new = [], 0, len(texts[index])
            tree.append(index)
            nodes += new
        yield tree, nodes

    def fitting(start: int) -> int:
        count = widest = 0
        for number, (tree, nodes) in enumerate(packed(start, len(order)), 1):
            widest = max(widest, nodes)
            if count and number * widest > rows * max_nodes:
                break
            count += len(tree)
        return count

    def run(start: int, end: int) -> None:
        trees = [tree for tree, _ in packed(start, end)]
        packed_pairs = [[pairs[index] for index in tree] for tree in trees]
        logits, columns = run_packed(model, packed_pairs)
        found = _read(model, logits, columns, [target for row in packed_pairs for _, target in row])
        scores.update(zip(chain.from_iterable(trees), found, strict=True))

    in_passes(len(order), fitting, run, most)
    return [scores[index] for index in range(len(pairs))]


def _new_nodes(before: Sequence[int], ids: Sequence[int]) -> int:
    """Nodes that ``ids`` adds to a tree whose last branch is ``before``."""
    shared = 0
    for left, right in zip(before, ids, strict=False):
        if left != right:
            break
        shared += 1
    return len(ids) - shared


class _Row:
    """A tree of pairs in sorted order, its nodes numbered in the order in which a walk meets them.

    Attributes:
        ids, positions: token id and depth of each node.
        seen: shape (nodes, nodes); true where the node of a row sees the node of a column: its ancestors and itself.
        asked: the nodes whose next token is scored.
        paths: for each pair the nodes that predict its tokens.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        texts = [(context + target)[:-1] for context, target in pairs]
        new = [_new_nodes(before, text) for before, text in zip([[], *texts], texts, strict=False)]
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.paths: list[list[int]] = []
        self.seen = np.zeros((sum(new), sum(new)), dtype=bool)
        path: list[int] = []
        for (context, _), text, grown in zip(pairs, texts, new, strict=True):
            shared, first, end = len(text) - grown, len(self.ids), len(self.ids) + grown
            self.seen[first:end, path[:shared]] = True
            self.seen[first:end, first:end] = np.tri(grown, dtype=bool)
            path = path[:shared] + list(range(first, end))
            self.ids += text[shared:]
            self.positions += range(shared, len(text))
            self.paths.append(path[len(context) - 1 :])
        self.asked = sorted({node for path in self.paths for node in path})


@torch.no_grad()
def run_packed(model: Any, rows: Sequence[Sequence[Pair]]) -> tuple[Tensor, list[int]]:
    """One forward pass over the pairs of every row, sorted by their texts, each row a tree.

    Returns:
        logits of shape (positions, vocabulary), and which of those positions predicts each continuation token, all
        pairs one after the other.
    """
    device = device_of(model)
    packed = [_Row(pairs) for pairs in rows]
    width = max(len(tree.ids) for tree in packed)
    keep = max(len(tree.asked) for tree in packed)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    positions = np.zeros_like(ids)
    seen = np.tile(np.eye(width, dtype=bool), (len(rows), 1, 1))  # padding, in front, sees itself alone
    columns: list[int] = []  # of each scored token among the logits that are kept, all rows one after the other
    for row, tree in enumerate(packed):
        # The nodes whose next token is asked for come last, so that only their logits are computed.
        order = np.concatenate([np.setdiff1d(np.arange(len(tree.ids)), tree.asked), tree.asked]).astype(np.int64)
        first = width - len(order)
        ids[row, first:] = np.array(tree.ids)[order]
        positions[row, first:] = np.array(tree.positions)[order]
        seen[row, first:, first:] = tree.seen[order[:, None], order]
        place = {node: (row + 1) * keep - len(tree.asked) + number for number, node in enumerate(tree.asked)}
        columns += [place[node] for path in tree.paths for node in path]
    mask = torch.zeros(seen.shape, dtype=dtype_of(model)).masked_fill_(~torch.from_numpy(seen), lowest(model))
    logits = last_logits(
        model,
        torch.from_numpy(ids).to(device),
        keep,
        position_ids=torch.from_numpy(positions).to(device),
        attention_mask=mask[:, None].to(device),
        use_cache=False,
    )
    return logits.flatten(0, 1), columns


def _read(model: Any, logits: Tensor, rows: Sequence[int], targets: Sequence[Sequence[int]]) -> list[TargetScore]:
    """Scores of targets whose tokens, one after the other, are predicted by these rows of logits.

    Raises:
        NumericalError: one of them is NaN.
    """
    places = torch.tensor(rows, device=logits.device)
    wanted = torch.tensor([token for target in targets for token in target], device=logits.device)
    picked = logits[places, wanted].float() - logits.float().logsumexp(1)[places]
    check_finite(model, picked)
    log_probs = iter(picked.double().tolist())
    greedy = iter((logits.argmax(1)[places] == wanted).tolist())
    scores = []
    for target in targets:
        hits = list(islice(greedy, len(target)))
        scores.append(TargetScore(math.fsum(islice(log_probs, len(target))), len(target), all(hits)))
    return scores
