"""Editors of different runs against each other: the paired tests that one run's summary has, on cases of several."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from kgt_editor.reporting.frames import SETTING
from kgt_editor.reporting.names import CASE_MEASURES, NO_EDIT
from kgt_editor.reporting.runs import Run
from kgt_editor.results.paired import REFERENCE, Values, against_the_best, paired_difference


def across_runs(runs: Sequence[Run], rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the tests of :func:`kgt_editor.results.paired.comparisons` wherever a table draws on several runs.

    Two runs of one setting ask the same records, so that a case of one has its like in the other. Where a run has no
    figures of its cases, what its own summary says stays.

    Args:
        runs: those that the rows were made of.
        rows: from :func:`kgt_editor.reporting.frames.choose`.

    Returns:
        a copy, with ``reference``, ``<share>_p``, ``<share>_best`` and ``<share>_best_p``.
    """
    by_name = {run.name: run for run in runs if run.cases is not None}
    rows = rows.copy()
    for _, group in rows.groupby(["model", *SETTING, "size"], dropna=False):
        own = group[group["run"].isin(by_name) & (group["seeds"] > 0)]
        if own["run"].nunique() < 2:
            continue
        values = {
            line["editor"]: _values(by_name[line["run"]], line["editor"], line["size"])
            for line in own.to_dict("records")
        }
        places = dict(zip(own["editor"], own.index, strict=True))
        for editor, column, value in _tests(values):
            if column not in rows:
                rows[column] = pd.Series(dtype=object)
            rows.loc[places[editor], column] = value
    return rows


def _tests(values: Mapping[str, Mapping[str, Values]]) -> Iterator[tuple[str, str, Any]]:
    """Editor, column and what stands there."""
    reference = REFERENCE if REFERENCE in values else next(iter(values))
    best = against_the_best(values)
    for editor, own in values.items():
        yield editor, "reference", reference
        for measure in CASE_MEASURES:
            if editor != reference:
                found = paired_difference(own[measure], values[reference][measure])
                yield editor, f"{measure}_p", found and found.p
            top = best.get(measure)
            if top and editor != NO_EDIT:
                yield editor, f"{measure}_best", top["editor"]
                yield editor, f"{measure}_best_p", top["p"].get(editor)


def _values(run: Run, editor: str, size: int) -> Mapping[str, Values]:
    """Measure -> seed -> case -> value, of the cells that are complete."""
    cells = {
        seed: cell
        for (name, seed, edits), cell in run.cells.items()
        if (name, edits, cell["status"]) == (editor, size, "complete")
    }
    assert run.cases is not None
    cases = run.cases[(run.cases["editor"] == editor) & (run.cases["size"] == size)]
    found: dict[str, dict[int, dict[Hashable, float]]] = {measure: {} for measure in CASE_MEASURES}
    for seed, cell in cells.items():
        own = cases[cases["seed"] == seed].set_index("case_id")
        for measure in CASE_MEASURES:
            if measure != "unedited_recall":
                found[measure][seed] = own[measure].dropna().to_dict()
        # Known facts are asked in the same order of every editor with a seed.
        found["unedited_recall"][seed] = {place: float(hit) for place, hit in enumerate(cell["recalled"])}
    return found
