"""Continuations scored one text a row, for models that cannot read a prefix tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kgt_editor.lm.forward import last_logits
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.passes import in_passes, tokens_a_pass
from kgt_editor.lm.target import TargetScore

Pair = tuple[list[int], list[int]]


def score_rows(model: Any, pairs: Sequence[Pair], most: int | None = None, alone: bool = False) -> list[TargetScore]:
    """The score of each (context ids, continuation ids) pair; NaN of one text does not reach another.

    A text that is another one's beginning is read off that one's row: two answers to one prompt, each a token long,
    are one row. Batches are right-padded and sorted by length; only the logits at target positions are computed where
    the model allows it (``logits_to_keep``), and kept in fp32.

    Args:
        model: a causal LM in evaluation mode.
        pairs: see :func:`kgt_editor.lm.tokens.continuation_ids`.
        most: rows a forward pass, at most.
        alone: every text has a pass of its own, without padding and without a mask; only equal texts share one.

    Raises:
        KgtError: there is no memory for a pass over one text.
    """
    scores: dict[int, TargetScore] = {}

    def read(logits: Tensor, members: list[int]) -> None:
        targets = [pairs[index][1] for index in members]
        lengths = [len(target) for target in targets]
        wanted = torch.tensor([token for target in targets for token in target], device=logits.device)
        log_probs = logits.log_softmax(-1).gather(-1, wanted[:, None]).squeeze(-1).double().cpu()
        greedy = (logits.argmax(-1) == wanted).cpu()
        for index, values, hits in zip(members, log_probs.split(lengths), greedy.split(lengths), strict=True):
            scores[index] = TargetScore(float(values.sum()), len(values), bool(hits.all()))

    _run(model, pairs, most, alone, read)
    return [scores[i] for i in range(len(pairs))]


def row_log_probs(model: Any, pairs: Sequence[Pair], alone: bool = False) -> list[Tensor]:
    """Log probabilities of the whole vocabulary at every continuation token, shape (tokens, vocabulary), fp32.

    Arguments and errors as of :func:`score_rows`.
    """
    found: dict[int, Tensor] = {}

    def read(logits: Tensor, members: list[int]) -> None:
        lengths = [len(pairs[index][1]) for index in members]
        found.update(zip(members, logits.log_softmax(-1).split(lengths), strict=True))

    _run(model, pairs, None, alone, read)
    return [found[i] for i in range(len(pairs))]


def _run(
    model: Any, pairs: Sequence[Pair], most: int | None, alone: bool, read: Callable[[Tensor, list[int]], None]
) -> None:
    """Run all rows; ``read`` gets the logits (target tokens, vocabulary), fp32, of pairs and those pairs' numbers."""
    rows = _merge(pairs, alone)
    tokens = tokens_a_pass(device_of(model))

    def fitting(start: int) -> int:
        count = 1
        while not alone and start + count < len(rows) and (count + 1) * len(rows[start + count].ids) <= tokens:
            count += 1
        return count

    def run(start: int, end: int) -> None:
        members = [index for row in rows[start:end] for index in row.members]
        read(_target_logits(model, rows[start:end], pairs, alone), members)

    in_passes(len(rows), fitting, run, most)


@dataclass(frozen=True, slots=True)
class _Row:
    """Token ids to run, and the pairs that are scored on them."""

    ids: list[int]
    members: list[int]


def _merge(pairs: Sequence[Pair], alone: bool) -> list[_Row]:
    """Every pair on the longest row that begins with it (``alone``: on one that equals it), the shortest first."""
    # The last target token is never read: it predicts nothing that is scored.
    texts = [(context + target)[:-1] for context, target in pairs]
    rows: list[_Row] = []
    # Downwards in sorted order a text follows the ones that it is the beginning of.
    for index in sorted(range(len(texts)), key=lambda index: texts[index], reverse=True):
        ids = texts[index]
        if rows and (rows[-1].ids == ids if alone else rows[-1].ids[: len(ids)] == ids):
            rows[-1].members.append(index)
        else:
            rows.append(_Row(ids, [index]))
    return sorted(rows, key=lambda row: len(row.ids))


@torch.no_grad()
def _target_logits(model: Any, batch: Sequence[_Row], pairs: Sequence[Pair], alone: bool) -> Tensor:
    """Logits that predict the target tokens of all members of the rows, one after the other, fp32."""
    width = max(len(row.ids) for row in batch)
    # A row is filled up with its own last token: whatever a pad token's embedding holds, no text meets it.
    ids = torch.tensor([row.ids + row.ids[-1:] * (width - len(row.ids)) for row in batch])
    mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in batch])
    members = [(number, *pairs[index]) for number, row in enumerate(batch) for index in row.members]
    # The logits at position p predict the token at p + 1.
    first = min(len(context) for _, context, _ in members) - 1
    device = device_of(model)
    logits = last_logits(
        model,
        ids.to(device),
        width - first,
        attention_mask=None if alone else mask.to(device),
        use_cache=False,
    )
    rows = torch.tensor([number for number, _, target in members for _ in target])
    columns = torch.tensor([len(context) - 1 - first + i for _, context, t in members for i in range(len(t))])
    return logits[rows.to(logits.device), columns.to(logits.device)].float()
