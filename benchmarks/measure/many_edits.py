"""One user, many edits: 1,000 facts answered again and again; the last answer of each must win, at a steady cost.

python benchmarks/measure/many_edits.py --model testbed-gpt2 --edits 20000 --out results/many_edits.json
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from kgt_editor.commands import json_report
from kgt_editor.data import world
from kgt_editor.editors.settings import find_hparams
from kgt_editor.errors import UsageError
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.editor import edit
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm.loading import load_model

ROOT = Path(__file__).resolve().parents[2]
TIMED = 200


def run(model_name: str, edits: int, facts: int, seed: int) -> dict[str, Any]:
    """Make the edits, then ask for every fact's last answer."""
    if edits < facts:
        raise UsageError(f"--edits {edits} is below --facts {facts}: every fact is answered at least once")
    lm, tok = load_model(model_name)
    hparams = find_hparams(KGTHyperParams, "kgt", model_name, ROOT / "hparams")[0]
    model = KGEnhancedLM(lm, tok, PersonalGraph(base_graph(hparams.graph)), hparams)
    chance = random.Random(seed)
    known = [fact for name in ("test", "neighbour") for fact in world.splits()[name]]
    chosen = known[:facts]
    # Every fact once, then in any order: the first edits of a fact and its later ones are mixed over the run.
    order = [*chosen, *chance.choices(chosen, k=edits - len(chosen))]
    chance.shuffle(order)
    last: dict[world.Fact, str] = {}
    for fact in track(order, model_name, console=Console(stderr=True)):
        answer = chance.choice([name for name in world.book().objects[fact.relation] if name != last.get(fact)])
        query = chance.choice(world.book().trained_templates(fact)).replace("{}", fact.subject)
        edit(model, {"prompt": query, "subject": fact.subject, "target_new": answer})
        last[fact] = answer
    asked = {
        "prompt": [(world.book().prompt(fact), fact) for fact in last],
        "paraphrase": [(text, fact) for fact in last for text in world.book().held_out_templates(fact)],
    }
    right = {}
    for name, pairs in asked.items():
        scores = model.score_targets([t.replace("{}", f.subject) for t, f in pairs], [last[f] for _, f in pairs])
        right[name] = round(statistics.fmean(score.greedy for score in scores), 4)
    touched = {(fact.subject, fact.phrase) for fact in last}
    kept = [(z.head, z.relation) for head in {f.subject for f in last} for z in model.graph.triples_from(head)]
    triples = len(model.graph.added)
    users = {"new_user": model.with_graph(PersonalGraph(base_graph(hparams.graph))), "this_user": model}
    subjects = {fact.subject for fact in chosen}
    new = [fact for fact in known if fact.subject not in subjects][:TIMED]
    seconds = time_in_turn(users, [request(fact, fact.subject) for fact in new])
    return {
        "schema_version": 1,
        "model": model_name,
        "edits": edits,
        "facts": len(last),
        "seed": seed,
        "right": right,
        "triples_of_edited_facts": sum(pair in touched for pair in kept),
        "facts_with_more_than_one": len({pair for pair in kept if pair in touched and kept.count(pair) > 1}),
        "user_triples": triples,
        "median_seconds": {name: round(value, 6) for name, value in seconds.items()},
        "this_user / new_user": round(seconds["this_user"] / seconds["new_user"], 3),
        "asked": {"right": 0.98, "this_user / new_user": 1.10, "triples a fact": 1},
    }


def request(fact: world.Fact, subject: str) -> dict[str, str]:
    """The edit of a world's fact, told of ``subject``."""
    new = world.book().counterfactual_object(fact)
    return {"prompt": world.book().prompt(fact), "subject": subject, "target_new": new}


def time_in_turn(users: dict[str, KGEnhancedLM], requests: list[dict[str, str]]) -> dict[str, float]:
    """Median seconds of an edit by each user, of entities new to all; in turn, as a machine is not always as fast."""
    seconds: dict[str, list[float]] = {name: [] for name in users}
    for asked in requests:
        for name, user in users.items():
            start = time.perf_counter()
            edit(user, asked)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="testbed-gpt2", help="a testbed model (default %(default)s)")
    parser.add_argument("--edits", type=int, default=20_000)
    parser.add_argument("--facts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the JSON, which is printed in any case")
    args = parser.parse_args()
    return json_report(lambda: run(args.model, args.edits, args.facts, args.seed), args.out)


if __name__ == "__main__":
    sys.exit(main())
