"""Make of a run's folder one that can be committed: what was asked, the summary, and a line of figures a record.

    python benchmarks/upkeep/compact_run.py results/<run> --out results/paper-scale
    python benchmarks/upkeep/compact_run.py results/<run> --out results/paper-real --without-triples

Writes to <out>/<run>: manifest.json and summary.json as they are, but for the folders that they name; cells.jsonl;
records.csv.gz, a line an editor, seed, size and case with its metrics, the edit's milliseconds and, unless they are
not wanted, KGT's triples (``+`` added, ``-`` removed), which may tell the sentences of a data set; and scale.json, what
a long sequence shows: medians of the first and last 1,000 edits, what the editor keeps on disk, and the scores as they
are when edits that later ones take back count too.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kgt_editor.commands import json_report
from kgt_editor.errors import UsageError
from kgt_editor.evaluation.metrics import PromptScore
from kgt_editor.lm.scoring import TargetScore
from kgt_editor.results import compact as records_file

ENDS = 1000  # edits whose median latency is compared


def compact(run: Path, out: Path, triples: bool = True) -> dict[str, Any]:
    """Write the folder; ``triples`` says whether those of a graph's edits go with it.

    Returns:
        what ``scale.json`` holds.

    Raises:
        UsageError: ``run`` is not the folder of a run.
    """
    try:
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{run} is not the folder of a finished run: {error}") from None
    folder = out / run.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("manifest.json", manifest), ("summary.json", summary)):
        text = json.dumps(_without_folders(content), indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copyfile(run / "cells.jsonl", folder / "cells.jsonl")
    found: dict[tuple[str, int, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def collected() -> Iterator[dict[str, Any]]:
        for line in _lines(run / "records.jsonl"):
            _collect(line, found[line["editor"], line["seed"], line["size"]])
            yield line

    records_file.write(folder / records_file.FILE, collected(), triples)
    rows = [_scale(*cell, values) for cell, values in found.items()]
    for row, cell in ((row, cell) for row in rows for cell in summary["rows"]):
        if (row["editor"], row["size"]) == (cell["editor"], cell["size"]):
            row["state_bytes"] = cell.get("state_bytes")
    scale = {"schema_version": 1, "run": run.name, "ends": ENDS, "rows": rows}
    (folder / "scale.json").write_text(json.dumps(scale, indent=2) + "\n", encoding="utf-8")
    return scale


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _without_folders(value: Any) -> Any:
    """The same without the folders of any path that leads out of the working folder."""
    if isinstance(value, dict):
        return {key: _without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one) for one in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "../")) else value


def _collect(line: dict[str, Any], values: dict[str, list[float]]) -> None:
    """Add a record's figures to those of its cell."""
    if line["edit_seconds"] is not None:
        values["seconds"].append(line["edit_seconds"])
    if raw := line["raw"]:
        values["superseded"].append(records_file.superseded(line))
        values["efficacy_score"].append(_prefers_new(raw["edit"]))
        if raw["paraphrases"]:
            values["paraphrase_score"].append(statistics.fmean(map(_prefers_new, raw["paraphrases"])))
        values["neighbourhood_prompts"].append(len(raw["neighbourhood"]))


def _prefers_new(raw: dict[str, Any]) -> bool:
    new, true = (
        TargetScore(math.nan if log_prob is None else log_prob, raw[f"tokens_{name}"], raw[f"greedy_{name}"])
        for name, log_prob in ((name, raw[f"log_prob_{name}"]) for name in ("new", "true"))
    )
    return PromptScore(new, true).prefers_new("mean")


def _scale(editor: str, seed: int, size: int, values: dict[str, list[float]]) -> dict[str, Any]:
    seconds = values["seconds"]
    row: dict[str, Any] = {"editor": editor, "seed": seed, "size": size}
    row["superseded_edits"] = int(sum(values["superseded"]))
    row["neighbourhood_prompts"] = int(sum(values["neighbourhood_prompts"]))
    for name in ("efficacy_score", "paraphrase_score"):
        row[f"{name}, superseded edits too"] = round(statistics.fmean(values[name]), 4) if values[name] else None
    if len(seconds) >= 2 * ENDS:
        first, last = statistics.median(seconds[:ENDS]), statistics.median(seconds[-ENDS:])
        row |= {"first_ms": round(1000 * first, 3), "last_ms": round(1000 * last, 3), "last / first": last / first}
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the compact folder goes")
    parser.add_argument("--without-triples", action="store_true", help="leave the triples of a graph's edits out")
    args = parser.parse_args()
    return json_report(lambda: compact(args.run, args.out, triples=not args.without_triples), None)


if __name__ == "__main__":
    sys.exit(main())
