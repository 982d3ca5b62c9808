"""Rebuild a testbed model from nothing: corpus, tokenizer, training, abilities, manifest.

    python benchmarks/train_testbed.py --arch gpt2 --prompts counterfact.json

Writes config, tokenizer, fp16 weights and manifest.json to kgt_editor/testbed/models/testbed-<arch>/ (or --out), and
what each earlier stage gave to <out>-stage-<n> beside it. An interrupted run goes on from the last finished stage and
the last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kgt_editor.testbed.model import ARCHITECTURES
from kgt_editor.testbed.prompts import read_prompts
from kgt_editor.testbed.train import Recipe, stages, train

MODELS = Path(__file__).resolve().parent.parent / "kgt_editor" / "testbed" / "models"


def worker(
    rank: int, processes: int, recipe: Recipe, out: Path, start_from: Path | None, prompts: Path, port: int
) -> None:
    """One training process of one stage; the first shows progress and writes the model."""
    sentences, digest = read_prompts(prompts) if recipe.prompts_share else (None, None)
    torch.set_num_threads(1)
    if processes > 1:
        store = dist.TCPStore("127.0.0.1", port, processes, rank == 0)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=rank > 0 or not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"testbed-{recipe.arch}", total=recipe.steps)

        def show(done: int, total: int, loss: float) -> None:
            bar.update(task, completed=done, description=f"testbed-{recipe.arch} loss {loss:.3f}")
            if bar.disable and done % 100 == 0:
                sys.stderr.write(f"step {done}/{total} loss {loss:.3f}\n")

        model, tokenizer, seconds = train(recipe, out, rank, processes, show, start_from=start_from, prompts=sentences)
    if processes > 1:
        dist.destroy_process_group()
    if rank == 0:
        from kgt_editor.testbed.ship import ship

        sys.stdout.write(ship(model, tokenizer, recipe, seconds, processes, out, start_from, digest) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, required=True)
    parser.add_argument("--prompts", type=Path, required=True, metavar="FILE", help="CounterFact in ROME's layout")
    parser.add_argument("--out", type=Path, help="folder of the model (default: inside the package)")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1), help="single-thread processes")
    args = parser.parse_args()
    out = args.out or MODELS / f"testbed-{args.arch}"
    os.environ["OMP_NUM_THREADS"] = "1"
    recipes = stages(args.arch)
    start_from = None
    for number, recipe in enumerate(recipes, start=1):
        # Earlier stages stand in folders of their own, so that an interrupted later one finds them again.
        last = number == len(recipes)
        folder = out if last else out.with_name(f"{out.name}-stage-{number}")
        if last or not (folder / "manifest.json").exists():
            run_stage(args.processes, recipe, folder, start_from, args.prompts)
        start_from = folder


def run_stage(processes: int, recipe: Recipe, out: Path, start_from: Path | None, prompts: Path) -> None:
    """Train one stage in ``processes`` processes that meet at a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if processes == 1:
        worker(0, 1, recipe, out, start_from, prompts, port)
    else:
        mp.spawn(worker, args=(processes, recipe, out, start_from, prompts, port), nprocs=processes)


if __name__ == "__main__":
    main()
