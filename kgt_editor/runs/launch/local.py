"""Tasks in processes of this machine, one after another in each place, each place with GPUs of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.runs.launch.base import THREAD_VARIABLES, Ended, T, Task, Watch, attempt, given_up, pack

_PATIENCE = 30.0  # seconds for a worker to end by itself after its work
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class LocalLauncher:
    """See :class:`kgt_editor.runs.launch.base.Launcher`.

    A new process a task, by ``spawn``: nothing that one leaves behind reaches the next. A task whose worker died is
    tried again when all others are through, alone: if memory was short, it has all of it then.

    Args:
        jobs: tasks at a time.
        gpus: names for ``CUDA_VISIBLE_DEVICES``, dealt out evenly among the ``jobs`` places.
        sharing: whether several places may have the same GPU, where there are more places than GPUs.

    Raises:
        UsageError: there are GPUs, but fewer than jobs, and they are not to be shared.
    """

    def __init__(self, jobs: int, gpus: Sequence[str] = (), sharing: bool = False) -> None:
        if gpus and jobs > len(gpus) and not sharing:
            raise UsageError(
                f"--jobs {jobs}: there are {len(gpus)} GPUs, and cells that share one would be timed together; "
                f"use --jobs {len(gpus)} or fewer, --device cpu, or --share-gpus where times do not matter"
            )
        self.has_gpus = bool(gpus)
        dealt = cycle(gpus)
        self._places = [tuple(islice(dealt, max(1, len(gpus) // jobs))) for _ in range(jobs)]

    def __enter__(self) -> LocalLauncher:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, tasks: Sequence[Task[T]], watch: Watch) -> Generator[Ended[T], None, None]:
        waiting = deque((task, 1) for task in tasks)
        again: deque[tuple[Task[T], int]] = deque()
        free = list(reversed(self._places))
        running: dict[Connection, _Worker] = {}
        try:
            while waiting or again or running:
                while free and (waiting or (again and not running)):
                    task, number = (waiting or again).popleft()
                    try:
                        worker = _Worker.start(task, number, free[-1])
                    except KgtError as error:
                        yield Ended(task.name, failure=error, tries=number)
                        continue
                    running[worker.pipe] = worker
                    free.pop()
                    watch.started(task.name)
                # Where no process could be started there is nothing to wait for: that would never end.
                for pipe in wait(list(running)) if running else ():
                    assert isinstance(pipe, Connection)
                    worker = running[pipe]
                    try:
                        kind, *values = pipe.recv()
                    except (EOFError, OSError):  # it may die in the middle of a message
                        kind, values = "died", []
                    if kind == "advance":
                        watch.advanced(worker.task.name, *values)
                        continue
                    if kind == "note":
                        watch.noted(worker.task.name, *values)
                        continue
                    del running[pipe]
                    worker.finish(_PATIENCE)
                    free.append(worker.gpus)
                    reason = worker.death()
                    if kind == "died" and worker.number < worker.task.tries:
                        again.append((worker.task, worker.number + 1))
                        watch.died(worker.task.name, reason)
                    elif kind == "died":
                        yield given_up(worker.task.name, reason, worker.number)
                    else:
                        yield replace(values[0], name=worker.task.name, tries=worker.number)
        finally:
            for worker in running.values():
                worker.finish(0)


@dataclass
class _Worker:
    """A process at work on a task."""

    task: Task[Any]
    number: int  # of the try, from 1
    gpus: tuple[str, ...]
    pipe: Connection
    process: Any

    @classmethod
    def start(cls, task: Task[Any], number: int, gpus: tuple[str, ...]) -> _Worker:
        payload = pack(task)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        # Not a daemon: those may have no processes of their own.
        process = context.Process(target=_work, args=(payload, task.log, theirs), daemon=False)
        # Both are read when libraries load, so they are set before the process begins.
        changes = dict.fromkeys(THREAD_VARIABLES, str(task.needs.threads))
        if gpus:
            changes[_VISIBLE] = ",".join(gpus)
        with _environment(changes):
            process.start()
        theirs.close()
        return cls(task, number, gpus, ours, process)

    def finish(self, patience: float) -> None:
        """The process is over when this returns, ended if it takes longer than ``patience`` seconds."""
        self.process.join(patience)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.pipe.close()

    def death(self) -> str:
        """How the process ended."""
        code = self.process.exitcode
        if code >= 0:
            how = f"ended with exit code {code}"
        else:
            how = f"was killed by {signal.Signals(-code).name}"
            how += ", as Linux does when memory runs out" if -code == signal.SIGKILL else ""
        return f"its process {how}" + (f"; log: {self.task.log}" if self.task.log else "")


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(payload: bytes, log: Path | None, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all; the parent decides what it means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if log is not None:
        with log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    ended = attempt(payload, lambda *stage: pipe.send(("advance", *stage)), lambda text: pipe.send(("note", text)))
    pipe.send(("ended", ended))


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on: the same command may be started again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def visible_gpus() -> list[str]:
    """The GPUs this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` gives them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]
