"""Means with 95 % intervals, and percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean, stdev

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """The three numbers by name."""
        return asdict(self)


def share_interval(by_seed: Sequence[Sequence[float]], distinct: int | None = None) -> Interval | None:
    """Mean of shares (0 to 1) with its 95 % interval; None where there is no value at all.

    Args:
        by_seed: for every seed, the values of its cases.
        distinct: how many different cases they are; without it, as many as the largest seed has.

    One seed: Wilson's score interval (1927) over the cases, which says something even where all of them agree: 10 of
    10 is 1.0 from 0.72 on. A case of several prompts counts as one, and as one of yes or no, which varies most: the
    interval is rather too wide than too narrow. Several seeds: a percentile bootstrap that draws seeds, then cases in
    each of them (2,000 resamples, fixed generator), so that it covers what the choice and order of the edits change;
    a bootstrap of values that agree has no width, so the interval is never narrower than Wilson's over ``distinct``.
    """
    filled = [values for values in by_seed if len(values)]
    if not filled:
        return None
    centre = fmean(fmean(values) for values in filled)
    low, high = wilson(centre, distinct or max(map(len, filled)))
    if len(filled) > 1:
        draws = _clustered(filled)
        tail = (1 - CONFIDENCE) / 2
        below, above = np.quantile(draws, [tail, 1 - tail])
        low, high = min(low, float(below)), max(high, float(above))
    return Interval(centre, low, high)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Ends of Wilson's 95 % score interval (E. B. Wilson 1927) of a share among ``count`` cases."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, min(share, (middle - half) / scale)), min(1.0, max(share, (middle + half) / scale))


def no_narrower(interval: Interval, count: int) -> Interval:
    """An interval of a share, widened to Wilson's over ``count`` cases where it is narrower than that."""
    low, high = wilson(interval.mean, count)
    return Interval(interval.mean, min(low, interval.low), max(high, interval.high))


def mean_interval(by_seed: Sequence[Sequence[float]]) -> Interval | None:
    """Mean of any quantity with its 95 % t interval, over the seeds' means; over the values where there is one seed.

    A single value has no spread to judge by: its interval is the value itself. None where there is no value at all.
    """
    filled = [values for values in by_seed if len(values)]
    if not filled:
        return None
    values = filled[0] if len(filled) == 1 else [fmean(values) for values in filled]
    return _t_interval(values) if len(values) > 1 else Interval(values[0], values[0], values[0])


def _t_interval(values: Sequence[float]) -> Interval:
    centre = fmean(values)
    half = t_quantile((1 + CONFIDENCE) / 2, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(centre, centre - half, centre + half)


def _clustered(by_seed: Sequence[Sequence[float]]) -> np.ndarray:
    """Means of ``RESAMPLES`` draws of as many seeds as there are, and of each one's cases."""
    generator = np.random.default_rng(0)
    total = np.zeros(RESAMPLES)
    for _ in by_seed:
        chosen = generator.integers(len(by_seed), size=RESAMPLES)
        for number, values in enumerate(by_seed):
            # How often each value is drawn is multinomial: the same resamples as drawing cases, in the memory of the
            # few distinct values that a share of prompts can take.
            distinct, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
            size = int(counts.sum())
            drawn = generator.multinomial(size, counts / size, size=RESAMPLES) @ distinct / size
            total += np.where(chosen == number, drawn, 0.0)
    return total / len(by_seed)


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t for ``0.5 <= probability < 1`` and whole degrees of freedom, by bisection."""
    low, high = 0.0, 1.0
    while _t_cdf(high, degrees) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _t_cdf(t: float, degrees: int) -> float:
    # Abramowitz and Stegun (1964), 26.7.3 and 26.7.4: a finite sum for whole degrees of freedom.
    theta = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(1 + odd, degrees - 2, 2):
        term *= cosine**2 * k / (k + 1)
        total += term
    inside = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return (1 + inside) / 2


def latency(by_seed: Sequence[Sequence[float]]) -> dict[str, float] | None:
    """Seconds an edit took, over all seeds: p50, p95, mean, and the medians of each run's first and last tenth.

    The last two differ where an edit grows dearer as edits pile up.

    Args:
        by_seed: for every seed, the seconds of its edits in the order they were made.
    """
    filled = [list(values) for values in by_seed if len(values)]
    if not filled:
        return None
    pooled = [value for values in filled for value in values]
    first = [value for values in filled for value in values[: _tenth(values)]]
    last = [value for values in filled for value in values[-_tenth(values) :]]
    return {
        "p50": float(np.quantile(pooled, 0.5)),
        "p95": float(np.quantile(pooled, 0.95)),
        "mean": fmean(pooled),
        "first_tenth_p50": float(np.median(first)),
        "last_tenth_p50": float(np.median(last)),
    }


def forwards(seconds: dict[str, float] | None, forward_seconds: float | None) -> dict[str, float] | None:
    """Every number of :func:`latency` in forward passes of the same model in the same run; None without either."""
    if not (seconds and forward_seconds):
        return None
    return {name: value / forward_seconds for name, value in seconds.items()}


def _tenth(values: Sequence[float]) -> int:
    return max(1, len(values) // 10)
