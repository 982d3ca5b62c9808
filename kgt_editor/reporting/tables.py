"""Tables 1 to 3 of the paper from runs, with the columns it lacks and, apart, the numbers it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kgt_editor.reporting import names, paper
from kgt_editor.reporting.frames import SETTING
from kgt_editor.reporting.names import MEASURES, NO_EDIT

_TESTBED = (
    "The testbed models are small stand-ins trained from scratch: their numbers compare the editors with each other "
    "and are not comparable to the paper's models."
)
_SPREAD = (
    "±: half the width of the 95 % interval. Scores: over seeds (Student's t), over cases where there is one seed "
    "(bootstrap). Latency: over seeds, over edits where there is one seed (t)."
)
_BOLD = (
    "Bold: the best, and every editor whose 95 % interval overlaps the best one's; without an interval, the same value "
    "as printed. The no-edit row takes no part."
)
_SURE = 0.05
_ALIKE = "="
_CHANCE = (
    "A model that an editor has destroyed prefers either answer at random and still scores about 50 %: read accuracy "
    "and unedited recall beside the scores."
)


@dataclass(frozen=True)
class Cell:
    """One value as shown: ``mean`` with its interval where there is one, or only a word that says why there is none."""

    text: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    best: bool = False


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
    """The number of edits that a setting's tables show: that of the most cells, of equals the largest."""
    filled = rows[rows["seeds"] > 0].groupby("size").size()
    if filled.empty:
        return int(rows["size"].max())
    return int(filled[filled == filled.max()].index.max())


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
    references = {str(name) for name in rows.get("reference", pd.Series(dtype=object)).dropna()}
    definitions = [f"{MEASURES[name].label}: {MEASURES[name].definition}." for name in (*first, *more)]
    compared = "mean log probability a token" if normalise == "mean" else "log probability in all"
    notes = [_SPREAD, _BOLD] if costs else [_SPREAD, f"Answers are compared by {compared}.", _BOLD, _CHANCE]
    if references and not costs:
        against = " or ".join(names.editor_label(name) for name in names.in_order(references))
        notes.append(
            f"{_ALIKE}: not told apart from {against} on the same cases of its run (paired bootstrap, p >= {_SURE})."
        )
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
        by_column.append(_with_best([_cell(row, measure) for row in found], editors, measure))
    cells = tuple(tuple(column[i] for column in by_column) for i in range(len(editors)))
    labelled = tuple((model_label(model), measure) for model, measure in columns)
    return Block(caption, labelled, tuple(editors), cells)


def _cell(row: dict[str, object] | None, measure: str) -> Cell:
    if row is None:
        return Cell("not run")
    if not row["seeds"]:
        return Cell("0" if measure == "seeds" else str(row["status"]))
    mean, low, high = (_number(row.get(name)) for name in (measure, f"{measure}_low", f"{measure}_high"))
    if mean is None:
        return Cell(names.NOTHING)
    text = names.shown(measure, mean)
    if low is not None and high is not None:
        text += f" ± {_half(measure, (high - low) / 2, mean)}"
    p = _number(row.get(f"{measure}_p"))
    if p is not None and p >= _SURE:
        text += f" {_ALIKE}"
    if measure == "seeds" and row["status"] == "partial":
        text += " (partial)"
    return Cell(text, mean, low, high)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value == value else None


def _half(measure: str, half: float, mean: float) -> str:
    """Half an interval, in the unit that ``mean`` is printed in."""
    if MEASURES[measure].unit != "seconds":
        return names.shown(measure, half)
    return f"{half:.2f}" if mean >= 1 else f"{1000 * half:.1f}"


def _with_best(cells: Sequence[Cell], editors: Sequence[str], measure: str) -> list[Cell]:
    better = MEASURES[measure].better
    known = [cell for cell, editor in zip(cells, editors, strict=True) if cell.mean is not None and editor != NO_EDIT]
    if not better or len(known) < 2:
        return list(cells)
    sign = 1 if better == "high" else -1
    top = max(known, key=lambda cell: sign * (cell.mean or 0.0))
    return [
        Cell(cell.text, cell.mean, cell.low, cell.high, best=editor != NO_EDIT and _ties(cell, top))
        for cell, editor in zip(cells, editors, strict=True)
    ]


def _ties(cell: Cell, top: Cell) -> bool:
    if cell.mean is None:
        return False
    if cell.low is None or cell.high is None or top.low is None or top.high is None:
        return cell.text == top.text
    return cell.low <= top.high and top.low <= cell.high


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
