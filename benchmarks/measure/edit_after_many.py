"""What an edit costs a user with thousands of edits, over a new user: both make the same edits, in turn.

    python benchmarks/measure/edit_after_many.py results/paper-scale/<run> --out FILE

The user's graph is made of the triples in the run's records.csv.gz, those after its last edit; the edits are of made-up
subjects, which neither graph knows. A sequence's own last and first edits are minutes apart, on a machine that is
not always as fast; these are not.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from pathlib import Path
from typing import Any

from many_edits import ROOT, TIMED, request, time_in_turn

from kgt_editor.commands import json_report
from kgt_editor.data import world
from kgt_editor.editors.settings import find_hparams
from kgt_editor.errors import UsageError
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm.loading import load_model

WARM_UP = 10


def replay(records: Path, graph: PersonalGraph) -> int:
    """Commit the edits that KGT made in a sequence.

    Args:
        records: see :mod:`compact_run`.
        graph: takes them in.

    Returns:
        how many edits.

    Raises:
        UsageError: there are none, or no such file.
    """
    try:
        with gzip.open(records, "rt", encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["editor"] == "kgt"]
    except OSError as error:
        raise UsageError(f"{records}: {error.strerror or error}; name a folder that compact_run.py wrote") from None
    if not rows:
        raise UsageError(f"{records}: holds no edits of kgt")
    longest = max(int(row["size"]) for row in rows)
    for row in (row for row in rows if int(row["size"]) == longest):
        changes: dict[str, list[Triple]] = {"+": [], "-": []}
        for text in filter(None, row["triples"].split("; ")):
            changes[text[0]].append(Triple(*text[1:].split(" | ")))
        graph.commit(row["case_id"], row["case_id"], added=changes["+"], removed=changes["-"])
    return longest


def run(folder: Path) -> dict[str, Any]:
    """Time the edits of both users."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    model_name = manifest["config"]["model"]
    lm, tok = load_model(model_name)
    hparams = find_hparams(KGTHyperParams, "kgt", model_name, ROOT / "hparams")[0]
    graphs = {name: PersonalGraph(base_graph(hparams.graph)) for name in ("new_user", "this_user")}
    edits = replay(folder / "records.csv.gz", graphs["this_user"])
    users = {name: KGEnhancedLM(lm, tok, graph, hparams) for name, graph in graphs.items()}
    facts = world.book().facts[: TIMED + WARM_UP]
    requests = [request(fact, f"Zed Quarnholt {number}") for number, fact in enumerate(facts)]
    time_in_turn(users, requests[:WARM_UP])
    seconds = time_in_turn(users, requests[WARM_UP:])
    return {
        "schema_version": 1,
        "model": model_name,
        "run": folder.name,
        "edits": edits,
        "triples": len(graphs["this_user"].added),
        "timed": TIMED,
        "median_seconds": {name: round(value, 6) for name, value in seconds.items()},
        "this_user / new_user": round(seconds["this_user"] / seconds["new_user"], 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run that compact_run.py wrote")
    parser.add_argument("--out", type=Path, help="file for the JSON, which is printed in any case")
    args = parser.parse_args()
    return json_report(lambda: run(args.run), args.out)


if __name__ == "__main__":
    sys.exit(main())
