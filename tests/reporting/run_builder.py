"""Run folders as compare.py writes them, with numbers drawn at random, for the report's tests and its measuring."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

NEIGHBOURS = 10  # prompts a record, as in CounterFact
_RELATIONS = ("P103", "P19", "P136", "P495", "P37")
_PARTS = ("Ada", "Brun", "Milo", "Castrel", "Ines", "Dorwald", "Otto", "Fenlow", "Runa", "Gildt", "Piet", "Hollin")


def write_run(
    folder: Path,
    editors: tuple[str, ...] = ("none", "kgt", "rome"),
    size: int = 20,
    seeds: int = 2,
    subject: str | None = None,
    editor_quality: dict[str, float] | None = None,
    sizes: tuple[int, ...] = (),
    kept: bool = False,
    **config: Any,
) -> Path:
    """Write manifest, records, cells and summary of one complete run; ``config`` overrides what was asked.

    With ``sizes`` as version 2 of the files has it, else as version 1; with ``kept`` as version 3, with the answers
    that stayed and what became of KGT's edits.
    """
    folder.mkdir(parents=True)
    asked = {
        "editors": list(editors),
        "model": "testbed-gpt2",
        "dataset": "world",
        **({"sizes": list(sizes)} if sizes else {"size": size}),
        "seeds": seeds,
        "mode": "sequential",
        "normalise": "mean",
        "dtype": "float32",
        "limit": None,
        "data_revision": "abc",
        "hparams": {name: {"alg_name": name.upper()} for name in editors},
    } | config
    for name in editors:
        if name.startswith("kgt"):
            asked["hparams"][name]["relation_source"] = "user" if name == "kgt:user" else "rank"
    manifest = {
        "schema_version": 3 if kept else 2 if sizes else 1,
        "run": folder.name,
        "command": ["compare.py"],
        "config": asked,
        "environment": {
            "versions": {"torch": "2.13.0"},
            "device": "cpu",
            "device_name": "abacus",
            "threads": 1,
            "git": {"commit": "0123456789abcdef", "dirty": False},
        },
        "started": "2026-01-01T00:00:00Z",
        "ended": "2026-01-01T01:00:00Z",
        "status": "complete",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rng = random.Random(folder.name)
    rows = []
    quality = {"none": 0.02, "kgt": 0.97} | (editor_quality or {})
    with (folder / "records.jsonl").open("w") as records, (folder / "cells.jsonl").open("w") as cells:
        for name in editors:
            good = quality.get(name, 0.6)
            for seed, edits in itertools.product(range(seeds), sizes or (size,)):
                told = {"size": edits} if sizes else {}
                for position in range(edits):
                    record = _record(rng, name, seed, position, good, subject) | told
                    if kept:
                        _judge(rng, record)
                    records.write(json.dumps(record) + "\n")
                recalled = [rng.random() < 0.9 for _ in range(30)]
                cell = {"editor": name, "seed": seed, "status": "complete", "reason": None, "cases": edits}
                cell |= {"failed_edits": 0, "recalled": recalled, "peak_memory_bytes": rng.randrange(2**28, 2**29)}
                cells.write(json.dumps(cell | {"preparation_seconds": 0.5} | told) + "\n")
            for edits in sizes or (size,):
                costs = {"forward_seconds": 0.004, "inference_memory_bytes": 2**28}
                rows.append({"editor": name, "size": edits, **costs, "seeds": []})
    (folder / "summary.json").write_text(json.dumps({"schema_version": 1, "rows": rows, "failed": [], "missing": []}))
    return folder


def _record(
    rng: random.Random, editor: str, seed: int, position: int, good: float, subject: str | None
) -> dict[str, Any]:
    person = subject or f"{rng.choice(_PARTS)} {rng.choice(_PARTS)} {position // 2}"
    request = {
        "query": f"The mother tongue of {person} is",
        "subject": person,
        "relation_id": _RELATIONS[position % len(_RELATIONS)],
        "target_new": rng.choice(("English", "Norrish")),
        "target_true": "Old Velmoran",
    }
    hit = rng.random() < good
    prompts = [_prompt(rng, rng.random() < good) for _ in range(3)]
    around = [_prompt(rng, rng.random() < 0.2) for _ in range(NEIGHBOURS)]
    metrics = {
        "efficacy_score": float(hit),
        "paraphrase_score": sum(one["log_prob_new"] > one["log_prob_true"] for one in prompts[1:]) / 2,
        "neighbourhood_score": sum(one["log_prob_new"] < one["log_prob_true"] for one in around) / len(around),
        "efficacy_accuracy": float(hit),
        "paraphrase_accuracy": sum(one["greedy_new"] for one in prompts[1:]) / 2,
        "neighbourhood_accuracy": sum(one["greedy_true"] for one in around) / len(around),
    }
    details = None
    if editor.startswith("kgt"):
        triples = [
            {
                "triple": [person, relation, request["target_new"] if change == "added" else "Old Velmoran"],
                "change": change,
                "retrieval": round(rng.random(), 4),
                "reasoning": round(rng.random(), 4),
            }
            for relation, change in (("has native language", "added"), ("speaks the language", "removed"))
        ]
        details = {"before": 0.01, "after": round(rng.random(), 4), "triples": triples}
    return {
        "editor": editor,
        "seed": seed,
        "case_id": position,
        "position": position,
        "edit_seconds": rng.lognormvariate(-4, 0.3),
        "failure": None,
        "recalled": [],
        "request": request,
        "said": request["target_new"] if hit else "Old Velmoran",
        "details": details,
        "metrics": metrics,
        "raw": {"edit": prompts[0], "paraphrases": prompts[1:], "neighbourhood": around},
    }


def _judge(rng: random.Random, record: dict[str, Any]) -> None:
    for name in ("same_subject_kept", "neighbourhood_kept"):
        record["metrics"][name] = rng.randrange(5) / 4
    if record["details"]:
        record["details"]["outcome"] = rng.choice(("held", "held", "kept but not followed", "restated", "dropped"))


def _prompt(rng: random.Random, new: bool) -> dict[str, Any]:
    high, low = -rng.random(), -5 - rng.random()
    return {
        "log_prob_new": high if new else low,
        "tokens_new": 1,
        "greedy_new": new,
        "log_prob_true": low if new else high,
        "tokens_true": 2,
        "greedy_true": not new,
    }


def change(path: Path, **values: Any) -> None:
    """Replace top-level keys of a JSON file; ``config`` and the like are merged."""
    content = json.loads(path.read_text())
    for key, value in values.items():
        content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
    path.write_text(json.dumps(content))
