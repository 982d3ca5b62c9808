"""Continuations scored in padded rows, for models whose attention cannot be masked as a tree's."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kgt_editor.lm.layers import device_of
from kgt_editor.lm.passes import in_passes, tokens_a_pass
from kgt_editor.lm.target import TargetScore

Pair = tuple[list[int], list[int]]


def score_rows(model: Any, pad: int, pairs: Sequence[Pair], most: int | None = None) -> list[TargetScore]:
    """The score of each (context ids, continuation ids) pair.

    A text that is another one's beginning is read off that one's row: two answers to one prompt, each a token long,
    are one row. Batches are right-padded and sorted by length; only the logits at target positions are computed where
    the model allows it (``logits_to_keep``), and kept in fp32.

    Args:
        model: a causal LM in evaluation mode; it is asked for nothing but ``input_ids`` and ``attention_mask``.
        pad: what rows are filled up with.
        pairs: see :func:`kgt_editor.lm.tokens.continuation_ids`.
        most: rows a forward pass, at most.
    """
    rows = _merge(pairs)
    tokens = tokens_a_pass(device_of(model))
    scores: dict[int, TargetScore] = {}

    def fitting(start: int) -> int:
        count = 1
        while start + count < len(rows) and (count + 1) * len(rows[start + count].ids) <= tokens:
            count += 1
        return count

    def run(start: int, end: int) -> None:
        members = [index for row in rows[start:end] for index in row.members]
        scores.update(zip(members, _score_batch(model, pad, rows[start:end], pairs), strict=True))

    in_passes(len(rows), fitting, run, most)
    return [scores[i] for i in range(len(pairs))]


@dataclass(frozen=True, slots=True)
class _Row:
    """Token ids to run, and the pairs that are scored on them."""

    ids: list[int]
    members: list[int]


def _merge(pairs: Sequence[Pair]) -> list[_Row]:
    """Every pair on the longest row that begins with it, the shortest rows first."""
    # The last target token is never read: it predicts nothing that is scored.
    texts = [(context + target)[:-1] for context, target in pairs]
    rows: list[_Row] = []
    # Downwards in sorted order a text follows the ones that it is the beginning of.
    for index in sorted(range(len(texts)), key=lambda index: texts[index], reverse=True):
        ids = texts[index]
        if rows and rows[-1].ids[: len(ids)] == ids:
            rows[-1].members.append(index)
        else:
            rows.append(_Row(ids, [index]))
    return sorted(rows, key=lambda row: len(row.ids))


@torch.no_grad()
def _score_batch(model: Any, pad: int, batch: Sequence[_Row], pairs: Sequence[Pair]) -> list[TargetScore]:
    """Scores of all members of the rows, in their order."""
    device = device_of(model)
    ids = torch.full((len(batch), max(len(row.ids) for row in batch)), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(batch):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        mask[number, : len(row.ids)] = 1
    members = [(number, *pairs[index]) for number, row in enumerate(batch) for index in row.members]
    # The logits at position p predict the token at p + 1.
    first = min(len(context) for _, context, _ in members) - 1
    logits = _logits_from(model, ids.to(device), mask.to(device), first)
    lengths = [len(target) for _, _, target in members]
    rows = torch.tensor([number for number, _, target in members for _ in target], device=device)
    columns = torch.tensor([len(context) - 1 - first + i for _, context, t in members for i in range(len(t))])
    wanted = torch.tensor([token for _, _, target in members for token in target], device=device)
    picked = logits[rows, columns.to(device)].float()  # (all target tokens, vocabulary)
    log_probs = picked.log_softmax(-1).gather(-1, wanted[:, None]).squeeze(-1).double().cpu()
    greedy = (picked.argmax(-1) == wanted).cpu()
    return [
        TargetScore(float(values.sum()), len(values), bool(hits.all()))
        for values, hits in zip(log_probs.split(lengths), greedy.split(lengths), strict=True)
    ]


def _logits_from(model: Any, ids: Tensor, mask: Tensor, first: int) -> Tensor:
    """Logits of the positions from ``first`` on, shape (batch, length - first, vocabulary)."""
    keep = ids.shape[1] - first
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        logits: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits
        return logits
    output = model(input_ids=ids, attention_mask=mask)
    logits = output if isinstance(output, Tensor) else output.logits
    return logits[:, first:]
