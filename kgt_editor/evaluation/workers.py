"""The cells of a run on the workers of a launcher, and the look at the model that comes before them."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import traceback
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from kgt_editor.errors import KgtError, UnsupportedModelError, UsageError, one_line
from kgt_editor.evaluation.console import Display
from kgt_editor.evaluation.run_folder import RunFolder
from kgt_editor.evaluation.runner import gather
from kgt_editor.evaluation.task import CellTask, PreparationError, run_task
from kgt_editor.launch.base import Advance, Ended, Launcher, Needs, Note, T, Task
from kgt_editor.results.lines import DiskError, writing

_KINDS: tuple[type[KgtError], ...] = (UsageError, UnsupportedModelError, DiskError, KgtError)


@dataclass(frozen=True)
class Workers:
    """A launcher that has been entered, and how cells run on it.

    Attributes:
        needs: what a cell takes of a machine.
        share_files: whether workers see the run's folder. Where they do not, a cell's own folder travels with it.
    """

    launcher: Launcher
    needs: Needs
    share_files: bool

    def do(self, task: Task[T], display: Display) -> T:
        """One task, waited for.

        Raises:
            KgtError: it failed; of the class that it raised where that is one of ours.
        """
        with display.board(1) as board:
            (ended,) = self.launcher.run([task], board)
        if ended.failure is not None:
            raise _raised(ended)
        return ended.value  # type: ignore[return-value]

    def cells(self, todo: Sequence[CellTask], folder: RunFolder, display: Display) -> list[dict[str, Any]]:
        """As :func:`kgt_editor.evaluation.runner.in_turn`, several at a time.

        The first seed of every row goes before the second of any: what a row prepares is then ready for its others.
        """
        by_name = {f"{cell.name}, seed {cell.seed}": cell for cell in sorted(todo, key=lambda cell: cell.seed)}
        tasks: list[Task[Any]] = [
            Task(name, Here(cell) if self.share_files else Away(cell, packed(cell.folder)), self.needs, cell.log)
            for name, cell in by_name.items()
        ]
        failed: list[dict[str, Any]] = []
        with display.board(len(tasks)) as board:
            ends = self.launcher.run(tasks, board)
            try:
                for ended in ends:
                    cell = by_name[ended.name]
                    if isinstance(ended.value, Content):
                        unpack(ended.value.files, cell.folder)
                        ended = replace(ended, failure=ended.value.failure, kind=ended.value.kind)
                    if ended.kind == DiskError.__name__:
                        raise _raised(ended)
                    if ended.failure is not None:
                        seed = None if ended.kind == PreparationError.__name__ else cell.seed
                        reason = ended.failure + (f" (log: {cell.log})" if ended.kind else "")
                        if not any((one["editor"], one["seed"]) == (cell.name, None) for one in failed):
                            failed.append({"editor": cell.name, "seed": seed, "reason": reason})
                            display.failed(cell.name, seed, reason)
                    board.ended(ended.name)
                    if cell.log.is_file() and not cell.log.stat().st_size:
                        cell.log.unlink()
                    if cell.folder.is_dir():
                        gather(cell.folder, folder, display)
            finally:
                ends.close()
        return failed


def _raised(ended: Ended[Any]) -> KgtError:
    kind = next((kind for kind in _KINDS if kind.__name__ == ended.kind), KgtError)
    return kind(ended.failure or "")


@dataclass(frozen=True)
class Here:
    """A cell, run into its own folder."""

    cell: CellTask

    def __call__(self, advance: Advance, note: Note) -> None:
        disable_progress_bar()
        run_task(self.cell, advance=advance, note=note)


@dataclass(frozen=True)
class Content:
    """What an :class:`Away` leaves: the files of the cell's folder, and why it is not complete."""

    files: bytes
    failure: str | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Away:
    """A cell, run where its folder is not.

    Attributes:
        files: what is in the folder, see :func:`packed`; the cell goes on from there.
    """

    cell: CellTask
    files: bytes

    def __call__(self, advance: Advance, note: Note) -> Content:
        disable_progress_bar()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "cells" / self.cell.folder.name
            unpack(self.files, folder)
            cell = replace(self.cell, folder=folder, log=Path(place) / self.cell.log.name)
            try:
                run_task(cell, advance=advance, note=note)
            except Exception as error:  # what it did measure comes back all the same
                traceback.print_exc()
                return Content(packed(folder), one_line(error), type(error).__name__)
            return Content(packed(folder))


def packed(folder: Path) -> bytes:
    """The files of a cell's folder, none where there is no folder; what begins with a dot is left out."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if not any(part.startswith(".") for part in name.parts):
                archive.write(path, name)
    return content.getvalue()


def unpack(files: bytes, folder: Path) -> None:
    """Make ``folder`` hold just what :func:`packed` packed.

    Raises:
        DiskError: there is no room.
    """
    part = folder.parent.parent / f".{folder.name}.part"
    with writing(folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(files)) as archive:
            archive.extractall(part)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, folder)
