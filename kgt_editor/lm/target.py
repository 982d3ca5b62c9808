"""The score of a continuation, and how much of it a model can read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TargetScore:
    """A continuation under a model.

    Attributes:
        log_prob: natural log of its probability, summed over its tokens.
        tokens: how many tokens it has.
        greedy: whether every token of it is the model's first choice, given the ones before.
    """

    log_prob: float
    tokens: int
    greedy: bool

    @property
    def mean_log_prob(self) -> float:
        """Log probability per token, which ROME's evaluation compares (Meng et al. 2022)."""
        return self.log_prob / self.tokens
