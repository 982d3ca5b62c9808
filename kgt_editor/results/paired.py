"""Editors against each other on the same cases: differences with 95 % intervals, by a paired bootstrap."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from kgt_editor.results.schema import METRICS
from kgt_editor.results.statistics import CONFIDENCE
from kgt_editor.results.summary import CellNumbers

RESAMPLES = 10_000
REFERENCE = "kgt"

#: seed -> case -> value.
Values = Mapping[int, Mapping[Hashable, float]]


@dataclass(frozen=True)
class Difference:
    """How much more one editor has of a metric than another.

    Attributes:
        difference: mean of the cases' differences, averaged over seeds.
        low, high: its 95 % interval.
        p: two-sided, of no difference; at least 2 / 10,001 by the number of resamples.
        cases: how many cases both editors have, over all seeds.
    """

    difference: float
    low: float
    high: float
    p: float
    cases: int


def paired_difference(values: Values, reference: Values) -> Difference | None:
    """The difference between two editors' means; None where they have no case in common.

    Percentile bootstrap (Efron and Tibshirani 1993) over the differences of cases with the same seed and number:
    cases are drawn anew within every seed, seeds are kept, as there are too few of them to draw from. So the interval
    says what other cases would change, not what another order of edits would. Ten thousand resamples, fixed generator.

    Args:
        values: of the editor.
        reference: of the editor that it is compared with.
    """
    seeds = []
    for seed in sorted(set(values) & set(reference)):
        both = values[seed].keys() & reference[seed].keys()
        if both:
            seeds.append(np.array([values[seed][case] - reference[seed][case] for case in both]))
    if not seeds:
        return None
    generator = np.random.default_rng(0)
    draws = np.zeros(RESAMPLES)
    for differences in seeds:
        # How often each value is drawn is multinomial: the same resamples as drawing cases, in the memory of the few
        # distinct differences that shares of a few prompts can have.
        distinct, counts = np.unique(differences.round(12), return_counts=True)
        size = len(differences)
        draws += generator.multinomial(size, counts / size, size=RESAMPLES) @ distinct / size
    draws = (draws / len(seeds)).round(12)  # so that a sum that should be zero is
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return Difference(
        float(np.mean([differences.mean() for differences in seeds])),
        float(low),
        float(high),
        min(1.0, 2 * (beyond + 1) / (RESAMPLES + 1)),
        sum(map(len, seeds)),
    )


def comparisons(cells: Mapping[tuple[str, int], Sequence[CellNumbers]]) -> dict[str, Any] | None:
    """Every editor against ``kgt``, or against the first one where there is no ``kgt``, at every number of edits.

    Args:
        cells: the complete cells by editor and number of edits, in the order of the rows.

    Returns:
        ``reference``, ``resamples``, ``rows``: an editor and size each with its metrics, null where no case has them,
        and ``best``, see :func:`against_the_best`; None where there are no two editors.
    """
    names = list(dict.fromkeys(name for (name, _), own in cells.items() if own))
    if len(names) < 2:
        return None
    reference = REFERENCE if REFERENCE in names else names[0]
    values = {key: _values(own) for key, own in cells.items() if own}
    sizes = list(dict.fromkeys(size for _, size in values))
    rows = []
    for (name, size), own in values.items():
        other = values.get((reference, size))
        if name != reference and other is not None:
            found = {metric: paired_difference(own[metric], other[metric]) for metric in METRICS}
            metrics = {metric: one and asdict(one) for metric, one in found.items()}
            rows.append({"editor": name, "size": size, "metrics": metrics})
    best = [against_the_best({n: own for (n, one), own in values.items() if one == size}) for size in sizes]
    listed = [{"size": size, "metrics": found} for size, found in zip(sizes, best, strict=True)]
    return {"reference": reference, "resamples": RESAMPLES, "rows": rows, "best": listed}


def against_the_best(values: Mapping[str, Mapping[str, Values]]) -> dict[str, Any]:
    """For every metric the ``editor`` with the highest mean and, by editor, the ``p`` of no difference from it.

    The row without edits takes no part. A metric that no case has is null; so is the p of an editor that has no case
    in common with the best.

    Args:
        values: editor -> metric -> values, after one number of edits.
    """
    found: dict[str, Any] = {}
    for metric in METRICS:
        means = {
            name: fmean(fmean(cases.values()) for cases in own[metric].values() if cases)
            for name, own in values.items()
            if name != "none" and any(own[metric].values())
        }
        if not means:
            found[metric] = None
            continue
        top = max(means, key=means.__getitem__)
        others = {name: paired_difference(values[name][metric], values[top][metric]) for name in means if name != top}
        found[metric] = {"editor": top, "p": {name: one and one.p for name, one in others.items()}}
    return found


def _values(cells: Sequence[CellNumbers]) -> dict[str, dict[int, dict[Hashable, float]]]:
    """Metric -> seed -> case -> value; known facts are asked in the same order of every editor with a seed."""
    found: dict[str, dict[int, dict[Hashable, float]]] = {metric: {} for metric in METRICS}
    for cell in cells:
        for metric, listed in cell.metrics.items():
            pairs = zip(cell.case_ids, listed, strict=True)
            found[metric][cell.seed] = {case: value for case, value in pairs if value is not None}
        found["unedited_recall"][cell.seed] = {place: float(hit) for place, hit in enumerate(cell.cell["recalled"])}
    return found
