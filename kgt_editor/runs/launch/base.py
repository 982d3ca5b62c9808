"""Tasks on many workers: what a launcher takes, what it gives back, and what it does when a worker dies.

:mod:`kgt_editor.runs.launch.local` runs each task in a process of this machine, and
:mod:`kgt_editor.runs.launch.ray` on the nodes of a Ray cluster.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from kgt_editor.errors import KgtError, one_line
from kgt_editor.progress import Advance, Note

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
TRIES = 3  # of a task whose worker dies, unless it says otherwise
# The libraries below torch read these when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Needs:
    """What a task takes of a machine.

    Attributes:
        threads: CPU threads, which it is also held to.
        gpus: whole GPUs, which no other task sees meanwhile.
        memory_bytes: main memory, for a scheduler that counts it; 0 says nothing.
    """

    threads: int = 1
    gpus: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Task(Generic[T]):
    """Work for one worker.

    Attributes:
        name: what it is called where a person reads it, and what its end is known by.
        work: called in the worker with a function for progress, ``(stage, done, total)``, and one for a line that a
            person should read; it is pickled, and so is what it returns.
        needs: what it takes of a machine.
        log: where everything goes that is printed meanwhile, on a launcher that shares the file system; None leaves
            it where the worker's output goes.
        tries: how many workers may die of it.
    """

    name: str
    work: Callable[[Advance, Note], T]
    needs: Needs = field(default_factory=Needs)
    log: Path | None = None
    tries: int = TRIES


@dataclass(frozen=True)
class Ended(Generic[T]):
    """How a task ended.

    Attributes:
        value: what its work returned; None where it failed.
        failure: why it failed; None where it did not. What is not one of ours comes as a plain KgtError with its type.
        raised: whether the work raised that; False where it was never done, or its workers died.
        tries: its workers.
    """

    name: str
    value: T | None = None
    failure: KgtError | None = None
    raised: bool = False
    tries: int = 1


class Watch(Protocol):
    """Somebody who follows the tasks."""

    def started(self, name: str) -> None:
        """A worker has the task now (a scheduler of its own says so when the task is handed to it)."""

    def advanced(self, name: str, stage: str, done: int, total: int) -> None:
        """It gets on; a launcher on other machines may leave this out."""

    def noted(self, name: str, text: str) -> None:
        """It has something to say; a launcher on other machines may leave this out."""

    def died(self, name: str, reason: str) -> None:
        """Its worker died, and it will be tried again."""


class Launcher(Protocol):
    """Runs tasks, several at a time; entered (``with``) before, and left when no more are to be run.

    Attributes:
        has_gpus: whether a worker can have one; known once it is entered.
    """

    has_gpus: bool

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def run(self, tasks: Sequence[Task[T]], watch: Watch) -> Generator[Ended[T], None, None]:
        """Gives each task's end as it comes, in no order.

        A task that raises has failed. One whose worker dies (killed for its memory, its machine lost) is tried again,
        ``tries`` times in all, then has failed too. When the iterator is closed, or interrupted by Ctrl-C, every
        worker is ended; what their tasks had on disk stays.

        Raises:
            KgtError: nothing can be run: no such cluster, or needs that no machine has.
        """
        ...


def pack(task: Task[Any]) -> bytes:
    """The task as a worker reads it.

    Raises:
        KgtError: it cannot be pickled.
    """
    try:
        return pickle.dumps(task)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise KgtError(f"{task.name} cannot be sent to another process: {one_line(error)}") from None


def attempt(payload: bytes, advance: Advance, note: Note) -> Ended[Any]:
    """In the worker: do it; the traceback of what it raises goes to stderr."""
    name = "a task"
    try:
        task = pickle.loads(payload)
        name = task.name
        with _threads(task.needs.threads):
            return Ended(name, task.work(advance, note))
    except Exception as error:
        traceback.print_exc()
        return Ended(name, failure=as_failure(error), raised=True)


def as_failure(error: BaseException) -> KgtError:
    """What was raised, as it can be sent to another process: ours of its own class, others with their type in words."""
    kind = type(error) if isinstance(error, KgtError) else KgtError
    return kind(one_line(error))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch on so many threads, where it is used at all."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def given_up(name: str, reason: str, tries: int) -> Ended[Any]:
    """The end of a task whose workers died, the last one for ``reason``."""
    return Ended(name, failure=KgtError(reason if tries == 1 else f"{reason} ({tries} tries)"), tries=tries)


def cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_threads() -> int | None:
    """Threads that the user's environment gives every process; None where it says nothing."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else None
