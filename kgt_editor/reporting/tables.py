"""Tables 1 to 3 of the paper from runs, with the columns it lacks and, apart, the numbers it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kgt_editor.reporting import names, paper
from kgt_editor.reporting.cell import ALIKE, SURE, Cell, cell_of, with_best
from kgt_editor.reporting.frames import SETTING

_TESTBED = (
    "The testbed models are small stand-ins trained from scratch, and taught to read facts in the form in which KGT "
    "gives them (docs/testbeds.md): their numbers compare the editors with each other and are not comparable to the "
    "paper's models."
)
_SPREAD = (
    "[low, high]: 95 % interval of a share. One seed: Wilson's, over cases. Several: a bootstrap that draws seeds, "
    "then cases, and never narrower than Wilson's."
)
_LATENCY = "±: half the width of the 95 % interval, over seeds, over edits where there is one seed (Student's t)."
_BOLD = (
    "Bold: the best, and every editor that the paired test does not tell apart from it (bootstrap over the same cases, "
    f"p >= {SURE}). Where a run has no figures of its cases, and so no such test: where the intervals overlap. The "
    "no-edit row takes no part."
)
_BEST_COST = (
    "Bold: the best, and what is printed alike or has an interval that overlaps. The no-edit row takes no part."
)
_MOST = 0.75
_CHANCE = (
    "A model that an editor has destroyed prefers either answer at random and still scores about 50 %: read accuracy "
    "and unedited recall beside the scores."
)


@dataclass(frozen=True)
class Block:
    """A rectangle of cells under one caption; ``columns`` are (model, measure), rows are editors."""

    caption: str
    columns: tuple[tuple[str, str], ...]
    editors: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]

    def frame(self) -> pd.DataFrame:
        """The means: editors by (model, measure); NaN where there is no value."""
        columns = pd.MultiIndex.from_tuples(self.columns, names=["model", "measure"])
        values = [[cell.mean for cell in row] for row in self.cells]
        return pd.DataFrame(values, index=pd.Index(self.editors, name="editor"), columns=columns, dtype=float)


@dataclass(frozen=True)
class Table:
    """One of the paper's tables for one setting.

    Attributes:
        number: 1, 2 or 3.
        stem: file name without suffix.
        title: what it shows.
        blocks: the paper's columns for the measured models; then, a model each, the columns the paper lacks.
        reported: the paper's own numbers.
        notes: definitions and how to read it.
    """

    number: int
    stem: str
    title: str
    blocks: tuple[Block, ...]
    reported: Block
    notes: tuple[str, ...] = field(default=())


def settings(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """The settings among ``rows``, see :data:`~kgt_editor.reporting.frames.SETTING`, in the order of the runs."""
    return list(rows[list(SETTING)].astype(str).drop_duplicates().itertuples(index=False, name=None))


def of_setting(rows: pd.DataFrame, setting: tuple[str, ...]) -> pd.DataFrame:
    """The lines of one setting."""
    return rows[(rows[list(SETTING)].astype(str) == list(setting)).all(axis=1)]


def table_size(rows: pd.DataFrame) -> int:
    """The number of edits that a setting's tables show: the largest that most editors have reached.

    Most: at least three quarters as many as at the size of the most cells.
    """
    filled = rows[rows["seeds"] > 0].groupby("size").size()
    if filled.empty:
        return int(rows["size"].max())
    return int(filled[filled >= _MOST * filled.max()].index.max())


def make_tables(rows: pd.DataFrame) -> list[Table]:
    """Table 1 (or, for CounterFactExtension, 2) and Table 3 for each setting among ``rows``.

    Args:
        rows: from :func:`kgt_editor.reporting.frames.choose`.
    """
    tables = []
    for setting in settings(rows):
        own = of_setting(rows, setting)
        size = table_size(own)
        here, stem = own[own["size"] == size], setting_stem(setting, rows)
        tables += [_table(here, number, setting, size, stem) for number in (_scores_number(setting), 3)]
    return tables


def setting_stem(setting: tuple[str, ...], rows: pd.DataFrame) -> str:
    """A setting as part of a file name, which tells it from the others among ``rows``."""
    dataset, revision, mode, normalise, known_only = setting
    parts = [dataset, mode] + ([normalise] if normalise != "mean" else [])
    parts += ["known"] if known_only == "True" else []
    if rows[rows["dataset"] == dataset]["data_revision"].nunique() > 1:
        parts.append(revision)
    return "-".join(parts)


def _scores_number(setting: tuple[str, ...]) -> int:
    return 2 if "extension" in setting[0] else 1


def _table(rows: pd.DataFrame, number: int, setting: tuple[str, ...], size: int, stem: str) -> Table:
    dataset, _, mode, normalise, known_only = setting
    costs = number == 3
    first: Sequence[str] = names.COSTS if costs else names.SCORES
    more: Sequence[str] = names.MORE_COSTS if costs else names.MORE_SCORES
    what = "memory and latency" if costs else "efficacy and paraphrase"
    title = f"Table {number}: {what} on {dataset}, {size:,} {mode} edits"
    title += " of facts that the model knows" if known_only == "True" else ""
    more = [name for name in more if name not in names.WHERE_KNOWN or _known(rows, name)]
    models = list(dict.fromkeys(rows["model"]))
    blocks = [_block(rows, "the paper's columns", [(model, name) for model in models for name in first])]
    for model in models:
        caption = f"beyond the paper: {model_label(model)}"
        blocks.append(_block(rows[rows["model"] == model], caption, [(model, name) for name in more]))
    kinds = [] if costs else [name for name in rows if names.is_of_kind(name) and _known(rows, name)]
    for model in models if kinds else ():
        caption = f"beyond the paper, other questions by kind: {model_label(model)}"
        blocks.append(_block(rows[rows["model"] == model], caption, [(model, name) for name in kinds]))
    references = {str(name) for name in rows.get("reference", pd.Series(dtype=object)).dropna()}
    definitions = [names.explained(name) for name in (*first, *more, *kinds)]
    compared = "mean log probability a token" if normalise == "mean" else "log probability in all"
    notes = (
        [_LATENCY, _BEST_COST]
        if costs
        else [_SPREAD, f"Answers are compared by {compared}; ties count for neither.", _BOLD, _CHANCE]
    )
    keepers = [name for name in names.in_order(rows["editor"]) if name.partition(":")[0] in names.KEEP_EDITS]
    if keepers and not costs:
        listed = ", ".join(map(names.editor_label, keepers))
        notes.append(f"These keep every edit, to read it or to tune on it again; the others see it once: {listed}.")
    uneven = _seeds(rows)
    if uneven:
        notes.insert(0, uneven)
    if references and not costs:
        against = " or ".join(names.editor_label(name) for name in names.in_order(references))
        notes.append(f"{ALIKE}: not told apart from {against} on the same cases (paired bootstrap, p >= {SURE}).")
    if any(model.startswith("testbed-") for model in models):
        notes.insert(0, _TESTBED)
    if costs and any(model.startswith("shape:") for model in models):
        notes.insert(0, "shape: a published size with random weights; time and memory only.")
    return Table(
        number,
        f"table{number}-{stem}",
        title,
        tuple(blocks),
        reported_block(number),
        (*notes, *definitions),
    )


def _seeds(rows: pd.DataFrame) -> str:
    """Which rows have how many seeds, where they have not all the same; empty where they have."""
    filled = rows[rows["seeds"] > 0]
    if filled["seeds"].nunique() < 2:
        return ""
    parts = []
    for count, group in filled.groupby("seeds", sort=True):
        listed = dict.fromkeys(
            f"{names.editor_label(row['editor'])} on {model_label(row['model'])}" for row in group.to_dict("records")
        )
        parts.append(f"{count} seed{'s' if count > 1 else ''}: {', '.join(listed)}")
    return f"The rows do not all have as many seeds. {'; '.join(parts)}."


def _known(rows: pd.DataFrame, measure: str) -> bool:
    return measure in rows and bool(rows[measure].notna().any())


def model_label(model: str) -> str:
    """A model's name without the folder it lies in."""
    return Path(model).name or model


def _block(rows: pd.DataFrame, caption: str, columns: Sequence[tuple[str, str]]) -> Block:
    editors = names.in_order(rows["editor"])
    lookup = {(row["editor"], row["model"]): row for row in rows.to_dict("records")}
    by_column = []
    for model, measure in columns:
        found = [lookup.get((editor, model)) for editor in editors]
        by_column.append(with_best([cell_of(row, measure) for row in found], found, editors, measure))
    cells = tuple(tuple(column[i] for column in by_column) for i in range(len(editors)))
    labelled = tuple((model_label(model), measure) for model, measure in columns)
    return Block(caption, labelled, tuple(editors), cells)


def reported_block(number: int) -> Block:
    """The paper's own table, as it printed it; without bold, which is its own."""
    frame = paper.reported(number)
    measures = names.COSTS if number == 3 else names.SCORES
    editors = names.in_order(frame["editor"])
    columns = [(model, measure) for model in paper.MODELS for measure in measures]
    found = {(row.editor, (row.model, row.measure)): row for row in frame.itertuples()}
    cells = tuple(tuple(_reported_cell(found[editor, column]) for column in columns) for editor in editors)
    caption = f"{paper.SOURCE}, its Table {number}, {paper.DATASETS[number]}; other models, data and machines"
    return Block(caption, tuple(columns), tuple(editors), cells)


def _reported_cell(row: object) -> Cell:
    measure, value, half = row.measure, row.value, row.plus_minus  # type: ignore[attr-defined]
    if measure == "memory":
        return Cell(f"{value:.0f} MB", value)
    if measure == "edit_mean":
        return Cell(f"{value:.2f} s", value)
    if half != half:
        return Cell(f"{100 * value:.2f}", value)
    return Cell(f"{100 * value:.2f} ± {100 * half:.2f}", value, value - half, value + half)
