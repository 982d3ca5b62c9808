"""What a run shows: a bar for every cell under way, and one for all of them, with the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Board:
    """Watches tasks, see :class:`kgt_editor.runs.launch.base.Watch`; lines go to ``line``."""

    def __init__(self, bars: Progress, total: int, line: Callable[[str], None]) -> None:
        self._bars, self._line = bars, line
        self._all = bars.add_task("cells", total=total)
        self._under_way: dict[str, TaskID] = {}

    @classmethod
    @contextmanager
    def shown(cls, console: Console, total: int, line: Callable[[str], None]) -> Iterator[Board]:
        """The board, for as long as there is something to watch."""
        counts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        columns = (*counts, TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=False))
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            yield cls(bars, total, line)

    def started(self, name: str) -> None:
        """A bar for the task."""
        self._under_way[name] = self._bars.add_task(name, total=None)

    def advanced(self, name: str, stage: str, done: int, total: int) -> None:
        """Its bar grows."""
        if name in self._under_way:
            self._bars.update(self._under_way[name], description=f"{name}: {stage}", completed=done, total=total)

    def noted(self, name: str, text: str) -> None:
        """A line of the task's own."""
        self._line(text)

    def died(self, name: str, reason: str) -> None:
        """Its bar goes, until it is started again."""
        self._gone(name)
        self._line(f"{name}: tried again: {reason}")

    def ended(self, name: str) -> None:
        """Its bar goes, the one for all grows."""
        self._gone(name)
        self._bars.advance(self._all)

    def _gone(self, name: str) -> None:
        if name in self._under_way:
            self._bars.remove_task(self._under_way.pop(name))
