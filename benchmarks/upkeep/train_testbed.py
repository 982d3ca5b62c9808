"""Rebuild a testbed model from nothing: corpus, tokenizer, training, abilities, manifest.

    python benchmarks/upkeep/train_testbed.py --arch gpt2 --prompts counterfact.json  # as it is shipped
    python benchmarks/upkeep/train_testbed.py --arch gpt2  # without CounterFact's wordings
    python benchmarks/upkeep/train_testbed.py --size large --prompts counterfact.json --facts pararel_facts.jsonl

Writes config, tokenizer, fp16 weights and manifest.json to kgt_editor/testbed/models/testbed-<arch> (or testbed-large,
or --out), and what each earlier stage gave to <out>-stage-<n> beside it. An interrupted run goes on from the last
finished stage and the last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kgt_editor.data import world
from kgt_editor.data.counterfact import read_records
from kgt_editor.data.extension import read_facts
from kgt_editor.data.factbook import FactBook
from kgt_editor.testbed.abilities import REQUIRED, REQUIRED_LARGE
from kgt_editor.testbed.books import counterfact_book, counterfact_instructed, world_instructed
from kgt_editor.testbed.model import ARCHITECTURES
from kgt_editor.testbed.prompts import read_prompts
from kgt_editor.testbed.recipes import Recipe, stages
from kgt_editor.testbed.ship import ship
from kgt_editor.testbed.train import train

MODELS = Path(__file__).resolve().parents[2] / "kgt_editor" / "testbed" / "models"
SAMPLE = 2000  # facts, at most, that the abilities are measured on


@dataclass(frozen=True)
class Stage:
    """One stage of one training.

    Attributes:
        recipe: how to train.
        out: where the model goes.
        start_from: what the stage before left.
        size: ``small`` teaches the world, ``large`` all facts of the files.
        prompts, facts: the files.
    """

    recipe: Recipe
    out: Path
    start_from: Path | None
    size: str
    prompts: Path | None
    facts: Path | None

    def book(self) -> FactBook:
        """What is taught."""
        if self.size == "small":
            return world.book()
        assert self.prompts
        return counterfact_book(read_records(self.prompts), read_facts(self.facts) if self.facts else ())

    def instructed(self, book: FactBook) -> frozenset[str]:
        """The subjects that instruction examples may name."""
        return world_instructed() if self.size == "small" else counterfact_instructed(book)


def worker(rank: int, processes: int, stage: Stage, port: int) -> None:
    """One training process of one stage; the first shows progress and writes the model."""
    torch.set_num_threads(1)
    if processes > 1:
        store = dist.TCPStore("127.0.0.1", port, processes, rank == 0)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    recipe, book = stage.recipe, stage.book()
    instructed = stage.instructed(book)
    prompts, digest = read_prompts(stage.prompts) if stage.prompts and recipe.prompts_share else (None, None)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=rank > 0 or not sys.stderr.isatty()) as bar:
        task = bar.add_task(stage.out.name, total=recipe.last_step)

        def show(done: int, total: int, loss: float) -> None:
            bar.update(task, completed=done, description=f"{stage.out.name} loss {loss:.3f}")
            if bar.disable and done % 100 == 0:
                sys.stderr.write(f"step {done}/{total} loss {loss:.3f}\n")

        model, tokenizer, seconds = train(
            book, recipe, stage.out, rank, processes, show,
            start_from=stage.start_from, prompts=prompts, instructed=instructed,
        )  # fmt: skip
    if processes > 1:
        dist.destroy_process_group()
    if rank == 0:
        line = ship(
            model, tokenizer, book, recipe, seconds, processes, stage.out,
            instructed=instructed, start_from=stage.start_from, prompts_sha256=digest, sample=SAMPLE,
            required=REQUIRED_LARGE if stage.size == "large" else REQUIRED,
        )  # fmt: skip
        sys.stdout.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--arch", choices=ARCHITECTURES, default="gpt2", help="default: %(default)s")
    add("--size", choices=("small", "large"), default="small", help="the world's facts, or all (default: %(default)s)")
    add("--prompts", type=Path, metavar="FILE", help="CounterFact in ROME's layout; --size large needs it")
    add("--facts", type=Path, metavar="FILE", help="more facts for --size large: PARAREL's")
    add("--out", type=Path, help="folder of the model (default: inside the package)")
    add("--processes", type=int, default=min(4, os.cpu_count() or 1), help="single-thread processes")
    args = parser.parse_args()
    if args.size == "large" and not args.prompts:
        parser.error("--size large teaches CounterFact's facts: name the file with --prompts")
    out = args.out or MODELS / f"testbed-{'large' if args.size == 'large' else args.arch}"
    os.environ["OMP_NUM_THREADS"] = "1"
    recipes = stages(args.arch, args.size, reading=args.prompts is not None)
    start_from = None
    for number, recipe in enumerate(recipes, start=1):
        # Earlier stages stand in folders of their own, so that an interrupted later one finds them again.
        last = number == len(recipes)
        folder = out if last else out.with_name(f"{out.name}-stage-{number}")
        if last or not (folder / "manifest.json").exists():
            run_stage(args.processes, Stage(recipe, folder, start_from, args.size, args.prompts, args.facts))
        start_from = folder


def run_stage(processes: int, stage: Stage) -> None:
    """Train one stage in ``processes`` processes that meet at a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if processes == 1:
        worker(0, 1, stage, port)
    else:
        mp.spawn(worker, args=(processes, stage, port), nprocs=processes)


if __name__ == "__main__":
    main()
