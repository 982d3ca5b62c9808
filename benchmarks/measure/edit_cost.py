"""What one edit costs: KGT against its plain form, a forward pass, and other editors, on one model in one process.

    python benchmarks/measure/edit_cost.py --model shape:gpt2-small --threads 2 --out results/edit_cost.json
    python benchmarks/measure/edit_cost.py --model smollm2-135m --settings shipped --threads 2

Every round takes one record of the world and runs everything on it once, in turn, so that what disturbs the machine
disturbs all of it; medians over the rounds are compared, as ratios. Random weights cost what trained ones do, with one
exception that counts against KGT: a model that knows no relation from another leaves none of them out, so ``rank`` runs
them all (``tokens`` gives the tokens of each pass; a trained testbed runs about a tenth).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from edit_work import WIDE, Bench, say
from rich.console import Console
from rich.progress import track

from kgt_editor.commands import json_report
from kgt_editor.data.record import Record
from kgt_editor.data.world import load_world
from kgt_editor.errors import KgtError
from kgt_editor.runs.environment import environment

ASKED = {
    "kgt_query / forward": 1.3, "kgt_user / forward": 1.3, "kgt_rank / forward": 2.5,
    "rome / kgt": 40.0, "mend / kgt": 1.0, "ke / kgt": 0.6, "one by one / batch": 2.0,
    "first token with a fact / plain first token": 1.6, "first token without facts / plain first token": 1.03,
    "answer with a fact / plain answer": 1.15, "edit memory / inference memory": 1.05,
}  # fmt: skip
BATCH = 32  # users whose edits are timed one by one and together


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All measurements of one model."""
    torch.set_num_threads(args.threads)
    others = [name for name in args.editors.split(",") if name]
    bench = Bench(args.model, args.device, args.dtype, others, args.settings == "printed")
    own = f"kgt_{bench.source}"
    users = sorted({BATCH, *map(int, args.users.split(","))})
    records = load_world().sample(args.edits + args.warm_up + max(users), args.seed)
    rounds, batch = records[: args.edits + args.warm_up], records[-max(users) :]
    seconds, peaks = _rounds(bench, rounds, args)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    say(f"medians of {len(rounds)} rounds: {median}")
    peak = {name: statistics.median(values) for name, values in peaks.items()}
    widths = [bench.tokens(bench.source, record) for record in rounds]
    floor = floors(median["pass of 1 token"], median[f"pass of {WIDE} tokens"], widths)
    turns = range(args.batches + 1)  # the first one warms up
    pairs = [[bench.batch_seconds(batch[:BATCH], together) for together in (False, True)] for _ in turns][1:]
    per_second = {
        size: size / statistics.median([bench.batch_seconds(batch[:size], True) for _ in turns][1:]) for size in users
    }
    together = statistics.median(together for _, together in pairs) / BATCH
    ratios = {
        **{f"{name} / forward": median[name] / median["forward"] for name in median if name.startswith("kgt_")},
        "kgt / query": median[own] / median["query"],
        **{
            f"plain {source} / kgt_{source}": median[f"plain {source}"] / median[f"kgt_{source}"]
            for source in ("rank", "generate")
            if f"plain {source}" in median
        },
        **{f"{name} / kgt": median[name] / median[own] for name in others if name in median},
        "kgt / its floor": median[own] / floor["one edit"],
        "edit of a batch / its floor": together / floor["edit of a batch"],
        "floor of one edit / floor in a batch": floor["one edit"] / floor["edit of a batch"],
        **{
            f"{name} / plain {kind}": median[name] / median[f"plain {kind}"]
            for kind in ("first token", "answer")
            for name in median
            if name.startswith(kind)
        },
        "edit memory / inference memory": peak[own] / peak["forward"],
        "one by one / batch": statistics.median(alone / together for alone, together in pairs),
    }
    return {
        "schema_version": 3,
        "model": args.model,
        "settings": args.settings,
        "relation_source": bench.source,
        "parameters": sum(value.numel() for value in bench.lm.parameters()),
        "dtype": args.dtype,
        **environment(bench.device),
        "edits": args.edits,
        "seed": args.seed,
        "reasoning_tokens": statistics.median(bench.reasoning_ids(record).shape[1] for record in rounds),
        "failed": bench.failed,
        "rounds": {name: len(values) for name, values in seconds.items()},
        "median_seconds": {name: round(value, 6) for name, value in median.items()},
        "median_peak_bytes": peak,
        "tokens": {"passes": [statistics.median(each) for each in zip(*widths, strict=False)]},
        "floor_seconds": {name: round(value, 6) for name, value in floor.items()},
        "edits_per_second_of_users_together": {str(size): round(value, 2) for size, value in per_second.items()},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "asked": {name: value for name, value in ASKED.items() if name in ratios},
    }


def _rounds(
    bench: Bench, records: list[Record], args: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Seconds and peak bytes of everything, one value a round."""
    work = bench.work(args.without.split(","))
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, list[int]] = {}
    spent = dict.fromkeys(work, 0.0)
    until = time.monotonic() + args.most_seconds
    for number, record in enumerate(track(records, args.model, console=Console(stderr=True))):
        if time.monotonic() > until and seconds:
            break
        for name, task in work.items():
            if name in bench.failed or spent[name] > args.seconds or (name in bench.own and number % args.every):
                continue
            try:
                measured = bench.measure(name, task, record)
            except (KgtError, RuntimeError) as error:  # of what it allocates, or of random weights: the others go on
                if name not in bench.editors:
                    raise
                bench.drop(name, error)
                continue
            warm_up = args.warm_up if name not in bench.own else min(args.warm_up, 1)
            if number == 0:
                say(f"{name}: {measured.seconds:.3f} s")
            if number >= warm_up or measured.seconds > args.seconds:  # what takes as long has no need to warm up
                spent[name] += measured.seconds
                seconds.setdefault(name, []).append(measured.seconds)
                peaks.setdefault(name, []).append(measured.peak_bytes)
    return seconds, peaks


def floors(one: float, wide: float, widths: list[list[int]]) -> dict[str, float]:
    """Least seconds of an edit that runs these tokens, in passes of these widths.

    A pass reads every weight, which a pass of one token shows (``one`` seconds); every further token costs what it
    costs in a wide pass (``wide`` seconds), where nothing but arithmetic is left. In a batch of many users the reading
    is shared, so only the arithmetic counts.
    """
    token = (wide - one) / (WIDE - 1)
    total = statistics.median(sum(each) for each in widths)
    passes = statistics.median(len(each) for each in widths)
    return {"a token": token, "one edit": passes * one + (total - passes) * token, "edit of a batch": total * token}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="shape:gpt2-small", help="default %(default)s")
    parser.add_argument("--editors", default="rome,mend,ke,ft", help="timed beside KGT (default %(default)s)")
    parser.add_argument(
        "--settings",
        choices=("printed", "shipped"),
        default="printed",
        help="KGT as the paper prints it, or as it ships for the model (default %(default)s)",
    )
    parser.add_argument("--edits", type=int, default=20, help="timed rounds (default %(default)s)")
    parser.add_argument("--warm-up", type=int, default=2, help="rounds before them (default %(default)s)")
    parser.add_argument(
        "--every", type=int, default=4, help="time the others every so many rounds (default %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=float("inf"),
        help="what has taken as long is not timed further; ``rounds`` says how often each was timed",
    )
    parser.add_argument("--most-seconds", type=float, default=float("inf"), help="no round begins after so long")
    parser.add_argument("--without", default="", metavar="LIST", help="of plain, answers: not timed")
    parser.add_argument(
        "--users", default=str(BATCH), metavar="LIST", help="users edited together (default %(default)s)"
    )
    parser.add_argument("--batches", type=int, default=3, help="batches of 32 users (default %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the JSON, which is printed in any case")
    args = parser.parse_args()
    return json_report(lambda: run(args), args.out)


if __name__ == "__main__":
    sys.exit(main())
