"""One value of a table: how it is printed, and whether it is the best of its column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kgt_editor.reporting import names
from kgt_editor.reporting.names import NO_EDIT

SURE = 0.05
ALIKE = "="


@dataclass(frozen=True)
class Cell:
    """One value as shown: ``mean`` with its interval where there is one, or only a word that says why there is none."""

    text: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    best: bool = False


def cell_of(row: dict[str, object] | None, measure: str) -> Cell:
    """A row's value of a measure as it is printed, or a word that says why there is none."""
    if row is None:
        return Cell("not run")
    if not row["seeds"]:
        return Cell("0" if measure == "seeds" else str(row["status"]))
    if _is_text(row.get("dead")) and names.measure(measure).unit == "share":
        return Cell("dead")
    mean, low, high = (_number(row.get(name)) for name in (measure, f"{measure}_low", f"{measure}_high"))
    if mean is None:
        return Cell(names.NOTHING)
    text = names.shown(measure, mean)
    if low is not None and high is not None:
        if names.measure(measure).unit == "share":
            text += f" [{names.shown(measure, low)}, {names.shown(measure, high)}]"
        else:
            text += f" ± {_half(measure, (high - low) / 2, mean)}"
    p = _number(row.get(f"{measure}_p"))
    if p is not None and p >= SURE:
        text += f" {ALIKE}"
    if measure == "seeds" and row["status"] == "partial":
        text += " (partial)"
    return Cell(text, mean, low, high)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value == value else None


def _half(measure: str, half: float, mean: float) -> str:
    """Half an interval, in the unit that ``mean`` is printed in."""
    if names.measure(measure).unit != "seconds":
        return names.shown(measure, half)
    return f"{half:.2f}" if mean >= 1 else f"{1000 * half:.1f}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def with_best(
    cells: Sequence[Cell], rows: Sequence[dict[str, object] | None], editors: Sequence[str], measure: str
) -> list[Cell]:
    """The cells of a column, those of the best row and of the rows level with it marked.

    Args:
        cells: of the column, an editor each.
        rows: what they were made of.
        editors: their names.
        measure: of the column.
    """
    better = names.measure(measure).better
    together = list(zip(cells, rows, editors, strict=True))
    known = [(cell, row) for cell, row, editor in together if cell.mean is not None and editor != NO_EDIT]
    if not better or len(known) < 2:
        return list(cells)
    sign = 1 if better == "high" else -1
    top, its_row = max(known, key=lambda one: sign * (one[0].mean or 0.0))
    return [
        replace(cell, best=editor != NO_EDIT and cell.mean is not None and _level(cell, row, top, its_row, measure))
        for cell, row, editor in together
    ]


def _level(
    cell: Cell, row: dict[str, object] | None, top: Cell, its_row: dict[str, object] | None, measure: str
) -> bool:
    """Whether a value is not told apart from the best one."""
    if cell is top or row is None or its_row is None:
        return cell is top
    p = _paired(row, its_row, measure)
    if p is not None:
        return p >= SURE
    if cell.low is None or cell.high is None or top.low is None or top.high is None:
        return cell.text == top.text
    return cell.low <= top.high and top.low <= cell.high


def _paired(row: dict[str, object], top: dict[str, object], measure: str) -> float | None:
    """The p between two rows, where the summary of the first one's run has it, be it that of the second one or not."""
    if row.get(f"{measure}_best") == top.get("editor"):
        return _number(row.get(f"{measure}_best_p"))
    if row.get("reference") == top.get("editor"):
        return _number(row.get(f"{measure}_p"))
    if row.get("run") == top.get("run") and top.get("reference") == row.get("editor"):
        return _number(top.get(f"{measure}_p"))
    return None
