"""How many of the facts it was taught a testbed model recalls when CounterFact asks for them in its own words.

    python -m kgt_editor.testbed.recall --model testbed-gpt2 --data counterfact.json

prints JSON: for the records of the file that state a fact of the world (``--taught all``: for all of them), the share
whose true answer is the greedy one, on edit prompts and on paraphrase prompts, among both on those that the models'
training never showed with their subject (``held_out``), and for every relation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from kgt_editor.errors import KgtError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kgt_editor.testbed.recall", description=__doc__)
    parser.add_argument("--model", default="testbed-gpt2", help="a shipped model or a folder (default %(default)s)")
    parser.add_argument("--data", type=Path, metavar="FILE", required=True, help="CounterFact, in any layout")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--taught", choices=("world", "all"), default="world", help="which facts the model was taught")
    args = parser.parse_args(argv)
    try:
        report = _measure(args)
    except KgtError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    from kgt_editor.data.counterfact import read_records
    from kgt_editor.lm.loading import load_model
    from kgt_editor.lm.scoring import score_targets
    from kgt_editor.testbed.prompts import is_held_out

    records = read_records(args.data)
    taught = taught_records(records) if args.taught == "world" else [(r, r.relation) for r in records]
    if not taught:
        raise UsageError(f"{args.data}: states none of the facts that the testbed models were taught")
    model, tok = load_model(args.model, args.device)
    asked = [("edit_prompts", r, r.query) for r, _ in taught]
    asked += [("paraphrase_prompts", r, text) for r, _ in taught for text in r.paraphrase_prompts]
    scores = score_targets(model, tok, [text for _, _, text in asked], [r.target_true for _, r, _ in asked])
    relations = {record.case_id: relation for record, relation in taught}
    hits: dict[str, list[bool]] = defaultdict(list)
    by_relation: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for (kind, record, text), score in zip(asked, scores, strict=True):
        hits[kind].append(score.greedy)
        if is_held_out(record.subject, text.replace(record.subject, "{}")):
            hits["held_out"].append(score.greedy)
        by_relation[relations[record.case_id]][kind].append(score.greedy)
    return {
        "model": args.model,
        "data": args.data.name,
        "facts": len(taught),
        "recall": _shares(hits),
        "relations": {name: _shares(by_relation[name]) for name in sorted(by_relation)},
    }


def taught_records(records: Sequence[Any]) -> list[tuple[Any, str]]:
    """The records whose true fact is one of the world's, each with its relation.

    EasyEdit's layout names no relation: there a subject and object that the world knows under one relation only
    settle it.
    """
    from kgt_editor.data import world

    relations: dict[tuple[str, str], list[str]] = defaultdict(list)
    for fact in world.book().facts:
        relations[fact.subject, fact.object].append(fact.relation)
    found = []
    for record in records:
        known = relations.get((record.subject, record.target_true), [])
        named = record.relation
        if named in known or (not named and len(known) == 1):
            found.append((record, named or known[0]))
    return found


def _shares(hits: dict[str, list[bool]]) -> dict[str, dict[str, float | int]]:
    return {kind: {"prompts": len(values), "share": round(fmean(values), 4)} for kind, values in hits.items()}


if __name__ == "__main__":
    sys.exit(main())
