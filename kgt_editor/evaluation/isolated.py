"""A cell in a process of its own, for editors whose edits leave something behind in theirs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from typing import Any

from kgt_editor.errors import KgtError, one_line
from kgt_editor.evaluation.cell_folder import quiet
from kgt_editor.evaluation.task import CellTask, PreparationError, run_task
from kgt_editor.launch.base import Advance, Note
from kgt_editor.results.lines import DiskError

_PATIENCE = 30.0  # seconds
_KINDS: tuple[type[KgtError], ...] = (DiskError, PreparationError)


def run_task_apart(task: CellTask, advance: Advance = quiet, note: Note = quiet) -> None:
    """As :func:`kgt_editor.evaluation.task.run_task` on a model freshly loaded by a new process.

    Time and memory are measured in that process, by the same code; what it prints goes to the task's log. It ends
    with this one: killed, it reports to nobody, which stops it at the next edit.

    Raises:
        KgtError: what went wrong there, in one line; the rest is in the log.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(task, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            kind, *values = ours.recv()
            if kind == "advance":
                advance(*values)
            elif kind == "note":
                note(*values)
            elif kind == "failed":
                raised = next((one for one in _KINDS if one.__name__ == values[0]), KgtError)
                raise raised(f"{values[1]} (log: {task.log})")
            else:
                process.join(_PATIENCE)  # let it end by itself: it tidies up after EasyEdit
                return
    except EOFError:
        process.join()
        # Nobody else sends SIGKILL to a worker but the system that runs out of memory.
        why = ", most likely for lack of memory" if process.exitcode == -signal.SIGKILL else ""
        raise KgtError(f"its process ended with exit code {process.exitcode}{why} (log: {task.log})") from None
    finally:
        ours.close()
        process.terminate()
        process.join()


def _work(task: CellTask, pipe: Any) -> None:
    with task.log.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            run_task(
                task,
                advance=lambda *stage: pipe.send(("advance", *stage)),
                note=lambda text: pipe.send(("note", text)),
            )
            pipe.send(("done",))
        except Exception as error:
            traceback.print_exc()
            pipe.send(("failed", type(error).__name__, one_line(error)))
        sys.stdout.flush()
        sys.stderr.flush()
