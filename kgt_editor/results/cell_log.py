"""What a cell has done so far: the edits as they are made, the cases as they are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from kgt_editor.results.schema import CaseResult, CellResult, EditResult


class Stateful(Protocol):
    """An editor whose edits can be kept; see :class:`kgt_editor.editors.base.Editor`."""

    def save_state(self, model: Any, folder: Path) -> bool:
        """Write all that the edits have changed; False where it cannot be."""

    def load_state(self, model: Any, tok: Any, folder: Path) -> Any:
        """The model with the edits in force."""


class CellLog:
    """A cell's log in memory; :class:`kgt_editor.results.cell_folder.CellFolder` keeps one on disk.

    Args:
        editor: the row's name, which may carry a preset.
        seed: the cell's seed.

    Attributes:
        edits: the edits so far, in order.
        finished: the numbers of edits at which everything has been evaluated.
    """

    def __init__(self, editor: str, seed: int) -> None:
        self.editor, self.seed = editor, seed
        self.edits: list[EditResult] = []
        self.finished: set[int] = set()
        self._cells: dict[int, CellResult] = {}

    @property
    def failed(self) -> list[EditResult]:
        """The edits that failed."""
        return [edit for edit in self.edits if edit.failure is not None]

    @property
    def results(self) -> list[CellResult]:
        """What was measured at each number of edits, the smallest first."""
        return [self._cells[size] for size in sorted(self.finished)]

    def resume(self, editor: Stateful, model: Any, tok: Any) -> Any:
        """The model after :attr:`edits`, made in an earlier process; ``model`` itself where there are none."""
        return model

    def edited(self, edit: EditResult) -> None:
        """Take in the next edit."""
        self.edits.append(edit)

    def edits_with_details(self, start: int, stop: int) -> list[EditResult]:
        """The edits from position ``start`` to ``stop``, with their details, which :attr:`edits` may lack."""
        return self.edits[start:stop]

    def rewind(self, count: int) -> None:
        """Forget the edits behind the first ``count``: they are made again."""
        del self.edits[count:]

    def checkpoint(self, editor: Stateful, model: Any, now: bool = False) -> None:
        """Keep the model as it is after :attr:`edits`, where it is time to; ``now``: in any case."""

    def evaluated(self, size: int) -> int:
        """How many cases have been evaluated after ``size`` edits."""
        return len(self._cell(size).cases)

    def recalled(self, size: int) -> list[bool]:
        """The hits on known facts that these cases hold (single mode)."""
        return [hit for case in self._cell(size).cases for hit in case.recalled]

    def add(self, size: int, cases: Sequence[CaseResult]) -> None:
        """Take in cases evaluated after ``size`` edits, in order."""
        self._cell(size).cases += cases

    def finish(self, size: int, recalled: Sequence[bool], memory: dict[str, Any] | None = None) -> None:
        """All cases of ``size`` edits are evaluated.

        Args:
            size: the number of edits.
            recalled: the hits on known facts.
            memory: what the device's driver counted after the last edit.
        """
        cell = self._cell(size)
        cell.recalled = list(recalled)
        cell.peak_memory_bytes, cell.device_memory = self.peak(size), memory
        self.finished.add(size)

    def peak(self, size: int) -> int:
        """The highest memory in bytes while one of the first ``size`` edits ran."""
        return max((edit.peak_bytes for edit in self.edits[:size]), default=0)

    def _cell(self, size: int) -> CellResult:
        return self._cells.setdefault(size, CellResult(self.editor, self.seed, size))
