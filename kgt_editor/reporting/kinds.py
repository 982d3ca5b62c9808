"""Questions beside an edit, by the kinds of their data set: the shares that stand in tables."""

from __future__ import annotations

from kgt_editor.reporting.names import kind_measures
from kgt_editor.results.statistics import wilson


def shares(kinds: dict[str, dict[str, int]], seeds: int) -> dict[str, float]:
    """Each kind judged both ways, with Wilson's interval over the questions that a seed asks.

    Args:
        kinds: counts of a summary's row, over all seeds.
        seeds: how many.
    """
    found: dict[str, float] = {}
    for name in kind_measures(kinds):
        judged, _, kind = name.partition("/")
        asked = kinds[kind]["asked"]
        share = kinds[kind][judged] / asked
        low, high = wilson(share, max(1, asked // seeds))
        found |= {name: share, f"{name}_low": low, f"{name}_high": high}
    return found
