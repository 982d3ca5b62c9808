"""Answers written from two prompts at once: what transformers' ``generate`` is given so that it combines the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from kgt_editor.lm.contrast import Contrast, Shares, contrasted
from kgt_editor.lm.forward import takes


class _Written:
    """Answers as far as they are written: how much of each is due to the reading and to the plain prompt."""

    def __init__(self, contrast: Contrast) -> None:
        self._contrast = contrast
        self._shares: Shares | None = None
        self._last: tuple[Tensor, Tensor] | None = None

    def next(self, read: Tensor, plain: Tensor, weights: Tensor, token: Tensor) -> Tensor:
        """Log probabilities of the next token, shape (rows, vocabulary).

        Args:
            read, plain: those under the two prompts, same shape.
            weights: of the reading, shape (rows, 1).
            token: the one that was written last, shape (rows, 1); nothing is made of it at the first call.
        """
        read = contrasted(read, plain, self._contrast)
        if self._shares is None or self._last is None:
            self._shares = Shares.of(weights)
        else:
            self._shares = self._shares.behind(token, *self._last)
        self._last = read, plain
        return self._shares.mixed(read, plain)


class PlainBelow(LogitsProcessor):
    """Combines rows of one batch: behind the prompts with facts come the plain ones, in the same order.

    Both rows of an answer are given the same numbers, so that a greedy choice writes the same into both. What is drawn
    at random would differ; :class:`PlainBeside` is for that.

    Args:
        above: numbers of the rows with a fact, one for each of the last rows of the batch.
        weights: of the reading, as many.
        contrast: see :mod:`kgt_editor.lm.contrast`.
    """

    def __init__(self, above: Sequence[int], weights: Sequence[float], contrast: Contrast) -> None:
        self._above, self._weights, self._written = list(above), list(weights), _Written(contrast)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        found = scores.float()
        both = found.log_softmax(-1)
        below = slice(len(found) - len(self._above), len(found))
        weights = torch.tensor(self._weights, device=found.device)[:, None]
        mixed = self._written.next(both[self._above], both[below], weights, input_ids[below, -1:])
        found = found.index_copy(0, torch.tensor(self._above, device=found.device), mixed)
        found[below] = mixed
        return found  # type: ignore[return-value]


class PlainBeside(LogitsProcessor):
    """Runs the plain prompts beside those with facts while transformers generates, and combines the two.

    Args:
        model: the model that generates.
        ids, mask: the plain prompts, padded on the left, shape (rows, length).
        start: length of the prompts that ``generate`` is given; what it has written comes behind.
        weights: of the reading, one a row; a row of weight 0 is given its plain prompt by the caller and left alone.
        contrast: see :mod:`kgt_editor.lm.contrast`.
    """

    def __init__(
        self, model: Any, ids: Tensor, mask: Tensor, start: int, weights: Sequence[float], contrast: Contrast
    ) -> None:
        self._model, self._ids, self._mask, self._start = model, ids, mask, start
        self._weights, self._written = torch.tensor(weights, device=ids.device)[:, None], _Written(contrast)
        self._cache: Any = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        new = input_ids[:, self._start :]
        plain = self._next(new)
        read = scores.float().log_softmax(-1)
        mixed = self._written.next(read, plain, self._weights, new[:, -1:])
        return torch.where(self._weights > 0, mixed, scores.float())  # type: ignore[return-value]

    def _next(self, new: Tensor) -> Tensor:
        """Log probabilities of the token behind the plain prompts and what was written, shape (rows, vocabulary)."""
        several = len(new) // len(self._ids)
        if several > 1:  # several samples a prompt
            self._ids, self._mask = (part.repeat_interleave(several, 0) for part in (self._ids, self._mask))
            self._weights = self._weights.repeat_interleave(several, 0)
        written = torch.ones_like(new)
        mask = torch.cat([self._mask, written.to(self._mask.dtype)], dim=1)
        ids = torch.cat([self._ids, new], dim=1)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        ahead = 0 if self._cache is None else ids.shape[1] - 1
        inputs = {
            "attention_mask": mask,
            "position_ids": places[:, ahead:],
            "past_key_values": self._cache,
            "use_cache": takes(self._model, "past_key_values"),  # a model without such a cache reads all anew
        }
        out = self._model(
            input_ids=ids[:, ahead:], **{name: value for name, value in inputs.items() if takes(self._model, name)}
        )
        self._cache = getattr(out, "past_key_values", None)
        log_probs: Tensor = out.logits[:, -1].float().log_softmax(-1)
        return log_probs
