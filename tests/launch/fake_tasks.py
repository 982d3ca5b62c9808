"""Work for a launcher's tests; workers import it by this module's name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Noted:
    """Writes ``name`` to the file ``journal`` when it begins, and does nothing else."""

    name: str
    journal: Path

    def __call__(self, advance: Any, note: Any) -> Any:
        with self.journal.open("a") as file:
            file.write(f"{self.name}\n")
        note(f"{self.name} begins")
        return self.work(advance)

    def work(self, advance: Any) -> Any:
        advance("noting", 1, 1)
        print(f"this is {self.name}")
        return self.name.upper()


class Raises(Noted):
    """Fails as a defect does."""

    def work(self, advance):
        raise RuntimeError("a defect\nover two lines")


@dataclass(frozen=True)
class Dies(Noted):
    """Kills its own process the first ``times`` times."""

    times: int = 1

    def work(self, advance):
        if self.journal.read_text().splitlines().count(self.name) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().work(advance)


class Environment(Noted):
    """What its process may use: GPUs, threads asked for, threads torch has."""

    def work(self, advance):
        import torch

        return os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()


@dataclass(frozen=True)
class Meets(Noted):
    """Ends when another one of its kind is there at the same time, and fails where none comes."""

    others: int = 1

    def work(self, advance):
        deadline = time.monotonic() + 60
        while len(self.journal.read_text().splitlines()) <= self.others:
            if time.monotonic() > deadline:
                raise RuntimeError("alone")
            time.sleep(0.01)
        return self.name


class Endless(Noted):
    """Goes on until its process is ended; tells its number."""

    def work(self, advance):
        advance("working", os.getpid(), 0)
        while True:
            time.sleep(0.05)


class Unpicklable(Noted):
    """Cannot be sent anywhere."""

    def __reduce__(self):
        raise TypeError("cannot pickle 'Unpicklable'")


@dataclass(frozen=True)
class Held(Noted):
    """Notes under which process its own runs, and ends when there is a file ``gate``."""

    gate: Path = Path("gate")

    def __call__(self, advance, note):
        with self.journal.open("a") as file:
            file.write(f"{self.name} {os.getppid()}\n")
        while not self.gate.exists():
            time.sleep(0.05)
        return self.name


def all_fates(journal: Path) -> dict[str, Any]:
    """Name -> work, one for every way in which a task can end."""
    return {
        "good": Noted("good", journal),
        "bad": Raises("bad", journal),
        "unlucky": Dies("unlucky", journal),
        "doomed": Dies("doomed", journal, times=99),
        "stuck": Unpicklable("stuck", journal),
    }
