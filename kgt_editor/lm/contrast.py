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

from kgt_editor.lm.continuations import continuation_log_probs
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


def mixes(weight: float, contrast: Contrast) -> bool:
    """Whether the plain prompt has a part in an answer that is read off a fact with that weight."""
    return weight > 0 and (weight < 1 or contrast != 0)


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


def contrasted(read: Tensor, plain: Tensor, contrast: Contrast) -> Tensor:
    """Log probabilities of the next token by the reading alone.

    Args:
        read, plain: log probabilities under the two prompts, shape (..., vocabulary).
        contrast: see the module.

    Returns:
        shape (..., vocabulary); a distribution in every row.
    """
    if not contrast:
        return read
    a: Tensor | float = _divergence(read, plain) if contrast == "adaptive" else float(contrast)
    # A token that both rule out (a padded vocabulary) has no difference to take.
    raised = torch.where(read == -math.inf, read, read + a * (read - plain))
    return raised.log_softmax(-1)


def combine(read: Tensor, plain: Tensor, weight: Tensor | float, contrast: Contrast) -> Tensor:
    """Log probabilities of an answer's first token; of the later ones :class:`Shares` knows more.

    Args:
        read, plain, contrast: as in :func:`contrasted`.
        weight: of the reading, a number or shape (..., 1).
    """
    share = torch.as_tensor(weight, dtype=read.dtype, device=read.device)
    return Shares.of(share).mixed(contrasted(read, plain, contrast), plain)


class Shares(NamedTuple):
    """How far each of the two prompts accounts for what an answer says so far.

    P(a|q) is the sum over both of their weight times the probability that they give to the whole answer (eq. 1).
    Written token by token, each token is drawn from both in proportion to their weight times the probability of the
    tokens before it: an answer that began as the plain model's goes on as the plain model's.

    Attributes:
        read, plain: log of weight times probability so far, double, shape (..., 1).
    """

    read: Tensor
    plain: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Shares:
        """Those before the first token."""
        weight = weight.double()
        return cls(weight.log(), torch.log1p(-weight))

    def mixed(self, read: Tensor, plain: Tensor) -> Tensor:
        """Log probabilities of the next token, shape (..., vocabulary), from those of both (:func:`contrasted`)."""
        total = torch.logaddexp(self.read, self.plain).clamp(min=torch.finfo(torch.double).min)  # -inf - -inf is NaN
        return torch.logaddexp(read + (self.read - total).to(read.dtype), plain + (self.plain - total).to(plain.dtype))

    def behind(self, token: Tensor, read: Tensor, plain: Tensor) -> Shares:
        """Those behind one more token.

        Args:
            token: its id, shape (..., 1).
            read, plain: as in :meth:`mixed`, the distributions that it was drawn from.
        """
        grown = Shares(self.read + read.gather(-1, token), self.plain + plain.gather(-1, token))
        # What stands behind the end of a text is likely to nobody, and means nothing.
        lost = torch.logaddexp(*grown) == -math.inf
        return Shares(*(torch.where(lost, old, new) for old, new in zip(self, grown, strict=True)))


def _divergence(left: Tensor, right: Tensor) -> Tensor:
    """Jensen-Shannon divergence in bits, 0 to 1, shape (..., 1)."""
    middle = torch.logaddexp(left, right) - math.log(2)
    parts = [torch.where(p == -math.inf, 0.0, p.exp() * (p - middle)).sum(-1, keepdim=True) for p in (left, right)]
    return ((parts[0] + parts[1]) / (2 * math.log(2))).clamp(0, 1)


def score_mixed(model: Any, asked: Sequence[Mixed], contrast: Contrast) -> list[TargetScore]:
    """The score of each answer: eq. 1 over the two prompts, and whether it is what greedy decoding writes.

    Raises:
        KgtError: a text is longer than the model's context.
        NumericalError: the model gives NaN.
    """
    return [mixed for mixed, _ in score_both(model, asked, contrast)]


def score_both(model: Any, asked: Sequence[Mixed], contrast: Contrast) -> list[tuple[TargetScore, TargetScore]]:
    """As :func:`score_mixed`; beside each score that of the same answer behind the plain prompt alone."""
    scores = []
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        pairs = [(one.context, one.target) for one in part] + [(one.plain, one.target) for one in part]
        found = continuation_log_probs(model, pairs)
        for one, read, plain in zip(part, found[: len(part)], found[len(part) :], strict=True):
            wanted = torch.tensor(one.target, device=read.device)
            mixed = along(read, plain, wanted, one.weight, contrast)
            scores.append((_score(mixed, wanted), _score(plain, wanted)))
    return scores


def _score(log_probs: Tensor, wanted: Tensor) -> TargetScore:
    picked = log_probs.gather(1, wanted[:, None]).double()
    return TargetScore(float(picked.sum()), len(wanted), bool((log_probs.argmax(1) == wanted).all()))


def along(read: Tensor, plain: Tensor, tokens: Tensor, weight: float, contrast: Contrast) -> Tensor:
    """Log probabilities at every place of an answer, given the tokens before it.

    Args:
        read, plain: as in :func:`contrasted`, shape (tokens, vocabulary).
        tokens: the answer's ids, shape (tokens,).
        weight: of the reading.
    """
    read = contrasted(read, plain, contrast)
    first = Shares.of(torch.tensor([weight], device=read.device))
    given = [each.gather(1, tokens[:, None]).double().cumsum(0)[:-1] for each in (read, plain)]
    before = [torch.nn.functional.pad(each, (0, 0, 1, 0)) for each in given]  # nothing stands before the first token
    return Shares(first.read + before[0], first.plain + before[1]).mixed(read, plain)


def joined(
    read: Tensor, plain: Tensor, ids: Tensor, labels: Tensor | None, weights: Sequence[float], contrast: Contrast
) -> Tensor:
    """Texts in which prompt and answer are joined, read off both prompts.

    Args:
        read, plain: logits behind the two prompts, shape (texts, length, vocabulary).
        ids: the texts' token ids, shape (texts, length).
        labels: same shape, -100 where no answer is; None where it is not known where the answers are, and every token
            is read as an answer's first.
        weights: of the readings; with 0 a text keeps its plain logits.

    Returns:
        log probabilities, or logits where the weight is 0, of the shape of ``read``.
    """
    found = plain.clone()
    for row, weight in enumerate(weights):
        if not weight:
            continue
        both = read[row].log_softmax(-1), plain[row].log_softmax(-1)
        found[row] = combine(*both, weight, contrast)
        places = [] if labels is None else (labels[row] != -100).nonzero()[:, 0].tolist()
        if places and places[0]:
            before = slice(places[0] - 1, places[-1])
            tokens = ids[row, places[0] : places[-1] + 1].to(read.device)
            found[row, before] = along(both[0][before], both[1][before], tokens, weight, contrast)
    return found
