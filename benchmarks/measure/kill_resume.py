"""Kills a comparison at random moments and gives the same command again: are the records those of a whole run?

    OMP_NUM_THREADS=1 python benchmarks/measure/kill_resume.py --moments 20 --out results/kill_resume.json

One run is left alone. Then, for every moment, one is killed with SIGKILL when its files hold so many lines, drawn
between none and all, and a random part of the time that a line takes; it is given again, killed once more half of the
times, and at last let through to its end. Everything but times and memory must be the same, bit for bit; that takes a
fixed number of threads.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from kgt_editor.commands import json_report
from kgt_editor.errors import KgtError

ROOT = Path(__file__).resolve().parents[2]
MEASURED_ANEW = {
    "edit_seconds",
    "forward_seconds",
    "inference_memory_bytes",
    "peak_memory_bytes",
    "preparation_seconds",
    "state_bytes",
}
_POLL = 0.002  # seconds


def written(out: Path) -> int:
    """Lines in all files of the run below ``out``: edits, evaluated cases, cells, in part folders and gathered."""
    total = 0
    for folder, _, names in os.walk(out):  # which does not mind a folder that goes meanwhile
        for name in names:
            if name.endswith(".jsonl"):
                with suppress(FileNotFoundError):
                    total += (Path(folder) / name).read_bytes().count(b"\n")
    return total


def kill_when(command: Sequence[str], out: Path, lines: int, delay: float) -> bool:
    """Start a command and kill it ``delay`` seconds after there are ``lines`` lines; no, where it ended before.

    Raises:
        KgtError: it failed by itself.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and written(out) < lines:
            time.sleep(_POLL)
        time.sleep(delay)
        alive = process.poll() is None
    finally:
        process.kill()
    _, output = process.communicate()
    if not alive and process.returncode:
        raise KgtError(f"the run failed by itself: {output.strip().splitlines()[-1:]}")
    return alive


def measured(out: Path) -> dict[str, list[str]]:
    """The lines of the one run below ``out``, less times and memory, in an order of their own."""
    (folder,) = out.iterdir()
    if (folder / "cells").exists():
        raise KgtError(f"{folder}: cells are left under way")
    found = {}
    for name in ("records.jsonl", "cells.jsonl"):
        rows = [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        kept = [{key: value for key, value in row.items() if key not in MEASURED_ANEW} for row in rows]
        found[name] = sorted(json.dumps(row, sort_keys=True) for row in kept)
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run, then the killed ones."""
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:

        def command(out: Path) -> list[str]:
            asked = ["--editors", options.editors, "--model", options.model, "--sizes", options.sizes, "--no-report"]
            asked += ["--checkpoint-every", str(options.checkpoint_every), "--out", str(out)]
            return [sys.executable, str(ROOT / "benchmarks" / "compare.py"), *asked]

        def finish(out: Path) -> dict[str, list[str]]:
            done = subprocess.run(command(out), capture_output=True, text=True, check=False)
            if done.returncode:
                raise KgtError(f"a run failed: {' '.join(done.stderr.split())[-300:]}")
            return measured(out)

        whole = Path(scratch) / "whole"
        start = time.perf_counter()
        wanted = finish(whole)
        seconds = time.perf_counter() - start
        lines = written(whole)
        trials = []
        for number in track(range(options.moments), "killing", console=Console(stderr=True)):
            out = Path(scratch) / f"killed-{number}"
            kills = []
            for _ in range(1 + (chance.random() < 0.5)):
                at, delay = chance.randint(written(out), lines), chance.random() * seconds / lines
                kills.append({"lines": at, "killed": kill_when(command(out), out, at, delay)})
            found = finish(out)
            trials.append({"kills": kills, "same": found == wanted})
            shutil.rmtree(out)
    return {
        "schema_version": 1,
        "editors": options.editors,
        "model": options.model,
        "sizes": options.sizes,
        "checkpoint_every": options.checkpoint_every,
        "seed": options.seed,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "lines_of_a_whole_run": lines,
        "kills": sum(kill["killed"] for trial in trials for kill in trial["kills"]),
        "moments": len(trials),
        "same_records": sum(trial["same"] for trial in trials),
        "trials": trials,
        "asked": {"same_records": len(trials)},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--editors", default="kgt,rome,icl,oppu", help="default %(default)s")
    parser.add_argument("--model", default="testbed-gpt2", help="default %(default)s")
    parser.add_argument("--sizes", default="4,10", help="default %(default)s")
    parser.add_argument("--checkpoint-every", type=int, default=3, help="default %(default)s")
    parser.add_argument("--moments", type=int, default=20, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="file for the JSON, which is printed in any case")
    options = parser.parse_args()
    return json_report(lambda: run(options), options.out)


if __name__ == "__main__":
    sys.exit(main())
