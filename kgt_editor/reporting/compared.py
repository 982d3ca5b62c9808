"""Editors of different runs against each other: the paired tests that one run's summary has, on cases of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from kgt_editor.reporting.frames import SETTING, compared_columns
from kgt_editor.reporting.names import CASE_MEASURES
from kgt_editor.reporting.runs import Run
from kgt_editor.results.paired import comparisons
from kgt_editor.results.summary import CellNumbers


def across_runs(runs: Sequence[Run], rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the tests of :func:`kgt_editor.results.paired.comparisons` wherever a table draws on several runs.

    Two runs of one setting ask the same records, so that a case of one has its like in the other. Where a run has no
    figures of its cases, what its own summary says stays.

    Args:
        runs: those that the rows were made of.
        rows: from :func:`kgt_editor.reporting.frames.choose`.

    Returns:
        a copy, with the columns of :func:`kgt_editor.reporting.frames.compared_columns`.
    """
    by_name = {run.name: run for run in runs if run.cases is not None}
    rows = rows.copy()
    for _, group in rows.groupby(["model", *SETTING, "size"], dropna=False):
        own = group[group["run"].isin(by_name) & (group["seeds"] > 0)]
        if own["run"].nunique() < 2:
            continue
        keys = list(zip(own["run"], own["editor"], own["size"], strict=True))
        cells = {(editor, size): list(_cells(by_name[run], editor, size)) for run, editor, size in keys}
        found = comparisons(cells)
        for place, (_, editor, size) in zip(own.index, keys, strict=True):
            for column, value in compared_columns(found, editor, size).items():
                if column not in rows:
                    rows[column] = pd.Series(dtype=object)
                rows.loc[place, column] = value
    return rows


def _cells(run: Run, editor: str, size: int) -> Iterator[CellNumbers]:
    """The complete cells of an editor, the lowest seed first."""
    assert run.cases is not None
    cases = run.cases[(run.cases["editor"] == editor) & (run.cases["size"] == size)]
    for (name, seed, edits), cell in sorted(run.cells.items()):
        if (name, edits, cell["status"]) == (editor, size, "complete"):
            own = cases[cases["seed"] == seed]
            metrics = {
                measure: [None if value != value else value for value in own[measure]]
                for measure in CASE_MEASURES
                if measure in own
            }
            yield CellNumbers(editor, seed, size, own["case_id"].tolist(), metrics, cell=cell)
