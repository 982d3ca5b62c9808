"""How much sooner equal cells are done by several processes than by one after the other, in one run.

    python benchmarks/measure/launcher_speed.py --jobs 2 --cells 4 --size 200 --out results/launcher_speed.json

The cells are seeds of one editor; each process has one thread, under both. The same command is given with --jobs 1 and
with --jobs N, in folders of their own, one after the other; every second counts from the command to its end, the start
of every process and the look at the model included. The machine has to be quiet: both runs want every core they get.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kgt_editor.commands import json_report
from kgt_editor.errors import KgtError

ROOT = Path(__file__).resolve().parents[2]


def seconds(options: argparse.Namespace, jobs: int, out: Path) -> float:
    """Wall time of the whole comparison with so many jobs."""
    command = [sys.executable, str(ROOT / "benchmarks" / "compare.py"), "--editors", options.editor, "--no-report"]
    command += ["--model", options.model, "--size", str(options.size), "--seeds", str(options.cells)]
    command += ["--device", "cpu", "--launcher", "local", "--jobs", str(jobs), "--cell-threads", "1"]
    start = time.perf_counter()
    done = subprocess.run([*command, "--out", str(out / f"jobs-{jobs}")], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KgtError(f"compare.py ended with {done.returncode}: {' '.join(done.stderr.split())[-300:]}")
    return time.perf_counter() - start


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both times and their ratio; what editors prepare is prepared by a small run before them."""
    with tempfile.TemporaryDirectory() as folder:
        seconds(argparse.Namespace(**{**vars(options), "size": 1, "cells": 1}), 1, Path(folder) / "before")
        one = seconds(options, 1, Path(folder))
        several = seconds(options, options.jobs, Path(folder))
    return {
        "what": f"{options.cells} cells of {options.size} edits by {options.editor} on {options.model}",
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "jobs": options.jobs,
        "seconds_one_job": round(one, 2),
        "seconds_several_jobs": round(several, 2),
        "times_as_fast": round(one / several, 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time a comparison by one process and by several.")
    parser.add_argument("--editor", default="none", help="whose cells (default: %(default)s, the no-edit row alone)")
    parser.add_argument("--model", default="testbed-gpt2", help="default: %(default)s")
    parser.add_argument("--cells", type=int, default=4, help="seeds (default: %(default)s)")
    parser.add_argument("--size", type=int, default=200, help="edits a cell (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parsed = parser.parse_args()
    sys.exit(json_report(lambda: measure(parsed), parsed.out))
