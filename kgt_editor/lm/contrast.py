"""Answers read off two prompts at once: the one with a fact in it, and the plain one.

Two things come from the plain prompt. *Contrast* takes from the reading what the model would have said anyway:
log P is (1 + a) log P(y | q, z) - a log P(y | q), made a distribution again (context-aware decoding, Shi et al. 2023,
arXiv 2305.14739, eq. 3). With ``adaptive`` a is the Jensen-Shannon divergence of the two distributions, in bits, token
by token (AdaCAD, Wang et al. 2024, arXiv 2409.07394): much where fact and memory disagree, nothing where they agree.
The *weight* of a reading says how far it is trusted to bear on the question at all; the plain prompt gives the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor

from kgt_editor.lm.continuations import continuation_log_probs
from kgt_editor.lm.forward import takes
from kgt_editor.lm.target import TargetScore

#: a, or ``adaptive``.
Contrast = float | Literal["adaptive"]

# Pairs of readings whose distributions are held at once: each is a row of the vocabulary for every answer token.
_AT_ONCE = 64


class Context(NamedTuple):
    """What a language model is given in place of a prompt.

    Attributes:
        text: the prompt with something added, or the prompt itself where there is nothing to add.
        weight: share of the answer that is read off ``text``, 0 to 1; the plain prompt gives the rest. 0 where nothing
            was added.
        plain: the plain prompt, where it is not the one that was asked.
    """

    text: str
    weight: float
    plain: str = ""


class Mixed(NamedTuple):
    """One answer to be scored under two prompts.

    Attributes:
        context, plain: token ids of the prompt with a fact and of the plain prompt.
        target: token ids of the answer.
        weight: see :class:`Context`.
    """

    context: list[int]
    plain: list[int]
    target: list[int]
    weight: float


def combine(read: Tensor, plain: Tensor, weight: Tensor | float, contrast: Contrast) -> Tensor:
    """Log probabilities of the next token.

    Args:
        read, plain: log probabilities under the two prompts, shape (..., vocabulary).
        weight: of the reading, a number or shape (..., 1).
        contrast: see the module.

    Returns:
        shape (..., vocabulary); a distribution in every row.
    """
    if contrast:
        a: Tensor | float = _divergence(read, plain) if contrast == "adaptive" else float(contrast)
        # A token that both rule out (a padded vocabulary) has no difference to take.
        raised = torch.where(read == -math.inf, read, read + a * (read - plain))
        read = raised.log_softmax(-1)
    share = torch.as_tensor(weight, dtype=read.dtype, device=read.device)
    return torch.logaddexp(read + share.log(), plain + torch.log1p(-share))


def _divergence(left: Tensor, right: Tensor) -> Tensor:
    """Jensen-Shannon divergence in bits, 0 to 1, shape (..., 1)."""
    middle = torch.logaddexp(left, right) - math.log(2)
    parts = [torch.where(p == -math.inf, 0.0, p.exp() * (p - middle)).sum(-1, keepdim=True) for p in (left, right)]
    return ((parts[0] + parts[1]) / (2 * math.log(2))).clamp(0, 1)


def score_mixed(model: Any, asked: Sequence[Mixed], contrast: Contrast) -> list[TargetScore]:
    """The score of each answer, token by token under :func:`combine`.

    Raises:
        KgtError: a text is longer than the model's context.
        NumericalError: the model gives NaN.
    """
    scores: list[TargetScore] = []
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        pairs = [(one.context, one.target) for one in part] + [(one.plain, one.target) for one in part]
        found = continuation_log_probs(model, pairs)
        for one, read, plain in zip(part, found[: len(part)], found[len(part) :], strict=True):
            log_probs = combine(read, plain, one.weight, contrast)
            wanted = torch.tensor(one.target, device=log_probs.device)
            picked = log_probs.gather(1, wanted[:, None]).double()
            scores.append(TargetScore(float(picked.sum()), len(wanted), bool((log_probs.argmax(1) == wanted).all())))
    return scores


class PlainBeside(LogitsProcessor):
    """Runs the plain prompts beside those with facts while transformers generates, and combines the two.

    Args:
        model: the model that generates.
        ids, mask: the plain prompts, padded on the left, shape (rows, length).
        start: length of the prompts that ``generate`` is given; what it has written comes behind.
        weights: of the reading, one a row; a row of weight 0 is given its plain prompt by the caller and left alone.
        contrast: see the module.
    """

    def __init__(
        self, model: Any, ids: Tensor, mask: Tensor, start: int, weights: Sequence[float], contrast: Contrast
    ) -> None:
        self._model, self._ids, self._mask, self._start = model, ids, mask, start
        self._weights, self._contrast = torch.tensor(weights, device=ids.device)[:, None], contrast
        self._cache: Any = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        plain = self._next(input_ids[:, self._start :])
        weights = self._weights.repeat_interleave(len(input_ids) // len(self._weights), 0)
        mixed = combine(scores.float().log_softmax(-1), plain, weights, self._contrast)
        return torch.where(weights > 0, mixed, scores.float())  # type: ignore[return-value]

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
