"""What a run shows: progress on stderr while it goes on, the table on stdout at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kgt_editor.results.outcomes import OUTCOMES
from kgt_editor.results.schema import CellFailure, MissingCell
from kgt_editor.runs.board import Board

PLAIN_WIDTH = 160  # of what is printed where stdout is no terminal

_COLUMNS = {
    "efficacy_score": "efficacy\nscore %",
    "paraphrase_score": "paraphr.\nscore %",
    "neighbourhood_score": "neighb.\nscore %",
    "efficacy_accuracy": "efficacy\naccur. %",
    "paraphrase_accuracy": "paraphr.\naccur. %",
    "neighbourhood_accuracy": "neighb.\naccur. %",
    "unedited_recall": "unedited\nrecall %",
}
# Shown where a row has them.
_KEPT_COLUMNS = {
    "same_subject_kept": "subject\nkept %",
    "neighbourhood_kept": "neighb.\nkept %",
    "efficacy_exact": "efficacy\nwritten %",
    "efficacy_contained": "eff. in\ntext %",
}
_OUTCOMES_COLUMN = "held/kept/\nrest./drop."
_COST_COLUMNS = ("edit\np50", "edit\np95", "edit/\nforw.", "memory\nMiB", "failed\nedits")
_TESTBED = (
    "The testbed models are small stand-ins trained from scratch; their numbers are not comparable to the paper's "
    "models."
)
_FOOTNOTES = (
    "Below each share its 95 % interval: Wilson's over cases; with several seeds a bootstrap over seeds and cases.",
    "Score: the new answer is more probable than the true one. A model that an editor has destroyed prefers either at "
    "random and still scores about 50 %: read the accuracy (greedy answer) and unedited recall columns beside it.",
    "Kept: the greedy answer to another question on the edited subject, or to one on another subject, is still the one "
    "without any edit. Written: the model writes the new answer and nothing else in its first sentence; in text: it "
    "writes it there. Dead: a model without finite probabilities, or to which every answer is as likely.",
)


class Display:
    """Progress bars on a terminal; elsewhere one plain line a cell."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def stage(self, editor: str, seed: int | None) -> Iterator[Callable[[str, int, int], None]]:
        """Shows a bar for one cell (or, with no seed, an editor's preparation) and yields its ``advance``."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        timing = (TimeElapsedColumn(), TimeRemainingColumn())
        title = title_of(editor, seed)
        with Progress(
            *columns, *timing, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as bars:
            task = bars.add_task(title, total=None)

            def advance(what: str, done: int, total: int) -> None:
                bars.update(task, description=f"{title}: {what}", completed=done, total=total)

            yield advance

    def board(self, total: int) -> AbstractContextManager[Board]:
        """Shows ``total`` cells of which several run at a time."""
        return Board.shown(self.console, total, self._line)

    def finished(self, cell: Mapping[str, Any]) -> None:
        """Says that a cell is complete; ``cell`` is its last line of ``cells.jsonl``."""
        line = f"{title_of(cell['editor'], cell['seed'])}: {cell['cases']} edits"
        if cell["failed_edits"]:
            line += f", {cell['failed_edits']} edits failed, the first because: {cell['first_failure']}"
        self._line(line)

    def note(self, text: str) -> None:
        """Says something about the whole run."""
        self._line(text)

    def failed(self, failure: CellFailure) -> None:
        """Says that a cell failed and why."""
        self._line(f"{title_of(failure.editor, failure.seed)}: failed: {failure.reason}")

    def _line(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


def title_of(editor: str, seed: int | None) -> str:
    """How a cell is called, or, without a seed, an editor's preparation."""
    return f"{editor}, preparation" if seed is None else f"{editor}, seed {seed}"


def results_console() -> Console:
    """Stdout, wide enough for the table where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def footnotes(rows: Sequence[dict[str, Any]], missing: Sequence[MissingCell] = ()) -> list[str]:
    """What stands under the table: what is not in it first, then how to read it."""
    notes = [*_FOOTNOTES]
    if any(str(row["model"]).startswith("testbed-") for row in rows):
        notes.insert(1, _TESTBED)
    if missing:
        cells = (
            f"{one.editor} seed {one.seed} ({', '.join(f'{size:,}' for size in one.sizes)} edits)" for one in missing
        )
        notes.insert(0, f"PARTIAL: only what was measured; not complete: {'; '.join(cells)}.")
    return notes


def results_table(rows: Sequence[dict[str, Any]], width: int) -> RenderableType:
    """The rows of a summary, laid out like Table 1 of the paper (arXiv 2405.19686) with cost columns.

    Where that is wider than ``width`` characters, editors become columns and measures rows, in as many tables as they
    need to stand side by side.
    """
    first, sizes = rows[0], list(dict.fromkeys(row["size"] for row in rows))
    seeds = "/".join(sorted({str(len(row["seeds"])) for row in rows}, key=int))
    edits = ", ".join(f"{size:,}" for size in sizes)
    title = f"{first['model']} on {first['dataset']}: {edits} {first['mode']} edits, {seeds} seed(s)"
    several = len(sizes) > 1
    kept = {name: heading for name, heading in _KEPT_COLUMNS.items() if any(row["metrics"].get(name) for row in rows)}
    shares = _COLUMNS | kept
    outcomes = any(row.get("edit_outcomes") for row in rows)
    headings = ["editor", *(["edits"] if several else []), *shares.values(), *_COST_COLUMNS]
    headings += [_OUTCOMES_COLUMN] if outcomes else []
    names = [[row["editor"], *([f"{row['size']:,}"] if several else [])] for row in rows]
    ends = [[*_shares(row, shares), *_costs(row), *([_outcomes(row)] if outcomes else [])] for row in rows]
    lines = [headings, *([*name, *end] for name, end in zip(names, ends, strict=True))]
    caption = _silence(rows)
    table = _table(title, lines, caption)
    if _wanted(table) <= width:
        return table
    headings, *rest = ([cell.replace("\n", " ") for cell in line] for line in lines)
    tables: list[Table] = []
    while rest:
        count = len(rest)
        while count > 1 and _wanted(_table(None, list(zip(headings, *rest[:count], strict=True)), None)) > width:
            count -= 1
        part, rest = rest[:count], rest[count:]
        turned = list(zip(headings, *part, strict=True))
        tables.append(_table(None if tables else title, turned, None if rest else caption))
    return Group(*tables)


def _wanted(table: Table) -> int:
    # On a console that is wider than any table, which says what the table wants rather than what it gets.
    return Console(width=10_000).measure(table).maximum


def _table(title: str | None, lines: Sequence[Sequence[str]], caption: str | None) -> Table:
    table = Table(title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for position, heading in enumerate(lines[0]):
        table.add_column(heading, justify="right" if position else "left", overflow="fold")
    for line in lines[1:]:
        table.add_row(*line)
    return table


def _silence(rows: Sequence[dict[str, Any]]) -> str | None:
    silences = [row["silence"] for row in rows if row.get("silence")]
    asked, silent = (sum(one[name] for one in silences) for name in ("asked", "silent"))
    if not silent:
        return None
    return f"Kept: to {silent / asked:.0%} of the prompts the unedited model says nothing; silence again is kept."


def _shares(row: dict[str, Any], columns: Iterable[str]) -> list[str]:
    """Means with the ends of their intervals, in per cent; ``dead`` where the model has no answers."""
    if row.get("dead"):
        return ["dead" for _ in columns]
    intervals = [row["metrics"].get(name) for name in columns]
    return [
        f"{100 * one['mean']:.1f}\n{100 * one['low']:.0f}-{100 * one['high']:.0f}" if one else "-" for one in intervals
    ]


def _outcomes(row: dict[str, Any]) -> str:
    counts = row.get("edit_outcomes")
    return "/".join(str(counts.get(name, 0)) for name in OUTCOMES) if counts else "-"


def _costs(row: dict[str, Any]) -> list[str]:
    rest = [f"{row['peak_memory_bytes'] / 2**20:.0f}", str(row["failed_edits"])]
    seconds = row["edit_seconds"]
    if seconds is None or row["editor"] == "none":
        return ["-", "-", "-", *rest]
    return [_seconds(seconds["p50"]), _seconds(seconds["p95"]), f"{seconds['p50'] / row['forward_seconds']:.1f}", *rest]


def _seconds(value: float) -> str:
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def listing(title: str, entries: dict[str, str]) -> Text:
    """Names and their lines, for ``--list``; print it with ``soft_wrap``."""
    width = max(map(len, entries), default=0)
    further = "\n" + " " * (width + 4)
    return Text(
        "\n".join([title, *(f"  {name:<{width}}  {text.replace(chr(10), further)}" for name, text in entries.items())])
    )
