"""Targets behind their prompts, as batches of tokens, and where a text stands in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kgt_editor.errors import UsageError
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.length import check_length
from kgt_editor.lm.tokens import continuation_ids_batch


@dataclass(frozen=True)
class TargetBatch:
    """Prompts with their targets, right-padded, and where the targets are read.

    Attributes:
        ids, mask: tokens and attention mask, (rows, length).
        rows, columns: the positions whose logits predict target tokens, each (all target tokens,).
        wanted: those target tokens.
        weights: one over the number of target tokens of the row, so that weighted sums are means within a row.
    """

    ids: Tensor
    mask: Tensor
    rows: Tensor
    columns: Tensor
    wanted: Tensor
    weights: Tensor

    def row_losses(self, logits: Tensor) -> Tensor:
        """Mean negative log-likelihood (nats a token) of every row's target.

        Args:
            logits: those at (``rows``, ``columns``), (all target tokens, vocabulary).
        """
        picked = logits.float().log_softmax(-1).gather(-1, self.wanted[:, None]).squeeze(-1)
        losses = torch.zeros(self.ids.shape[0], device=picked.device)
        return losses.index_add(0, self.rows, -picked * self.weights)

    def first(self, rows: int) -> TargetBatch:
        """The same texts, with the targets of the first ``rows`` of them only."""
        reads = self.rows < rows
        return TargetBatch(
            self.ids, self.mask, self.rows[reads], self.columns[reads], self.wanted[reads], self.weights[reads]
        )

    def aligned(self, columns: Sequence[int]) -> TargetBatch:
        """The same texts, each moved to the right until its token at ``columns[row]`` stands in the same column.

        That column is the greatest of ``columns``; in front of a row that was moved there is padding.
        """
        at = torch.tensor(columns, device=self.ids.device)
        shift = at.max() - at
        places = torch.arange(self.ids.shape[1], device=self.ids.device) + shift[:, None]
        shape = (len(self.ids), int(places.max()) + 1)
        mask = self.mask.new_zeros(shape).scatter(1, places, self.mask)
        used = int(mask.any(0).nonzero().max()) + 1
        ids = self.ids[:, :1].expand(shape).scatter(1, places, self.ids)
        return TargetBatch(
            ids[:, :used],
            mask[:, :used],
            self.rows,
            self.columns + shift[self.rows],
            self.wanted,
            self.weights,
        )


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token rows of any length as ids and attention mask, both (rows, longest)."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask


def encode_targets(
    model: nn.Module, tok: Any, contexts: Sequence[str], targets: Sequence[str], whole: bool = False
) -> TargetBatch:
    """Batches ``contexts[i]`` continued by ``targets[i]``.

    The last target token predicts nothing and is left out, unless ``whole``.

    Raises:
        UsageError: a row is longer than the model can read.
    """
    pairs = continuation_ids_batch(tok, contexts, targets)
    for context, (stem, target) in zip(contexts, pairs, strict=True):
        check_length(model, len(stem) + len(target), context)
    device = device_of(model)
    ids, mask = pad_right(
        [[*stem, *target][: None if whole else -1] for stem, target in pairs], tok.pad_token_id or 0, device
    )
    lengths = torch.tensor([len(target) for _, target in pairs])
    return TargetBatch(
        ids=ids,
        mask=mask,
        rows=torch.repeat_interleave(torch.arange(len(pairs)), lengths).to(device),
        columns=torch.tensor([len(stem) - 1 + i for stem, target in pairs for i in range(len(target))], device=device),
        wanted=torch.tensor([token for _, target in pairs for token in target], device=device),
        weights=torch.repeat_interleave(1 / lengths, lengths).to(device),
    )


def token_ending_at(tok: Any, text: str, end: int) -> int:
    """Index of the last token that covers the character before ``end`` of ``text``.

    Raises:
        UsageError: the tokenizer keeps no offsets (a slow one).
    """
    if not getattr(tok, "is_fast", False):
        raise UsageError(f"{type(tok).__name__} keeps no character offsets; load the fast tokenizer of this model")
    offsets = tok(text, return_offsets_mapping=True).offset_mapping
    covering = [index for index, (first, last) in enumerate(offsets) if first < end <= last]
    if not covering:
        raise UsageError(f"no token of {text!r} covers its character {end - 1}")
    return covering[-1]
