"""KGT inside EasyEdit: what its own BaseEditor reports, and what an edit costs there beside our own path.

EASYEDIT_HOME=~/EasyEdit python benchmarks/measure/inside_easyedit.py --model testbed-gpt2 --edits 50
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from kgt_editor.commands import json_report
from kgt_editor.data.record import Record
from kgt_editor.data.world import load_world
from kgt_editor.editors.base import resolve_hparams
from kgt_editor.editors.kgt import KGTEditor
from kgt_editor.kgt.hparams import KGTHyperParams

ROOT = Path(__file__).resolve().parents[2]
NEIGHBOURS = 3
WARM_UP = 2


def run(model_name: str, edits: int, seed: int) -> dict[str, Any]:
    """Edit sequentially and not, on one editor each, then time both paths in turn."""
    from kgt_editor import easyedit  # first: it registers KGT and imports EasyEdit

    path = resolve_hparams("kgt", model_name, ROOT / "hparams")
    records = load_world().sample(edits, seed)
    found: dict[str, Any] = {"schema_version": 1, "model": model_name, "edits": edits, "seed": seed}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        os.chdir(folder)  # EasyEdit writes logs where it runs
        for name, sequential in (("sequential", True), ("single", False)):
            editor = new_editor(easyedit.KGTHyperParams.from_hparams(path))
            found[name] = edit_all(editor, records, sequential)
        found["median_seconds"] = time_in_turn(new_editor(easyedit.KGTHyperParams.from_hparams(path)), path, records)
        os.chdir(ROOT)
    seconds = found["median_seconds"]
    found["easyedit / own"] = round(seconds["easyedit"] / seconds["own"], 3)
    found["asked"] = {"rewrite_acc": 0.95, "rephrase_acc": 0.90, "locality_acc": 0.98, "easyedit / own": 1.3}
    return found


def new_editor(hparams: Any) -> Any:
    """EasyEdit's editor, quiet."""
    from easyeditor import BaseEditor

    editor = BaseEditor.from_hparams(hparams)
    logging.disable(logging.INFO)
    return editor


def edit_all(editor: Any, records: tuple[Record, ...], sequential: bool) -> dict[str, float]:
    """EasyEdit's own metrics after each edit, their means over all records."""
    around = [list(record.neighbourhood_prompts[:NEIGHBOURS]) or None for record in records]
    metrics, _, _ = editor.edit(
        prompts=[record.query for record in records],
        target_new=[record.target_new for record in records],
        subject=[record.subject for record in records],
        rephrase_prompts=[record.paraphrase_prompts[0] for record in records],
        locality_inputs={
            "neighbourhood": {
                "prompt": around,
                "ground_truth": [[r.target_true] * len(texts or ()) for r, texts in zip(records, around, strict=True)],
            }
        },
        sequential_edit=sequential,
        verbose=False,
    )
    kept = [hit for one in metrics for hit in one["post"]["locality"].get("neighbourhood_acc", ())]
    return {
        "rewrite_acc": float(statistics.fmean(one["post"]["rewrite_acc"][0] for one in metrics)),
        "rephrase_acc": float(statistics.fmean(one["post"]["rephrase_acc"][0] for one in metrics)),
        "locality_acc": float(statistics.fmean(kept)),
    }


def time_in_turn(editor: Any, path: Path, records: tuple[Record, ...]) -> dict[str, float]:
    """Median seconds of an edit as EasyEdit makes it and as compare.py does, on one model, each undone again."""
    own = KGTEditor(KGTHyperParams.from_hparams(path))
    wrapped, _ = own.apply(editor.model, editor.tok, [])
    keywords = {"copy": False, "return_orig_weights": True, "keep_original_weight": False}
    ways: dict[str, Callable[[dict[str, Any]], tuple[Any, Any]]] = {
        "easyedit": lambda r: editor.apply_algo(
            editor.model, editor.tok, [r], editor.hparams, **keywords, train_ds=None
        ),
        "own": lambda r: own.apply(wrapped, editor.tok, [r], **keywords),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number, record in enumerate((*records[:WARM_UP], *records)):
        order = list(ways) if number % 2 else list(reversed(ways))
        for name in order:
            start = time.perf_counter()
            _, undo = ways[name](record.request())
            seconds[name].append(time.perf_counter() - start)
            undo()
    return {name: round(statistics.median(values[WARM_UP:]), 6) for name, values in seconds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="testbed-gpt2", help="a testbed model (default %(default)s)")
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the JSON, which is printed in any case")
    args = parser.parse_args()
    out = args.out and args.out.resolve()
    return json_report(lambda: run(args.model, args.edits, args.seed), out)


if __name__ == "__main__":
    sys.exit(main())
