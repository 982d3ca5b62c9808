"""How often ``rank`` names the relation of a query right, and the five that it names first.

    python benchmarks/measure/relations.py --model smollm2-135m --data counterfact.json --size 200

Reported records of CounterFact whose relation is one of the 34 with a phrase; the vocabulary is those phrases. The
first records are shown by number with their five relations, for a person to judge: several phrases mean nearly the
same. Writes <out>/relations-<model>.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kgt_editor import commands
from kgt_editor.data.base import load
from kgt_editor.editors.settings import file_stems
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.kgt import naming
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.loading import load_model
from kgt_editor.runs.environment import environment

SHOWN = 50  # records in the file
_FIRST = (1, 3, 5)


def measure(model: Any, tok: Any, records: list[Any]) -> dict[str, Any]:
    """The share of records whose relation is among the first 1, 3 and 5, and the first records with their five."""
    vocabulary = list(WIKIDATA_PHRASES.values())
    queries = [(record.query, record.subject, record.target_new) for record in records]
    found = naming.rank(model, tok, queries, [vocabulary] * len(records), max(_FIRST))
    right = [WIKIDATA_PHRASES[record.relation] for record in records]
    rows = [
        {"case_id": record.case_id, "answer": record.target_new, "relation": relation, "named": names}
        for record, relation, names in zip(records, right, found, strict=True)
    ]
    shares = {
        f"top {k}": sum(relation in names[:k] for relation, names in zip(right, found, strict=True)) / len(records)
        for k in _FIRST
    }
    return {"records": len(records), **shares, "shown": rows[:SHOWN]}


def _work(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", type=Path, help="CounterFact's file")
    parser.add_argument("--size", type=commands.positive, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/real"))
    options = parser.parse_args(arguments)
    data = load("counterfact", options.data)
    order = data.sample(len(data.records), options.seed)
    records = [record for record in order if record.relation in WIKIDATA_PHRASES][: options.size]
    model, tok = load_model(options.model)
    asked = {"model": options.model, "data": data.revision, "size": options.size, "seed": options.seed}
    found = {**asked, **measure(model, tok, records), "environment": environment(device_of(model))}
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"relations-{file_stems(options.model)[0]}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print({key: found[key] for key in found if key.startswith("top")}, path)
    return 0


if __name__ == "__main__":
    sys.exit(commands.run("relations.py", sys.argv[1:], _work))
