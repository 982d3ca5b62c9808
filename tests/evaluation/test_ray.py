"""Tasks on a real cluster of two node processes of this machine; slow, and only where Ray is installed."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from kgt_editor.cli.compare import main
from kgt_editor.errors import UsageError
from kgt_editor.runs.launch.base import TRIES, Needs, Task
from kgt_editor.runs.launch.ray import RayLauncher

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
STORE = 100 * 2**20  # bytes of a node's object store


class Watched:
    """Keeps who died; ``on_death`` is called at each."""

    def __init__(self, on_death=lambda: None):
        self.deaths, self.on_death = [], on_death

    def started(self, name):
        pass

    def died(self, name, reason):
        self.deaths.append((name, reason))
        self.on_death()


def wait_for(look, seconds=60):
    """What ``look`` gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return found


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "launch"))
    folders = [str(ROOT / "tests" / name) for name in ("launch", "evaluation")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    return importlib.import_module("fake_tasks")


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def cluster(monkeypatch, fake):
    """A head with two CPUs and a function that adds a node."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on the loopback address
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE}
    )
    yield made
    made.shutdown()


def fate(end):
    """How a task ended; errors are compared by their words."""
    return end.value, end.failure and str(end.failure), end.raised, end.tries


def test_every_task_ends_once_whatever_befalls_it(cluster, fake, journal, tmp_path):
    works = fake.all_fates(journal)
    tasks = [Task(name, work, log=tmp_path / f"{name}.log") for name, work in works.items()]
    watch = Watched()
    with RayLauncher(cluster.address) as launcher:
        assert not launcher.has_gpus
        ended = {end.name: end for end in launcher.run(tasks, watch)}
    assert fate(ended["good"]) == ("GOOD", None, False, 1)
    assert fate(ended["bad"]) == (None, "RuntimeError: a defect over two lines", True, 1)
    assert fate(ended["unlucky"]) == ("UNLUCKY", None, False, 2)
    assert fate(ended["doomed"]) == (None, f"its worker died or its node was lost ({TRIES} tries)", False, TRIES)
    assert (
        str(ended["stuck"].failure) == "stuck cannot be sent to another process: TypeError: cannot pickle 'Unpicklable'"
    )
    assert len(ended) == len(works)
    assert (tmp_path / "good.log").read_text() == "this is good\n"
    assert "Traceback" in (tmp_path / "bad.log").read_text()


def test_what_no_node_has_is_said_at_once(cluster, fake, journal):
    needs = Needs(threads=1, gpus=3, memory_bytes=2**50)
    with (
        RayLauncher(cluster.address) as launcher,
        pytest.raises(UsageError, match=r"what greedy needs: 1 CPUs, 3 GPUs, 1048576\.0 GiB of memory"),
    ):
        list(launcher.run([Task("greedy", fake.Noted("greedy", journal), needs)], Watched()))
    assert not journal.exists()


def raylets_at_work(journal):
    """The raylets under which tasks have begun, and these tasks, as soon as there are two."""
    found: dict[int, list[str]] = {}
    for line in journal.read_text().splitlines() if journal.exists() else []:
        name, raylet = line.split()
        found.setdefault(int(raylet), []).append(name)
    return found if len(found) == 2 else None


@pytest.mark.parametrize("with_workers", [False, True])
def test_tasks_of_a_node_that_is_killed_end_all_the_same(cluster, fake, journal, tmp_path, with_workers):
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    (raylet,) = (info.process.pid for info in node.all_processes["raylet"])
    gate, names, caught = tmp_path / "gate", ["one", "two", "three", "four"], []

    def kill_it():
        try:
            caught.extend(wait_for(lambda: raylets_at_work(journal))[raylet])
            doomed = [psutil.Process(raylet)]
            doomed += doomed[0].children(recursive=True) if with_workers else []
            for process in doomed:
                process.kill()
        finally:
            gate.touch()

    killer, watch = threading.Thread(target=kill_it), Watched()
    killer.start()
    tasks = [Task(name, fake.Held(name, journal, gate)) for name in names]
    with RayLauncher(cluster.address) as launcher:
        ended = list(launcher.run(tasks, watch))
    killer.join()
    assert sorted((end.name, end.value, end.failure) for end in ended) == sorted((name, name, None) for name in names)
    assert len(caught) == 1
    # A worker without its raylet may still hand in what it was at.
    again = {name for name, _ in watch.deaths}
    assert again == set(caught) if with_workers else again <= set(caught)
    assert {end.name: end.tries for end in ended} == {name: 2 if name in again else 1 for name in names}


SCRIPT = """
import os, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from fake_tasks import Held
from kgt_editor.cli.compare import main
from kgt_editor.runs.launch.base import Task
from kgt_editor.runs.launch.ray import RayLauncher

class Watch:
    def started(self, name): pass
    def died(self, name, reason): pass

if __name__ == "__main__":
    with RayLauncher() as launcher:
        list(launcher.run([Task("long", Held("long", Path({journal!r})))], Watch()))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_cluster_of_its_own_listens_on_the_loopback_address_alone_and_ends_with_the_run(
    fake, journal, tmp_path, monkeypatch, end
):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    script = tmp_path / "launch.py"
    script.write_text(SCRIPT.format(folder=str(ROOT / "tests" / "launch"), journal=str(journal)))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(journal.exists)
        family = [psutil.Process(parent.pid), *psutil.Process(parent.pid).children(recursive=True)]
        names = " ".join(" ".join(process.cmdline()) for process in family)
        assert "raylet" in names
        assert "--disable-frontend" in names  # Ray's process of that name runs without its page
        open_ = [c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert open_
        assert {address.removeprefix("::ffff:") for address in open_} == {"127.0.0.1"}
    finally:
        parent.send_signal(end)
        parent.wait()
    _, left = psutil.wait_procs(family, timeout=180)  # Ray's agents look for their raylet once a minute
    assert left == []


def test_a_comparison_loses_nothing_with_a_node_and_goes_on_where_it_was(
    cluster, fake_editors, saved_model, counterfact_file, one_thread, tmp_path, capsys
):
    """All cells are complete, none is there twice, and they are those that one process measures."""
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    (raylet,) = (info.process.pid for info in node.all_processes["raylet"])
    journal = tmp_path / "journal"

    def compare(out, *options):
        command = ["--editors", "fake,memory", "--model", str(saved_model), "--dataset", "counterfact", "--no-report"]
        command += ["--data", str(counterfact_file), "--size", "6", "--seeds", "2", "--out", str(tmp_path / out)]
        command += ["--set", f"fake.journal={journal}", "--set", "fake.delay=1", "--device", "cpu"]
        code = main([*command, *options], ROOT / "hparams")
        (folder,) = (tmp_path / out).iterdir()
        return code, folder, capsys.readouterr().err

    def kill_it():
        """As soon as a cell is at work on that node: the process has its name, and the raylet as its parent."""
        wait_for(lambda: any(", seed " in " ".join(process.cmdline()) for process in children()), 120)
        for process in [psutil.Process(raylet), *children()]:
            process.kill()

    def children():
        return psutil.Process(raylet).children(recursive=True)

    killer = threading.Thread(target=kill_it)
    killer.start()
    ray_options = ("--launcher", "ray", "--ray-address", cluster.address)
    code, folder, err = compare("ray", *ray_options)
    killer.join()
    assert code == 0, err
    assert "tried again: its " in err
    cells = [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
    keys = [(cell["editor"], cell["seed"], cell["status"]) for cell in cells]
    assert sorted(keys) == [(name, seed, "complete") for name in ("fake", "memory", "none") for seed in (0, 1)]
    assert json.loads((folder / "manifest.json").read_text())["status"] == "complete"

    journal.unlink()
    code, same, _ = compare("ray", *ray_options)
    assert (code, same) == (0, folder)
    assert not journal.exists()  # nothing was edited again
    code, here, err = compare("here")
    assert code == 0, err
    assert records(folder) == records(here)


def records(folder):
    """What was measured, times apart, in one order."""
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: (row["editor"], row["seed"], row["position"]))
    return [{name: value for name, value in row.items() if name != "edit_seconds"} for row in rows]
