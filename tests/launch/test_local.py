"""Tasks in processes: who runs when, what a worker sees, and what becomes of one that dies."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kgt_editor.errors import UsageError
from kgt_editor.runs.launch.base import TRIES, Needs, Task
from kgt_editor.runs.launch.local import LocalLauncher


class Watched:
    """Keeps what a launcher tells."""

    def __init__(self):
        self.told = []

    def started(self, name):
        self.told.append(("started", name))

    def advanced(self, name, stage, done, total):
        self.told.append(("advanced", name, stage, done, total))

    def noted(self, name, text):
        self.told.append(("noted", name, text))

    def died(self, name, reason):
        self.told.append(("died", name, reason))


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("fake_tasks")


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal"


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def fate(end):
    """How a task ended; errors are compared by their words."""
    return end.value, end.failure and str(end.failure), end.raised, end.tries


def test_a_task_that_cannot_be_sent_is_told_though_it_is_the_only_one(fake, journal):
    task, ended = Task("stuck", fake.Unpicklable("stuck", journal)), []
    thread = threading.Thread(target=lambda: ended.extend(LocalLauncher(2).run([task], Watched())), daemon=True)
    thread.start()
    thread.join(30)
    assert ["cannot be sent to another process" in str(one.failure) for one in ended] == [True]


def test_every_task_ends_once_whatever_befalls_it(fake, journal, tmp_path):
    works = fake.all_fates(journal)
    tasks = [Task(name, work, log=tmp_path / f"{name}.log") for name, work in works.items()]
    watch = Watched()
    ended = {end.name: end for end in LocalLauncher(2).run(tasks, watch)}
    assert fate(ended["good"]) == ("GOOD", None, False, 1)
    assert fate(ended["bad"]) == (None, "RuntimeError: a defect over two lines", True, 1)
    assert fate(ended["unlucky"]) == ("UNLUCKY", None, False, 2)
    killed = f"its process was killed by SIGKILL, as Linux does when memory runs out; log: {tmp_path / 'doomed.log'}"
    assert fate(ended["doomed"]) == (None, f"{killed} ({TRIES} tries)", False, TRIES)
    assert (
        str(ended["stuck"].failure) == "stuck cannot be sent to another process: TypeError: cannot pickle 'Unpicklable'"
    )
    assert len(ended) == len(works)

    assert [told[1] for told in watch.told if told[0] == "died"].count("doomed") == TRIES - 1
    assert {("noted", "good", "good begins"), ("advanced", "good", "noting", 1, 1)} <= set(watch.told)
    assert (tmp_path / "good.log").read_text() == "this is good\n"
    assert "Traceback" in (tmp_path / "bad.log").read_text()
    lines = journal.read_text().splitlines()
    assert {name: lines.count(name) for name in works} == {"good": 1, "bad": 1, "unlucky": 2, "doomed": 3, "stuck": 0}
    # Those that died come again when all others are through.
    assert set(lines[:4]) == {"good", "bad", "unlucky", "doomed"}


def test_as_many_run_at_a_time_as_there_are_jobs(fake, journal):
    tasks = [Task(name, fake.Meets(name, journal)) for name in ("one", "other")]
    assert sorted(end.value for end in LocalLauncher(2).run(tasks, Watched())) == ["one", "other"]


def test_each_place_has_gpus_and_threads_of_its_own(fake, journal, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tasks = [Task(name, fake.Environment(name, journal), Needs(threads=2)) for name in ("one", "other")]
    seen = [end.value for end in LocalLauncher(2, ["0", "1", "GPU-a", "GPU-b"]).run(tasks, Watched())]
    assert sorted(seen) == [("0,1", "2", 2), ("GPU-a,GPU-b", "2", 2)]
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    with pytest.raises(UsageError, match="--jobs 3: there are 2 GPUs"):
        LocalLauncher(3, ["0", "1"])


def test_places_share_gpus_where_that_is_asked_for(fake, journal):
    tasks = [Task(name, fake.Environment(name, journal), Needs(threads=1)) for name in ("one", "two", "three")]
    launcher = LocalLauncher(3, ["0", "1"], sharing=True)
    assert launcher.has_gpus
    assert sorted(end.value[0] for end in launcher.run(tasks, Watched())) == ["0", "0", "1"]


class Stopping(Watched):
    """Presses Ctrl-C when a task gets on."""

    def advanced(self, name, stage, done, total):
        super().advanced(name, stage, done, total)
        if name == "long":
            raise KeyboardInterrupt


def test_an_interruption_ends_every_worker(fake, journal):
    watch = Stopping()
    tasks = [Task(name, fake.Endless(name, journal)) for name in ("long", "longer", "later")]
    with pytest.raises(KeyboardInterrupt):
        list(LocalLauncher(2).run(tasks, watch))
    pids = [told[3] for told in watch.told if told[0] == "advanced"]
    assert pids
    assert not any(map(alive, pids))
    assert [told[1] for told in watch.told if told[0] == "started"] == ["long", "longer"]


SCRIPT = """
import signal
import sys
import threading
from pathlib import Path
sys.path.insert(0, {folder!r})
from fake_tasks import Endless
from kgt_editor.runs.launch.base import Task
from kgt_editor.runs.launch.local import LocalLauncher

class Watch:
    def started(self, name): pass
    def noted(self, name, text): pass
    def died(self, name, reason): pass
    def advanced(self, name, stage, done, total): print(done, flush=True)

if __name__ == "__main__":
    # A shell that starts the tests in the background has them ignore Ctrl-C, which every child inherits.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    list(LocalLauncher(1).run([Task("long", Endless("long", Path({journal!r})))], Watch()))
"""


@pytest.mark.parametrize("end", ["kill", "interrupt"])
def test_no_worker_outlives_its_parent(tmp_path, journal, end):
    script = tmp_path / "launch.py"
    script.write_text(SCRIPT.format(folder=str(Path(__file__).parent), journal=str(journal)))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert alive(worker)
    parent.send_signal(signal.SIGKILL if end == "kill" else signal.SIGINT)
    # The worker holds the other end of this pipe: it is closed when both are gone.
    rest, _ = parent.communicate(timeout=60)
    assert rest == b""
    assert not alive(worker) or Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z"
