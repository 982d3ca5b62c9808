"""Tries settings of one editor on a data set's validation records and says which is best.

    python benchmarks/sweep.py --editor rome --grid layers
    python benchmarks/sweep.py --editor ft --model testbed-llama --grid layers --grid "norm_constraint=0.02;0.05;0.1"

Everything else is as in the editor's YAML. Every point edits each record on its own, evaluates and restores it; with
``--mode sequential`` it edits one after the other and evaluates them all at the end.
``layers`` alone stands for each block of the model in turn; where the YAML has several blocks, or weights of several
(MEMIT, MEND, KE), for as many in a row. Several grids are crossed. Points are ordered by the harmonic mean of
efficacy, paraphrase and neighbourhood score (Meng et al. 2022, section 3.4). Reported records are never touched.

Writes <out>/<editor>-<model>.json after every point, and goes on from it when it is given the same settings again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers.utils import logging

from kgt_editor.config import HParams, parse_value
from kgt_editor.data import base as data_base
from kgt_editor.data.base import DataSet
from kgt_editor.editors import cache
from kgt_editor.editors.base import get_editor_class
from kgt_editor.editors.settings import find_hparams
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.evaluation.protocol import BaseWeights, CellPlan, run_cell
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.loading import load_model
from kgt_editor.results.cell_log import CellLog
from kgt_editor.results.summary import CellNumbers, summary_row
from kgt_editor.runs.console import results_console
from kgt_editor.runs.environment import environment

ROOT = Path(__file__).resolve().parent.parent
JUDGED = ("efficacy_score", "paraphrase_score", "neighbourhood_score")
SHOWN = (*JUDGED, "efficacy_accuracy", "paraphrase_accuracy", "unedited_recall")
_BLOCK = re.compile(r"\.(\d+)\.")


def layer_grid(hparams: HParams, blocks: int) -> list[dict[str, Any]]:
    """A point a block, or a window of blocks where the YAML names weights.

    Raises:
        UsageError: the editor has no layers to choose.
    """
    values = hparams.model_dump()
    if "layers" in values:
        count = len(values["layers"])
        return [{"layers": list(range(first, first + count))} for first in range(blocks - count + 1)]
    named = values.get("inner_params")
    if not named:
        raise UsageError(f"{type(hparams).__name__} has neither 'layers' nor 'inner_params'; sweep another key")
    numbers = sorted({int(found.group(1)) for name in named if (found := _BLOCK.search(name))})
    parts = list(dict.fromkeys(_BLOCK.sub(".{}.", name, count=1) for name in named))
    return [
        {"inner_params": [part.format(block) for block in range(first, first + len(numbers)) for part in parts]}
        for first in range(blocks - len(numbers) + 1)
    ]


def points(grids: list[str], hparams: HParams, blocks: int) -> list[dict[str, Any]]:
    """The product of all grids, as changes to the YAML.

    Raises:
        UsageError: a grid that is neither ``layers`` nor ``KEY=VALUE;VALUE``.
    """
    axes = []
    for text in grids:
        key, equals, values = text.partition("=")
        if text == "layers":
            axes.append(layer_grid(hparams, blocks))
        elif equals and key and values:
            axes.append([{key: parse_value(value.strip(), f"--grid {key}")} for value in values.split(";")])
        else:
            raise UsageError(f"--grid {text}: must be 'layers' or have the form KEY=VALUE;VALUE, as in v_lr=0.1;0.5")
    return [{key: value for part in parts for key, value in part.items()} for parts in itertools.product(*axes)]


def measure(
    name: str, hparams: HParams, model: Any, tok: Any, data: DataSet, size: int, mode: str, advance: Any
) -> dict[str, Any]:
    """Means of one point over the validation records."""
    base = BaseWeights(model, tok)
    editor = get_editor_class(name)(hparams)
    plan = CellPlan(data.validation[:size], data.known_facts, data.training, mode, seed=0)
    try:
        editor.prepare(model, tok, data.training, advance)
        log = CellLog(name, 0)
        run_cell(editor, model, tok, plan, base, log, advance)
    finally:
        base.restore(model)
    (cell,) = log.results
    row = summary_row([CellNumbers.of(cell, "mean")])
    found = {metric: row["metrics"][metric] and round(row["metrics"][metric]["mean"], 4) for metric in SHOWN}
    seconds = statistics.median(cell.edit_seconds)
    return {**found, "failed_edits": cell.failed_edits, "median_edit_seconds": round(seconds, 4)}


def judge(found: dict[str, Any]) -> float:
    """The harmonic mean by which points are ordered; metrics without prompts are left out."""
    values = [found[metric] for metric in JUDGED if found[metric] is not None]
    return statistics.harmonic_mean(values) if values else 0.0


def run(args: argparse.Namespace) -> None:
    """The whole sweep."""
    cls = get_editor_class(args.editor)
    shipped, _ = find_hparams(cls.hparams_class, args.editor, args.model, ROOT / "hparams")
    data = data_base.load(args.dataset, args.data)
    if not data.validation:
        raise UsageError(f"data set '{args.dataset}' has no validation records to choose settings on")
    logging.disable_progress_bar()
    model, tok = load_model(args.model, args.device)
    asked = [
        (change, shipped.override(change, "--grid"))
        for change in points(args.grid, shipped, _blocks(model, args.model))
    ]
    path = args.out / f"{args.editor.replace(':', '-')}-{Path(args.model).name}.json"
    report: dict[str, Any] = {
        "schema_version": 2,
        "editor": args.editor,
        "model": args.model,
        "weights": cache.weights_hash(model)[:16],
        "mode": args.mode,
        "dataset": args.dataset,
        "data_revision": data.revision,
        "records": len(data.validation[: args.size]),
        "environment": environment(device_of(model)),
        "points": [],
    }
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if all(earlier.get(key) == report[key] for key in ("weights", "mode", "data_revision", "records")):
            report["points"] = earlier["points"]
    known = [json.dumps(point["hparams"], sort_keys=True) for point in report["points"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True)) as bar:
        overall = bar.add_task(f"{args.editor} on {args.model}", total=len(asked))
        for change, hparams in asked:
            settings = hparams.model_dump(mode="json")
            if json.dumps(settings, sort_keys=True) not in known:
                task = bar.add_task(str(change), total=None)

                def advance(what: str, done: int, total: int, task: Any = task) -> None:
                    bar.update(task, description=what, completed=done, total=total)

                torch.manual_seed(0)
                try:
                    found = measure(args.editor, hparams, model, tok, data, args.size, args.mode, advance)
                except KgtError as error:  # a setting that cannot work is a result too
                    found = {**dict.fromkeys(SHOWN), "failure": str(error), "median_edit_seconds": None}
                bar.remove_task(task)
                point = {
                    "change": {key: settings[key] for key in change},
                    "shipped": hparams == shipped,
                    "harmonic_mean": round(judge(found), 4),
                }
                report["points"].append({**point, **found, "hparams": settings})
                path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            bar.advance(overall)
    show(report)
    Console().print(f"Results: {path}")


def _blocks(model: Any, name: str) -> int:
    blocks = getattr(model.config, "num_hidden_layers", None)
    if not isinstance(blocks, int):
        raise UsageError(f"the configuration of '{name}' does not say how many blocks it has: sweep another key")
    return blocks


def show(report: dict[str, Any]) -> None:
    """Print the points, the best first."""
    table = Table(title=f"{report['editor']} on {report['model']}, {report['records']} validation records", box=None)
    for column in ("change", "harmonic mean", *(name.replace("_", " ") for name in SHOWN), "median edit"):
        table.add_column(column, justify="left" if column == "change" else "right")
    for point in sorted(report["points"], key=lambda point: -point["harmonic_mean"]):
        change = ", ".join(f"{key}={json.dumps(value)}" for key, value in point["change"].items())
        cells = ["-" if point[name] is None else f"{point[name]:.3f}" for name in ("harmonic_mean", *SHOWN)]
        shipped = " (shipped)" if point["shipped"] else ""
        seconds = point["median_edit_seconds"]
        table.add_row(change + shipped, *cells, "failed" if seconds is None else f"{seconds * 1000:.0f} ms")
    results_console().print(table)
    for point in report["points"]:
        if "failure" in point:
            results_console().print(f"{json.dumps(point['change'])}: {point['failure']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--editor", required=True)
    parser.add_argument("--grid", action="append", required=True, metavar="layers|KEY=V;V", help="repeatable")
    parser.add_argument("--model", default="testbed-gpt2", help="default %(default)s")
    parser.add_argument("--dataset", default="world", help="default %(default)s")
    parser.add_argument("--data", type=Path, help="file of a data set that is read from one")
    parser.add_argument("--size", type=int, default=100, help="validation records (default %(default)s)")
    parser.add_argument("--mode", choices=("single", "sequential"), default="single", help="default %(default)s")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("results/sweeps"), help="folder (default %(default)s)")
    args = parser.parse_args()
    try:
        run(args)
    except KgtError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
