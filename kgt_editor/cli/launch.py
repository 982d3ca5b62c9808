"""The options of ``benchmarks/compare.py`` that say where its cells run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kgt_editor.commands import positive
from kgt_editor.errors import UsageError
from kgt_editor.runs.launch.base import Needs, cpus, own_threads

if TYPE_CHECKING:
    from kgt_editor.runs.workers import Workers

# Beside the weights, twice (the model and what it is brought back to), Python and its libraries.
_PROCESS_BYTES = 2 * 2**30
_MOST_JOBS = 1024


def _jobs(text: str) -> int:
    """An argument's type: how many processes a machine may be asked for."""
    found = positive(text)
    if found > _MOST_JOBS:
        raise argparse.ArgumentTypeError(f"must be {_MOST_JOBS:,} at most")
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds them to a parser."""
    add = parser.add_argument_group("several cells at a time (without these: one after the other)").add_argument
    add("--launcher", choices=("local", "ray"), help="a process a cell on this machine, or a task a cell on Ray")
    add("--jobs", type=_jobs, metavar="N", help="local: cells at a time (default: one a GPU, else 1)")
    add("--share-gpus", action="store_true", help="local: more cells than GPUs; their times are then no figures")
    add("--ray-address", metavar="ADDRESS", help="ray: a running cluster (default: $RAY_ADDRESS, else one of its own)")
    add("--cell-threads", type=positive, metavar="N", help="CPU threads a cell (default: $OMP_NUM_THREADS, or a share)")
    add("--cell-gpus", type=positive, metavar="N", help="ray: GPUs a cell (default: 1 where there are some)")
    add("--cell-memory", type=positive, metavar="GIB", help="ray: main memory a cell (default: by the model's size)")


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: names them.
    """
    if options.launcher is None and options.jobs is not None:
        options.launcher = "local"
    for launcher, names in (("local", ("jobs", "share_gpus")), ("ray", ("ray_address", "cell_gpus", "cell_memory"))):
        for name in names:
            if getattr(options, name) not in (None, False) and options.launcher != launcher:
                raise UsageError(f"--{name.replace('_', '-')} is an option of --launcher {launcher}")
    if options.launcher is None:
        if options.cell_threads is not None:
            raise UsageError("--cell-threads is an option of --launcher; without one, set OMP_NUM_THREADS")
    elif ":" in options.device:
        kind = options.device.partition(":")[0]
        raise UsageError(f"--device {options.device}: the launcher deals out the GPUs; give --device {kind}")


@contextmanager
def workers_of(options: argparse.Namespace) -> Iterator[Workers | None]:
    """Who runs the cells; None for this process.

    Raises:
        UsageError: more jobs than GPUs, no Ray, or no cluster.
    """
    if options.launcher is None:
        yield None
        return
    from kgt_editor.runs.workers import Workers

    if options.launcher == "local":
        from kgt_editor.runs.launch.local import LocalLauncher, visible_gpus

        gpus = [] if options.device == "cpu" else visible_gpus()
        jobs = options.jobs or max(1, 0 if options.device_map else len(gpus))
        threads = options.cell_threads or own_threads() or max(1, cpus() // jobs)
        with LocalLauncher(jobs, gpus, options.share_gpus) as local:
            yield Workers(local, Needs(threads), share_files=True)
        return
    from kgt_editor.lm.loading import weights_bytes
    from kgt_editor.runs.launch.ray import RayLauncher

    memory = options.cell_memory * 2**30 if options.cell_memory else _PROCESS_BYTES
    if not options.cell_memory:
        memory += 2 * weights_bytes(options.model, options.dtype)
    threads = options.cell_threads or own_threads() or 1
    with RayLauncher(options.ray_address) as ray:
        gpus_a_cell = options.cell_gpus or int(ray.has_gpus and options.device != "cpu")
        yield Workers(ray, Needs(threads, gpus_a_cell, memory), share_files=False)
