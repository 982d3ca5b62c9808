"""Reading with all triples at once: P(a|q) = sum over z of P(a|q,z) P(z|q) (eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kgt_editor.errors import KgtError
from kgt_editor.lm.continuations import continuation_log_probs
from kgt_editor.lm.rows import Pair
from kgt_editor.lm.scoring import TargetScore


def score(lm: Any, pairs: Sequence[Pair], probabilities: Sequence[float]) -> TargetScore:
    """Eq. 1 for one answer, and whether it is the greedy continuation of the mixture.

    Args:
        lm: the language model.
        pairs: the ids of T_reasoning(q, z) and of the answer, one for each triple.
        probabilities: P(z|q), one for each triple.

    Raises:
        KgtError: the answer's tokens differ from one prompt to the next.
    """
    tokens = pairs[0][1]
    if any(continuation != tokens for _, continuation in pairs):
        raise KgtError("the answer is tokenised differently behind different facts; use inference: top1")
    per_triple = continuation_log_probs(lm, pairs)
    # Each triple's weight, times the probability that it gave to the tokens so far.
    joint = torch.tensor(probabilities, device=per_triple[0].device).log()
    greedy = True
    for place, token in enumerate(tokens):
        step = torch.stack([log_probs[place] for log_probs in per_triple])  # (triples, vocabulary)
        greedy = greedy and int((joint[:, None] + step).logsumexp(0).argmax()) == token
        joint = joint + step[:, token]
    return TargetScore(float(joint.logsumexp(0)), len(tokens), greedy)


def decode(
    lm: Any, contexts: Sequence[list[int]], probabilities: Sequence[float], end: int | None, max_new_tokens: int
) -> list[int]:
    """The greedy continuation of the mixture, up to ``end`` (left out) or ``max_new_tokens``."""
    new: list[int] = []
    joint = torch.tensor(probabilities).log()
    for _ in range(max_new_tokens):
        # The continuation is a place holder: the distribution in its place is what is asked for.
        step = torch.cat(continuation_log_probs(lm, [(context + new, [0]) for context in contexts])).cpu()
        token = int((joint[:, None] + step).logsumexp(0).argmax())
        if token == end:
            break
        new.append(token)
        joint = joint + step[:, token]
    return new
