"""What a model can still do in general after many edits.

    python benchmarks/measure/abilities.py --model smollm2-135m --editors kgt,rome --size 100 \\
        --dataset counterfact --data counterfact.json --task mmlu=mmlu.jsonl --task sst2=sst2.jsonl --text text.txt

The editor edits ``--size`` records in a sequence; then every task is asked, few-shot, the likeliest option counting as
the answer, and the perplexity of a local text is taken (a passage a line; the second half of each behind its first).
The row ``none`` is the model before any edit; ``kept`` is the share of questions with its answer, and ``scores`` a hash
of every log probability: equal where an edited model gives the very same numbers. Tasks: cola, mrpc, rte, sst2, nli,
mmlu. Questions that are longer than the model can read are left out and counted.

Writes <out>/abilities-<model>-<dataset>-<size>.json after every editor, and goes on from it when it is given the same
again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers.utils import logging

from kgt_editor.data import base as data_base
from kgt_editor.data.ability import TASKS, Task, read_task
from kgt_editor.data.record import Record
from kgt_editor.editors import cache
from kgt_editor.editors.base import create_editor
from kgt_editor.errors import KgtError, UsageError, one_line
from kgt_editor.evaluation.ability import Ability, answer, fitting, perplexity
from kgt_editor.evaluation.base_weights import BaseWeights
from kgt_editor.evaluation.scorer import scorer
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.loading import load_model
from kgt_editor.reporting.names import NO_EDIT
from kgt_editor.runs.console import results_console
from kgt_editor.runs.environment import environment

ROOT = Path(__file__).resolve().parents[2]


def edited(name: str, model: Any, tok: Any, args: argparse.Namespace, data: Any, advance: Any) -> tuple[Any, list[str]]:
    """The model after all edits, and why some of them failed."""
    editor = create_editor(name, args.model, ROOT / "hparams")
    supported, reason = editor.supports(model)
    if not supported:
        raise UsageError(f"editor '{name}' cannot edit '{args.model}': {reason}; leave it out")
    editor.prepare(model, tok, data.training, advance)
    failures = []
    records: list[Record] = data.sample(args.size, args.seed)
    for number, record in enumerate(records):
        torch.manual_seed(number)
        try:
            model, _ = editor.apply(model, tok, [record.request()])
        except KgtError as error:
            failures.append(one_line(error))
        advance("editing", number + 1, len(records))
    return model, failures


def measured(
    model: Any, tok: Any, tasks: list[Task], passages: list[str], advance: Any
) -> tuple[dict[str, Ability], float | None]:
    """Every task, and the perplexity of the text where there is one."""
    score = scorer(model, tok)
    found = {}
    for number, task in enumerate(tasks):
        advance("asking", number, len(tasks))
        found[task.name] = answer(score, task)
    return found, perplexity(score, passages) if passages else None


def run(args: argparse.Namespace) -> None:
    """All editors."""
    tasks = []
    for text in args.task:
        name, equals, path = text.partition("=")
        if not equals:
            raise UsageError(f"--task {text}: must have the form NAME=FILE; names: {', '.join(TASKS)}")
        tasks.append(read_task(name, path, args.limit, args.shots))
    passages = _passages(args.text) if args.text else []
    data = data_base.load(args.dataset, args.data)
    data.sample(args.size, args.seed)  # a wrong size is told before anything is loaded
    logging.disable_progress_bar()
    model, tok = load_model(args.model, args.device)
    drawn, tasks = tasks, [fitting(model, tok, task) for task in tasks]
    for task in tasks:
        if not task.questions:
            raise UsageError(f"{task.name}: no question fits the context of '{args.model}'; give fewer --shots")
    base = BaseWeights(model, tok)
    about = {
        "schema_version": 1,
        "model": args.model,
        "weights": cache.weights_hash(model)[:16],
        "dataset": args.dataset,
        "data_revision": data.revision,
        "size": args.size,
        "seed": args.seed,
        "shots": args.shots,
        "asked": {task.name: len(task.questions) for task in tasks},
        "too_long": {
            task.name: len(all_.questions) - len(task.questions) for all_, task in zip(drawn, tasks, strict=True)
        },
        "passages": len(passages),
    }
    path = args.out / f"abilities-{Path(args.model).name}-{args.dataset}-{args.size}.json"
    report = {**about, "environment": environment(device_of(model)), "rows": {}}
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if all(earlier.get(key) == value for key, value in about.items()):
            report["rows"] = earlier["rows"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True)) as bar:
        shown = bar.add_task("", total=None)

        def advance(what: str, done: int, total: int) -> None:
            bar.update(shown, description=f"{name}: {what}", completed=done, total=total)

        name = NO_EDIT
        before, plain = measured(model, tok, tasks, passages, advance)
        for name in dict.fromkeys([NO_EDIT, *args.editors.split(",")]):
            if name in report["rows"]:
                continue
            found, text, failures = before, plain, []
            if name != NO_EDIT:
                after, failures = edited(name, model, tok, args, data, advance)
                found, text = measured(after, tok, tasks, passages, advance)
                base.restore(model)
            report["rows"][name] = {
                "tasks": {task: one.as_dict(None if name == NO_EDIT else before[task]) for task, one in found.items()},
                "perplexity": text and round(text, 4),
                "failed_edits": len(failures),
                "first_failure": failures[0] if failures else None,
            }
            path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)
    Console().print(f"Results: {path}")


def _passages(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--text {path} cannot be read as UTF-8 text: {error}") from None


def show(report: dict[str, Any]) -> None:
    """Print the table: accuracy, and in brackets the share of answers kept."""
    table = Table(title=f"{report['model']} after {report['size']} edits of {report['dataset']}", box=None)
    for column in ("editor", *report["asked"], "perplexity", "failed edits"):
        table.add_column(column, justify="left" if column == "editor" else "right")
    for name, row in report["rows"].items():
        cells = []
        for task in report["asked"]:
            one = row["tasks"][task]
            cells.append(f"{one['accuracy']:.3f}" + (f" ({one['kept']:.3f})" if "kept" in one else ""))
        text = "-" if row["perplexity"] is None else f"{row['perplexity']:.2f}"
        table.add_row(name, *cells, text, str(row["failed_edits"]))
    results_console().print(table)
    for task, count in report["too_long"].items():
        if count:
            results_console().print(f"{task}: {count} questions are longer than the model can read, and were left out")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="testbed-gpt2", help="default %(default)s")
    add("--editors", default="kgt,rome", help="comma-separated (default %(default)s)")
    add("--dataset", default="world", help="default %(default)s")
    add("--data", type=Path, metavar="FILE", help="file of a data set that is read from one")
    add("--size", type=int, default=100, help="edits (default %(default)s)")
    add("--seed", type=int, default=0, help="of the records (default %(default)s)")
    add("--task", action="append", default=[], metavar="NAME=FILE", help=f"of {', '.join(TASKS)}; repeatable")
    add("--text", type=Path, metavar="FILE", help="a passage a line, for the perplexity")
    add("--limit", type=int, default=200, help="questions a task (default %(default)s)")
    add("--shots", type=int, default=4, help="examples in front of a question (default %(default)s)")
    add("--device", default="auto")
    add("--out", type=Path, default=Path("results/abilities"), help="folder (default %(default)s)")
    args = parser.parse_args()
    try:
        if not args.task:
            raise UsageError("nothing to ask: give --task NAME=FILE")
        run(args)
    except KgtError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
