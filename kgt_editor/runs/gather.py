"""Taking what a cell measured into the folder of its run."""

from __future__ import annotations

from pathlib import Path

from kgt_editor.errors import KgtError, one_line
from kgt_editor.results.lines import DiskError
from kgt_editor.results.run_folder import RunFolder
from kgt_editor.runs.console import Display


def gather(cell: Path, folder: RunFolder, display: Display) -> None:
    """Take a cell's folder into the run's, and say so where that makes the cell complete.

    Raises:
        DiskError: there is no room.
    """
    try:
        taken = folder.gather(cell)
    except DiskError:
        raise
    except KgtError as error:  # its files are broken: what runs the cell says so, and what to do
        display.note(one_line(error))
        return
    if taken and not cell.is_dir():
        display.finished(taken[-1])
