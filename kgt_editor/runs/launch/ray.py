"""Tasks on the nodes of a Ray cluster (Moritz et al. 2018, arXiv 1712.05889).

Every node needs this package and what it depends on. Nothing else is shared: a task is sent whole and its value comes
back whole.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from kgt_editor.errors import KgtError, UsageError, one_line
from kgt_editor.runs.launch.base import Ended, Needs, T, Task, Watch, as_failure, attempt, given_up, pack

_PATIENCE = 10.0  # seconds for a cluster to answer
_LOOK_AFTER = 5.0  # seconds between looks at the nodes that are left
_DEATHS = {
    "OutOfMemoryError": "Ray killed its worker because the node ran out of memory",
    "NodeDiedError": "its node was lost",
    "WorkerCrashedError": "its worker died or its node was lost",
}
# Both are read when Ray is loaded. The name of the second tells of the systems where it is the default: a cluster of
# this machine alone, on its loopback address.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class RayLauncher:
    """See :class:`kgt_editor.runs.launch.base.Launcher`.

    A new process a task, on a node that has what the task needs; Ray counts it and holds each task to its GPUs.

    Args:
        address: of a running cluster, as ``ray.init`` takes it; None for the one that ``$RAY_ADDRESS`` names, else for
            a cluster of this machine alone, which listens on the loopback address and ends with the run.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"

    def __enter__(self) -> RayLauncher:
        local = self._address == "local"
        for name, value in (_QUIET | _LOOPBACK if local else _QUIET).items():
            os.environ.setdefault(name, value)
        try:
            self._ray = importlib.import_module("ray")
        except ImportError:
            raise UsageError("--launcher ray needs Ray: pip install 'kgt_editor[ray]'") from None
        _check_reachable(self._address)
        before = signal.getsignal(signal.SIGTERM)
        own: dict[str, Any] = {"include_dashboard": False} if local else {}
        try:
            self._ray.init(self._address, log_to_driver=False, logging_level="ERROR", **own)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise UsageError(f"no Ray cluster at {self._address}: {one_line(error)}") from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has put its own there
        self.has_gpus = self._fits(Needs(0, 1))
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()  # the workers of this run end with it, and a cluster of its own too

    def run(self, tasks: Sequence[Task[T]], watch: Watch) -> Generator[Ended[T], None, None]:
        ray = self._ray
        remote = ray.remote(max_calls=1, max_retries=0)(_work)
        running: dict[Any, tuple[Task[T], int]] = {}

        def submit(task: Task[T], number: int) -> None:
            needs = task.needs
            memory = {"memory": needs.memory_bytes} if needs.memory_bytes else {}
            asked = remote.options(name=task.name, num_cpus=needs.threads, num_gpus=needs.gpus, **memory)
            running[asked.remote(pack(task))] = task, number

        for task in tasks:
            if not self._fits(task.needs):
                raise UsageError(f"no node of the Ray cluster has what {task.name} needs: {_in_words(task.needs)}")
        try:
            for task in tasks:
                try:
                    submit(task, 1)
                except KgtError as error:
                    yield Ended(task.name, failure=error)
                else:
                    watch.started(task.name)
            while running:
                done, _ = ray.wait(list(running), timeout=_LOOK_AFTER)
                for reference in done:
                    task, number = running.pop(reference)
                    ended = self._end(reference, task)
                    if isinstance(ended, Ended):
                        yield replace(ended, name=task.name, tries=number)
                    elif number < task.tries:
                        watch.died(task.name, ended)
                        submit(task, number + 1)
                    else:
                        yield given_up(task.name, ended, number)
                lost = [] if done else [one for one, (task, _) in running.items() if not self._fits(task.needs)]
                for reference in lost:  # it would wait for ever
                    task, number = running.pop(reference)
                    ray.cancel(reference, force=True)
                    reason = f"no node that is left has what it needs: {_in_words(task.needs)}"
                    yield Ended(task.name, failure=KgtError(reason), tries=number)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _end(self, reference: Any, task: Task[T]) -> Ended[T] | str:
        """How the task ended, or why its worker died."""
        try:
            ended, printed = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # around the attempt: its value cannot be pickled
            return Ended(task.name, failure=as_failure(error.cause), raised=True)
        except self._ray.exceptions.RayError as error:
            name = type(error).__name__
            return _DEATHS.get(name, f"Ray lost it ({name})")
        if task.log is not None and printed:
            with task.log.open("ab") as file:
                file.write(printed)
        assert isinstance(ended, Ended)
        return ended

    def _fits(self, needs: Needs) -> bool:
        wanted = {"CPU": needs.threads, "GPU": needs.gpus, "memory": needs.memory_bytes}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return any(all(node.get(name, 0) >= count for name, count in wanted.items()) for node in nodes)


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:  # 'auto', 'local'
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster at {address}: {one_line(error)}; start one with 'ray start --head' or give no address"
        ) from None


def _work(payload: bytes) -> tuple[Ended[Any], bytes]:
    """In the worker: how the task ended, and what was printed meanwhile."""
    with tempfile.TemporaryFile() as printed, _output_to(printed.fileno()):
        ended = attempt(payload, lambda stage, done, total: None, lambda text: None)
        sys.stdout.flush()
        sys.stderr.flush()
        printed.seek(0)
        return ended, printed.read()


@contextmanager
def _output_to(target: int) -> Iterator[None]:
    kept = [(number, os.dup(number)) for number in (1, 2)]
    for number, _ in kept:
        os.dup2(target, number)
    try:
        yield
    finally:
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


def _in_words(needs: Needs) -> str:
    parts = [f"{needs.threads} CPUs"]
    parts += [f"{needs.gpus} GPUs"] if needs.gpus else []
    parts += [f"{needs.memory_bytes / 2**30:.1f} GiB of memory"] if needs.memory_bytes else []
    return ", ".join(parts)
