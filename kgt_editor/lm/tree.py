"""Log probabilities of many continuations under prompts that share their beginning.

KGT asks the same model about the same query in dozens of variants: every relation after one prompt, every triple
inside another. The token sequences are merged into a prefix tree, every node of which is run once: a tree is one
row of tokens with a mask that lets each node see its ancestors alone, and with its depth as position. That is the
computation of one sequence at a time, rearranged (tests compare the two), so however many continuations there are,
they cost one forward pass. What was run is kept as keys and values, so a tree can grow where the first pass told it to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from kgt_editor.errors import KgtError
from kgt_editor.lm.forward import check_finite, dtype_of, lowest, takes
from kgt_editor.lm.layers import device_of, plain_model
from kgt_editor.lm.length import check_length
from kgt_editor.lm.read_before import ReadBefore, Text, columns, joined, watchable
from kgt_editor.lm.rows import Pair
from kgt_editor.lm.target import TargetScore
from kgt_editor.lm.tokens import encode, join

# Nodes a row; more do not use a processor better, and the mask grows with their square.
MAX_NODES = 512


def encode_continuations(tok: Any, prompt: str, continuations: Sequence[str]) -> list[Pair]:
    """:func:`kgt_editor.lm.tokens.continuation_ids` of many continuations of one prompt.

    Raises:
        KgtError: the prompt is empty or a continuation adds no token to it.
    """
    stem, *wholes = encode(tok, [prompt.rstrip(), *(join(prompt, text) for text in continuations)])
    for text, whole in zip(continuations, wholes, strict=True):
        if not stem or not text.strip() or len(whole) <= len(stem):
            raise KgtError(f"{text!r} has no token of its own after {prompt!r}")
    return [(whole[: len(stem)], whole[len(stem) :]) for whole in wholes]


@dataclass(frozen=True, slots=True)
class Branch:
    """Token ids at the root of a tree, or behind one of its nodes, of which the last ones are scored.

    Attributes:
        ids: at least one.
        first: number of the first id that is scored, at least 1.
        behind: the node; -1 is the root.
    """

    ids: Sequence[int]
    first: int
    behind: int = -1


def at_root(pair: Pair) -> Branch:
    """A pair as a branch of its own."""
    context, continuation = pair
    return Branch(context + continuation, len(context))


def score_branches(tree: Tree, branches: Sequence[Branch], max_nodes: int = MAX_NODES) -> list[TargetScore]:
    """The score of each branch, given all that stands before it; the tree is left as it was.

    Raises:
        KgtError: a branch ends beyond the model's context.
        NumericalError: the model gives NaN.
    """
    scores = {i: TargetScore(0.0, 0, True) for i, branch in enumerate(branches) if branch.first == len(branch.ids)}
    for log_probs, members in branch_passes(tree, branches, max_nodes):
        wanted = torch.tensor([t for i, _ in members for t in branches[i].ids[branches[i].first :]])
        rows = torch.tensor([row for _, places in members for row in places])
        picked = log_probs[rows.to(log_probs.device), wanted.to(log_probs.device)].double().cpu()
        greedy = log_probs.argmax(-1).cpu()[rows] == wanted
        lengths = [len(places) for _, places in members]
        for (i, places), values, hits in zip(members, picked.split(lengths), greedy.split(lengths), strict=True):
            scores[i] = TargetScore(float(values.sum()), len(places), bool(hits.all()))
    return [scores[i] for i in range(len(branches))]


def tree_log_probs(model: Any, pairs: Sequence[Pair], max_nodes: int = MAX_NODES) -> list[Tensor]:
    """:func:`kgt_editor.lm.continuations.continuation_log_probs` of a model that reads trees.

    Raises:
        KgtError: a pair is longer than the model's context.
        NumericalError: the model gives NaN.
    """
    before = ReadBefore.of(model) if watchable(model) else None
    known = before.beginning([context for context, _ in pairs]) if before else Text([], [])
    tree = Tree(model, known)
    found: dict[int, Tensor] = {}
    for log_probs, members in branch_passes(tree, [_behind(known.ids, pair) for pair in pairs], max_nodes):
        for index, places in members:
            found[index] = log_probs[torch.tensor(places, device=log_probs.device)]
        if before:  # of the longest prompt; the others are short, or differ from it at their end alone
            index, places = max(members, key=lambda member: len(pairs[member[0]][0]))
            before.add(tree.read_up_to(pairs[index][0], places[0]))
    return [found[index] for index in range(len(pairs))]


def _behind(known: Sequence[int], pair: Pair) -> Branch:
    """A pair as a branch behind what is known, where it begins so, or at the root."""
    context, continuation = pair
    if known and len(known) < len(context) and context[: len(known)] == known:
        return Branch(context[len(known) :] + continuation, len(context) - len(known), len(known) - 1)
    return at_root(pair)


def branch_passes(
    tree: Tree, branches: Sequence[Branch], max_nodes: int
) -> Iterator[tuple[Tensor, list[tuple[int, list[int]]]]]:
    """Per forward pass: log probabilities (positions, vocabulary), and for each branch its number and positions."""
    size = len(tree)
    # Neighbours in sorted order share the longest beginnings.
    asked = [index for index, branch in enumerate(branches) if branch.first < len(branch.ids)]
    waiting = sorted(asked, key=lambda index: (branches[index].behind, list(branches[index].ids)), reverse=True)
    while waiting:
        paths: list[tuple[int, list[int]]] = []
        while waiting and (not paths or len(tree) - size + len(branches[waiting[-1]].ids) <= max_nodes + 1):
            branch = branches[waiting[-1]]
            # The last token is never run: it predicts nothing that is scored.
            nodes = tree.insert(branch.ids[:-1], branch.behind)
            paths.append((waiting.pop(), nodes[branch.first - 1 :]))
        rows = {node: row for row, node in enumerate(sorted({node for _, nodes in paths for node in nodes}))}
        yield tree.run(list(rows)), [(index, [rows[node] for node in nodes]) for index, nodes in paths]
        tree.cut(size)


class Tree:
    """A prefix tree of token sequences under one model; its nodes are numbered in the order in which they were made.

    Args:
        model: a causal LM in evaluation mode that reads trees (see :mod:`kgt_editor.lm.batching`).
        known: what was read before; its tokens are the first nodes, each behind the one before.
    """

    def __init__(self, model: Any, known: Text | None = None) -> None:
        self._model = model
        self._tokens: list[int] = []
        self._depths: list[int] = []
        self._visible = np.zeros((64, 64), dtype=bool)  # row: a node; true at itself and its ancestors
        self._cache = DynamicCache()
        self._run = 0
        self._asked: Sequence[int] = ()
        self._children: dict[tuple[int, int], int] = {}  # (parent, token) of the nodes that were not run yet
        if known is not None and known.ids:
            self.insert(known.ids)
            self._cache, self._run = joined([known], len(known.ids)), len(known.ids)
            self._children.clear()

    def __len__(self) -> int:
        return len(self._tokens)

    def insert(self, ids: Sequence[int], behind: int = -1) -> list[int]:
        """Add a sequence at the root, or behind a node; returns its nodes.

        It shares its beginning with sequences that wait to be run like it, never with nodes that were run already:
        their next token could not be asked for again.

        Raises:
            KgtError: the sequence would end beyond the model's context.
        """
        first = self._depths[behind] + 1 if behind >= 0 else 0
        check_length(self._model, first + len(ids))
        path = []
        node = behind
        for depth, token in enumerate(ids, first):
            child = self._children.get((node, token))
            node = self._grow(node, token, depth) if child is None else child
            path.append(node)
        return path

    def _grow(self, parent: int, token: int, depth: int) -> int:
        node = len(self)
        if node == len(self._visible):
            self._visible = np.pad(self._visible, (0, node))
        self._visible[node] = self._visible[parent] if parent >= 0 else False
        self._visible[node, node] = True
        self._children[parent, token] = node
        self._tokens.append(token)
        self._depths.append(depth)
        return node

    def read_up_to(self, ids: list[int], asked: int) -> Text:
        """What is kept of a text whose last token is the node that was asked for in this place of the last pass."""
        nodes = np.flatnonzero(self._visible[self._asked[asked]]).tolist()
        return Text(ids, columns(self._cache, 0, torch.tensor(nodes)))

    def cut(self, size: int) -> None:
        """Drop the nodes from number ``size`` on, all of which were run."""
        del self._tokens[size:], self._depths[size:]
        self._cache.crop(size - self._run)
        self._run = size

    @torch.no_grad()
    def run(self, asked: Sequence[int]) -> Tensor:
        """One forward pass over the nodes that were not run yet.

        Args:
            asked: those of them whose next token is wanted, each once.

        Returns:
            log probabilities of the whole vocabulary, shape (asked nodes, vocabulary), fp32.

        Raises:
            NumericalError: the model gives NaN.
        """
        model, before, size = self._model, self._run, len(self)
        device = device_of(model)
        seen = torch.from_numpy(self._visible[before:size, :size].copy())
        mask = torch.zeros(seen.shape, dtype=dtype_of(model)).masked_fill_(~seen, lowest(model))
        keep = torch.tensor(asked, device=device) - before
        ids = torch.tensor([self._tokens[before:]], device=device)
        inputs = {
            "position_ids": torch.tensor([self._depths[before:]], device=device),
            "attention_mask": mask[None, None].to(device),
            "past_key_values": self._cache,
            "use_cache": True,
        }
        # The last layer of a model spread over several devices cannot index with a tensor on the first.
        if takes(model, "logits_to_keep") and len(getattr(plain_model(model), "hf_device_map", {})) <= 1:
            logits = model(input_ids=ids, **inputs, logits_to_keep=keep).logits[0]
        else:
            logits = model(input_ids=ids, **inputs).logits[0]
            logits = logits[keep.to(logits.device)]
        self._run, self._asked = size, asked
        self._children.clear()
        log_probs: Tensor = logits.float().log_softmax(-1)
        check_finite(model, log_probs)
        return log_probs
