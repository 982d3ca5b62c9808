"""Write the tables of README and docs from the committed results, so that no figure in them is typed.

    python benchmarks/upkeep/readme_figures.py            # rewrites the pages
    python benchmarks/upkeep/readme_figures.py --check    # exit code 1 where one differs

A block stands between ``<!-- figures: NAME ARGUMENTS -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
BLOCK = re.compile(r"(<!-- figures: ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
EDITORS = ("none", "kgt", "rome", "mend", "ke", "kn", "ft", "oppu", "icl", "icl:bm25")
METRICS = ("efficacy score / accuracy", "paraphrase score / accuracy", "neighbourhood score", "unedited recall")
RECALLED = ("edit_prompts", "paraphrase_prompts", "held_out")
COSTS = {
    "kgt_rank / forward": "an edit / a forward pass of its reasoning prompt",
    "kgt_user / forward": "an edit whose relation the user names (`kgt:user`) / that pass",
    "kgt_rank / its floor": "an edit / its floor: weights read three times, and the arithmetic of its tokens",
    "plain rank / kgt_rank": "the method run one prompt at a time / an edit",
    "one by one / batch": "32 users' edits one by one / together",
    "rome / kgt_rank": "ROME / KGT",
    "ft / kgt_rank": "FT / KGT",
    "mend / kgt_rank": "MEND, once trained / KGT",
    "ke / kgt_rank": "KE, once trained / KGT",
    "answer with a fact / plain answer": "an answer of 16 tokens with a fact / the plain model's",
    "answer without facts / plain answer": "an answer of 16 tokens without facts / the plain model's",
    "edit memory / inference memory": "peak memory of an edit / of inference",
}
KINDS = {
    "again": "the same query answered anew",
    "reworded": "the same in other words",
    "base": "the base graph says the opposite",
    "several": "several relations of one entity",
    "twice": "changed twice",
    "other_user": "a fact of another user",
    "undone": "taken back",
    "restated": "said twice",
}


def _json(*parts: str) -> Any:
    return json.loads(RESULTS.joinpath(*parts).read_text(encoding="utf-8"))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def runs(dataset: str, mode: str, model: str, size: str, editors: str = ",".join(EDITORS)) -> str:
    """A row an editor, from the committed run of one model, mode and size that has the most; others fill the gaps.

    A sequential table has the latencies too: its runs had the machine to themselves.
    """
    wanted, asked = editors.split(","), (dataset, mode, model, size)
    fitting = []
    for path in sorted(RESULTS.glob("testbed/*/summary.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        fits = {
            row["editor"]: row
            for row in rows
            if (row["dataset"], row["mode"], row["model"], str(row["size"])) == asked and row["editor"] in wanted
        }
        fitting.append(fits)
    found: dict[str, dict[str, Any]] = {}
    for fits in sorted(fitting, key=len, reverse=True):
        found = fits | found
    timed = mode == "sequential"
    head = ["editor", *METRICS, "seeds", *(["median edit", "preparation"] if timed else [])]
    lines = []
    for name in [name for name in wanted if name in found]:
        row = found[name]
        lines.append([name, *_metrics(row), str(len(row["seeds"])), *(_times(row) if timed else [])])
    return _table(head, lines)


def _metrics(row: dict[str, Any]) -> list[str]:
    mean = {metric: _share(value and value["mean"]) for metric, value in row["metrics"].items()}
    both = [f"{mean[f'{what}_score']} / {mean[f'{what}_accuracy']}" for what in ("efficacy", "paraphrase")]
    return [*both, mean["neighbourhood_score"], mean["unedited_recall"]]


def _times(row: dict[str, Any]) -> list[str]:
    latency, preparation = row["edit_seconds"], row["preparation_seconds"]
    edit = f"{latency['p50'] * 1000:.0f} ms" if latency and row["editor"] != "none" else "-"
    return [edit, f"{preparation:.0f} s" if preparation >= 1 else "-"]


def scale(editors: str, longest: str) -> str:
    """A row an editor and size of the committed sequence of ``longest`` edits, with what only such a one shows."""
    lines = []
    for name in editors.split(","):
        for path in RESULTS.glob(f"paper-scale/*-{longest}-*/summary.json"):
            rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
            ends = {(end["editor"], end["size"]): end for end in _json(*path.parent.parts[-2:], "scale.json")["rows"]}
            for row in [row for row in rows if row["editor"] == name]:
                end = ends[name, row["size"]]
                steady = f"{end['last / first']:.2f}" if "last / first" in end and name != "none" else "-"
                kept = f"{end['state_bytes'] / 1e6:.1f} MB" if end["state_bytes"] else "-"
                all_edits = _share(end["efficacy_score, superseded edits too"])
                lines.append([name, f"{row['size']:,}", *_metrics(row), _times(row)[0], steady, kept, all_edits])
    head = ["editor", "edits", *METRICS, "median edit", "last / first 1,000", "on disk", "efficacy, taken back too"]
    return _table(head, lines)


def real(dataset: str, which: str = "all") -> str:
    """A row an editor and size, from the committed runs of language models that nobody here trained.

    ``which`` is ``known-only`` for runs on facts that the model knew. Of an editor and size the latest run counts.
    """
    rows: dict[tuple[str, str, int], list[str]] = {}
    runs = [(_json("real", path.parent.name, "manifest.json"), path) for path in RESULTS.glob("real/*/summary.json")]
    for manifest, path in sorted(runs, key=lambda run: run[0]["started"]):
        if manifest["config"]["known_only"] != (which == "known-only") or manifest["config"]["dataset"] != dataset:
            continue
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            key = row["model"], row["editor"], row["size"]
            mean = {metric: _share(value and value["mean"]) for metric, value in row["metrics"].items()}
            kept = [mean.get(f"{what}_kept", "-") for what in ("same_subject", "neighbourhood")]
            counts = [f"{count} {name}" for name, count in (row["edit_outcomes"] or {}).items() if count]
            facts = [row["model"], row["editor"], f"{row['size']:,}"]
            rows[key] = [*facts, *_metrics(row)[:3], *kept, ", ".join(counts) or "-", _times(row)[0]]
    head = ["model", "editor", "edits", *METRICS[:3], "others kept", "neighbours kept", "became", "median edit"]
    return _table(head, [rows[key] for key in sorted(rows, key=lambda key: (key[0], key[2]))])


def named() -> str:
    """How often ``rank`` names the relation of a query right, from ``benchmarks/measure/relations.py``."""
    rows = []
    for path in sorted(RESULTS.glob("real/relations-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        rows.append([found["model"], str(found["records"]), *(_share(found[f"top {k}"]) for k in (1, 3, 5))])
    return _table(["model", "records", "named first", "among three", "among five"], rows)


def after() -> str:
    """What an edit costs after a long sequence, over what it costs a new user."""
    found = _json("paper-scale", "edit-after-many.json")
    new, old = (f"{1000 * found['median_seconds'][name]:.0f} ms" for name in ("new_user", "this_user"))
    row = [f"{found['edits']:,}", f"{found['triples']:,}", old, new, f"{found['this_user / new_user']:.2f}"]
    return _table(["edits before", "triples", "median edit", "of a new user", "ratio"], [row])


def conflicts(*asked: str) -> str:
    """What holds after conflicting feedback: for every model the variants asked, each ``VARIANT=SIZE``."""
    rows = []
    for model in ("testbed-gpt2", "testbed-llama"):
        for variant, _, size in (one.partition("=") for one in asked):
            kinds = _json("conflicts", f"conflicts-{model}-{size}.json")["rows"][variant]["kinds"]
            label = "kgt" if variant == "default" else f"kgt:{variant}"
            for kind in [kind for kind in KINDS if kind in kinds]:
                one = kinds[kind]
                shares = [_share(one[key]) for key in ("prompt", "paraphrase", "other_facts", "base_facts_lost")]
                changes = f"+{one['added_per_edit']:.2f} -{one['removed_per_edit']:.2f}"
                rows.append([f"`{label}`, {model}", KINDS[kind], *shares, changes])
    head = ["", "conflict", "prompt", "paraphrases", "other facts", "base facts lost", "triples an edit"]
    return _table(head, rows)


def cost(name: str) -> str:
    """Ratios of ``benchmarks/measure/edit_cost.py``."""
    ratios = _json("cost", f"{name}.json")["ratios"]
    rows = [[label, f"{ratios[key]:.2f}"] for key, label in COSTS.items() if key in ratios]
    return _table(["ratio of medians", name], rows)


def users_together(name: str) -> str:
    """Edits a second of several users in the same forward passes, of ``benchmarks/measure/edit_cost.py``."""
    found = _json("cost", f"{name}.json")["edits_per_second_of_users_together"]
    return _table(["users together", *found], [["edits a second", *(f"{value:.1f}" for value in found.values())]])


def recall() -> str:
    """How many of the facts that each testbed was taught it recalls in CounterFact's words."""
    rows = []
    for path in sorted((RESULTS / "testbed").glob("recall-*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        shares = [_share(report["recall"][kind]["share"]) for kind in RECALLED]
        rows.append([report["model"], str(report["facts"]), *shares])
    return _table(["model", "facts", "edit prompts", "paraphrase prompts", "held-out pairs"], rows)


def known(dataset: str) -> str:
    """How many records of a data set the models know, of those that ``--known-only`` asked."""
    rows = []
    for path in sorted(RESULTS.glob("testbed/*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["config"]["dataset"] == dataset and (found := manifest["known_only"]):
            rows.append([manifest["config"]["model"], str(found["asked"]), str(found["known"]), _share(found["share"])])
    return _table(["model", "records asked", "known", "share"], rows)


def easyedit() -> str:
    """What EasyEdit itself reports of KGT, and the time of an edit there over that of an edit of ours."""
    rows = []
    for path in sorted((RESULTS / "easyedit").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for mode in ("sequential", "single"):
            shares = [_share(found[mode][f"{name}_acc"]) for name in ("rewrite", "rephrase", "locality")]
            rows.append([found["model"], mode, str(found["edits"]), *shares, f"{found['easyedit / own']:.2f}"])
    head = ["model", "mode", "edits", "rewrite", "rephrase", "locality", "edit, EasyEdit / compare.py"]
    return _table(head, rows)


def report(model_free_name: str) -> str:
    """A table of the committed report, as it stands there."""
    text = (RESULTS / "testbed" / "report" / f"{model_free_name}.md").read_text(encoding="utf-8")
    first = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return first[0] if first else ""


RENDER: dict[str, Callable[..., str]] = {
    "runs": runs, "conflicts": conflicts, "cost": cost, "users_together": users_together,
    "recall": recall, "known": known, "easyedit": easyedit,
    "report": report, "scale": scale, "after": after, "named": named, "real": real,
}  # fmt: skip


def fill(text: str) -> str:
    """The text with every block made anew."""

    def block(found: re.Match[str]) -> str:
        name, *arguments = found[2].split()
        return found[1] + RENDER[name](*arguments) + found[3]

    return BLOCK.sub(block, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        old = path.read_text(encoding="utf-8")
        new = fill(old)
        stale += new != old
        if not check:
            path.write_text(new, encoding="utf-8")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
