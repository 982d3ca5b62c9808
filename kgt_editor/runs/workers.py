"""The cells of a run in processes of their own, several at a time or one after the other."""

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

import torch
from transformers.utils.logging import disable_progress_bar

from kgt_editor.errors import KgtError
from kgt_editor.progress import Advance, Note, quiet
from kgt_editor.results.lines import DiskError, writing
from kgt_editor.results.run_folder import RunFolder
from kgt_editor.results.schema import CellFailure
from kgt_editor.runs.console import Display, title_of
from kgt_editor.runs.gather import gather
from kgt_editor.runs.launch.base import Ended, Launcher, Needs, T, Task, as_failure
from kgt_editor.runs.launch.local import LocalLauncher
from kgt_editor.runs.task import CellTask, PreparationError, run_task


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
            raise ended.failure
        return ended.value  # type: ignore[return-value]

    def cells(self, todo: Sequence[CellTask], folder: RunFolder, display: Display) -> list[CellFailure]:
        """As :func:`kgt_editor.runs.cells.in_turn`, several at a time.

        The first seed of every row goes before the second of any: what a row prepares is then ready for its others.
        """
        by_name = {title_of(cell.name, cell.seed): cell for cell in sorted(todo, key=lambda cell: cell.seed)}
        tasks: list[Task[Any]] = [
            Task(
                name,
                SharedDiskCell(cell) if self.share_files else OwnDiskCell(cell, packed(cell.folder)),
                self.needs,
                cell.log,
            )
            for name, cell in by_name.items()
        ]
        failed: list[CellFailure] = []
        with display.board(len(tasks)) as board:
            ends = self.launcher.run(tasks, board)
            try:
                for ended in ends:
                    cell = by_name[ended.name]
                    if isinstance(ended.value, Content):
                        unpack(ended.value.files, cell.folder)
                        ended = replace(ended, failure=ended.value.failure, raised=True)
                    if isinstance(ended.failure, DiskError):
                        raise ended.failure
                    if ended.failure is not None:
                        failure = failure_of(cell, ended)
                        if not any((one.editor, one.seed) == (cell.name, None) for one in failed):
                            failed.append(failure)
                            display.failed(failure)
                    board.ended(ended.name)
                    if cell.log.is_file() and not cell.log.stat().st_size:
                        cell.log.unlink()
                    if cell.folder.is_dir():
                        gather(cell.folder, folder, display)
            finally:
                ends.close()
        return failed


def failure_of(cell: CellTask, ended: Ended[Any]) -> CellFailure:
    """What became of a cell whose task failed, with the file to read more in."""
    seed = None if isinstance(ended.failure, PreparationError) else cell.seed
    return CellFailure(cell.name, seed, str(ended.failure) + (f" (log: {cell.log})" if ended.raised else ""))


@dataclass(frozen=True)
class _Follower:
    """Watches one task for somebody who follows cells one by one."""

    advance: Advance
    note: Note

    def started(self, name: str) -> None:
        """Nothing is shown of that."""

    def advanced(self, name: str, stage: str, done: int, total: int) -> None:
        self.advance(stage, done, total)

    def noted(self, name: str, text: str) -> None:
        self.note(text)

    def died(self, name: str, reason: str) -> None:
        """It is not tried again: its editor leaves things behind in its process, and would end the next one too."""


def run_apart(task: CellTask, advance: Advance = quiet, note: Note = quiet) -> None:
    """As :func:`kgt_editor.runs.task.run_task`, on a model freshly loaded by a new process of this machine.

    For editors whose edits leave something behind in their process. Time and memory are measured in the new one, by
    the same code; what it prints goes to the task's log.

    Raises:
        KgtError: what went wrong there, in one line; the rest is in the log.
    """
    needs = Needs(torch.get_num_threads())
    with LocalLauncher(1) as launcher:
        work: Task[None] = Task(task.name, SharedDiskCell(task), needs, task.log, tries=1)
        (ended,) = launcher.run([work], _Follower(advance, note))
    if ended.failure is not None:
        raise type(ended.failure)(failure_of(task, ended).reason)


@dataclass(frozen=True)
class SharedDiskCell:
    """A cell as work for a process that sees its folder."""

    cell: CellTask

    def __call__(self, advance: Advance, note: Note) -> None:
        disable_progress_bar()
        run_task(self.cell, advance=advance, note=note)


@dataclass(frozen=True)
class Content:
    """What an :class:`OwnDiskCell` leaves: the files of the cell's folder, and why it is not complete."""

    files: bytes
    failure: KgtError | None = None


@dataclass(frozen=True)
class OwnDiskCell:
    """A cell as work for a process that does not see its folder.

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
                return Content(packed(folder), as_failure(error))
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
