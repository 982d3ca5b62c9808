"""What an editor of the graph does when feedback contradicts earlier feedback or the base graph.

    python benchmarks/measure/conflicts.py --models testbed-gpt2,testbed-llama --variants "default;paper" --size 1000

Every conflict (see kgt_editor/data/conflicts.py) has users of its own over the base graph ``world``. With
``--conceptnet FILE`` (head, relation, tail, weight) they are about ConceptNet's triples, over a base graph of them.
Writes results/conflicts-<model>-<size>.json after every kind, and goes on from it when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kgt_editor.data.base import KnownFact
from kgt_editor.data.conflicts import KINDS, OTHER_USER, USER, Conflict, conflicts
from kgt_editor.data.personal_conflicts import conceptnet_conflicts
from kgt_editor.data.record import Held
from kgt_editor.editors.settings import find_hparams
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.conceptnet import read_lines, tsv_rows
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.editor import edit_batch
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm.loading import load_model

ROOT = Path(__file__).resolve().parents[2]
USERS_AT_ONCE = 16

# Name -> preset, and what is set besides. ``default`` is hparams/KGT/<model>.yaml.
VARIANTS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "default": (None, {}),
    "paper": ("paper", {}),
    "paper, K=1": ("paper", {"K": 1}),
    "paper, stop=answer": ("paper", {"stop": "answer"}),
    "default, K=5": (None, {"K": 5}),
    "default, no guard": (None, {"retrieval_min": 0.0}),
    "default, marginal": (None, {"inference": "marginal"}),
    "default, generate": (None, {"relation_source": "generate"}),
}


def hparams_of(variant: str, model: str) -> KGTHyperParams:
    """The settings of a variant.

    Raises:
        UsageError: an unknown variant.
    """
    if variant not in VARIANTS:
        raise UsageError(f"unknown variant '{variant}'; known: {', '.join(VARIANTS)}")
    preset, settings = VARIANTS[variant]
    name = "kgt" if preset is None else f"kgt:{preset}"
    hparams, _ = find_hparams(KGTHyperParams, name, model, ROOT / "hparams")
    return hparams.override(settings, f"variant '{variant}'")


def right(model: KGEnhancedLM, asked: Sequence[KnownFact]) -> list[bool]:
    """Whether each answer is the greedy one."""
    return [score.greedy for score in model.score_targets([q.prompt for q in asked], [q.answer for q in asked])]


def play(users: Sequence[dict[str, KGEnhancedLM]], listed: Sequence[Conflict]) -> list[dict[str, Any]]:
    """All steps of some conflicts, each with users of its own, and what holds after each step and after the last."""
    counts = [{"edits": 0, "added": 0, "removed": 0, "last_changed": 0} for _ in listed]
    held: list[list[list[bool]]] = [[] for _ in listed]
    for number in range(max(len(conflict.steps) for conflict in listed)):
        due = [i for i, conflict in enumerate(listed) if number < len(conflict.steps)]
        steps = {i: listed[i].steps[number] for i in due}
        answered = [i for i in due if steps[i].answer is not None]
        for i in set(due) - set(answered):
            users[i][steps[i].user].graph.undo()
        requests = [
            {"prompt": steps[i].query, "subject": listed[i].subject, "target_new": steps[i].answer} for i in answered
        ]
        speaking = [users[i][steps[i].user] for i in answered]
        for i, outcome in zip(answered, edit_batch(speaking, requests), strict=True):
            counts[i]["edits"] += 1
            counts[i]["added"] += len(outcome.edit.added)
            counts[i]["removed"] += len(outcome.edit.removed)
            counts[i]["last_changed"] = len(outcome.edit.added) + len(outcome.edit.removed)
        for i in due:
            held[i].append(holding(users[i], steps[i].holds))
    found = []
    for mine, conflict, count, steps_held in zip(users, listed, counts, held, strict=True):
        model = mine[USER]
        kept = [z for z in model.graph.base.triples_from(conflict.subject) if z.relation not in conflict.contradicted]
        found.append(
            {
                **count,
                "steps_held": steps_held,
                "prompt": right(model, conflict.prompts),
                "paraphrase": right(model, conflict.paraphrases),
                "others": right(model, conflict.others) if conflict.others else [],
                "base_kept": [z in model.graph for z in kept],
                "as_base": not model.graph.added and not model.graph.removed,
            }
        )
    return found


def holding(users: dict[str, KGEnhancedLM], owed: Sequence[Held]) -> list[bool]:
    """Whether each user gets what they are owed."""
    found: list[bool] = []
    for name, model in users.items():
        mine = [KnownFact(item.prompt, item.answer) for item in owed if item.user == name]
        found += right(model, mine) if mine else []
    return found


def summarise(kind: str, found: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Shares over all conflicts of a kind; None where nothing of the sort was asked."""

    def share(name: str) -> float | None:
        values = [value for one in found for value in one[name]]
        return round(statistics.fmean(values), 4) if values else None

    edits = sum(one["edits"] for one in found)
    kept = share("base_kept")
    steps = max(len(one["steps_held"]) for one in found)
    after = [[hit for one in found for hit in (one["steps_held"][i : i + 1] or [[]])[0]] for i in range(steps)]
    row = {
        "conflicts": len(found),
        "held_after_step": [round(statistics.fmean(hits), 4) for hits in after],
        "prompt": share("prompt"),
        "paraphrase": share("paraphrase"),
        "other_facts": share("others"),
        "base_facts_lost": None if kept is None else round(1 - kept, 4),
        "added_per_edit": round(sum(one["added"] for one in found) / edits, 3),
        "removed_per_edit": round(sum(one["removed"] for one in found) / edits, 3),
        "seconds": round(seconds, 1),
    }
    if kind == "restated":
        row["changed_by_restating"] = sum(one["last_changed"] > 0 for one in found)
    if kind == "undone":
        row["not_restored"] = sum(not one["as_base"] for one in found)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="testbed-gpt2,testbed-llama", help="default %(default)s")
    parser.add_argument("--variants", default="default;paper", help=f"of {'; '.join(VARIANTS)} (default %(default)s)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="default %(default)s")
    parser.add_argument("--size", type=int, default=1000, help="conflicts of each kind (default %(default)s)")
    parser.add_argument("--conceptnet", type=Path, metavar="FILE", help="conflicts about these triples instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder (default %(default)s)")
    args = parser.parse_args()
    try:
        for name in args.models.split(","):
            run(name, args)
    except KgtError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def run(name: str, args: argparse.Namespace) -> None:
    """All variants and kinds on one model."""
    variants = [variant.strip() for variant in args.variants.split(";")]
    settings = {variant: hparams_of(variant, name) for variant in variants}
    names = args.kinds.split(",")
    if args.conceptnet is None:
        kinds = {kind: conflicts(kind, args.size, args.seed) for kind in names}
    else:
        kinds = {kind: conceptnet_conflicts(args.conceptnet, kind, args.size, args.seed) for kind in names}
        triples = MemoryGraph(Triple(*row[:3]) for row in tsv_rows(read_lines(args.conceptnet), Counter()))
    lm, tok = load_model(name)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"conflicts-{'' if args.conceptnet is None else 'conceptnet-'}{name}-{args.size}.json"
    report: dict[str, Any] = {"schema_version": 1, "model": name, "size": args.size, "seed": args.seed, "rows": {}}
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        report["rows"] = earlier["rows"] if earlier.get("seed") == args.seed else {}
    with Progress(console=Console(stderr=True)) as bar:
        for variant, hparams in settings.items():
            rows = report["rows"].setdefault(variant, {"hparams": hparams.model_dump(mode="json"), "kinds": {}})
            for kind, listed in kinds.items():
                if kind in rows["kinds"]:
                    continue
                task = bar.add_task(f"{name} {variant}: {kind}", total=len(listed))
                start, found = time.perf_counter(), []
                for first in range(0, len(listed), USERS_AT_ONCE):
                    part = listed[first : first + USERS_AT_ONCE]
                    base = base_graph(hparams.graph) if args.conceptnet is None else triples
                    users = [
                        {user: KGEnhancedLM(lm, tok, PersonalGraph(base), hparams) for user in (USER, OTHER_USER)}
                        for _ in part
                    ]
                    found += play(users, part)
                    bar.update(task, completed=len(found))
                rows["kinds"][kind] = summarise(kind, found, time.perf_counter() - start)
                path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(name, report)
    Console().print(f"Results: {path}")


def show(name: str, report: dict[str, Any]) -> None:
    """Print the table."""
    columns = ("prompt", "paraphrase", "other_facts", "base_facts_lost", "added_per_edit", "removed_per_edit")
    table = Table(title=f"{name}: what holds after the last answer", box=None)
    for column in ("variant", "conflict", *columns, "besides"):
        table.add_column(column.replace("_", " "), justify="left" if column in ("variant", "conflict") else "right")
    for variant, rows in report["rows"].items():
        for kind, row in rows["kinds"].items():
            cells = ["-" if row[column] is None else f"{row[column]:.3f}" for column in columns]
            steps = row.get("held_after_step")  # results of earlier versions have none
            besides = [f"after the worst step {min(steps):.3f}"] if steps else []
            counted = (key for key in ("changed_by_restating", "not_restored") if key in row)
            besides += [f"{row[key]} {key.replace('_', ' ')}" for key in counted]
            table.add_row(variant, kind, *cells, ", ".join(besides))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
