"""Tables of README and docs that are made from the summaries of runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tables_common import MODELS, RESULTS, read, share, table

EDITORS = (
    "none", "kgt", "kgt:user", "kgt:paper", "rome", "memit", "alphaedit", "ultraedit", "mend", "mend:norm-edit",
    "mend:random-locality", "mend:authors", "ke", "ke:random-locality", "kn", "kn:unfiltered", "ft", "ft:m",
    "ft:wide", "locft", "oppu", "icl", "icl:bm25",
)  # fmt: skip
METRICS = ("efficacy score / accuracy", "paraphrase score / accuracy", "neighbourhood score", "unedited recall")
# What runs of schema version 4 have besides.
WRITTEN = {"efficacy_exact": "written", "efficacy_contained": "in text", "paraphrase_contained": "paraphr. in text"}
_BESIDES = {"same_subject_kept": "same subject kept", **WRITTEN}
_BEFORE_AFTER = ("efficacy_score", "efficacy_accuracy", "paraphrase_accuracy", "neighbourhood_score", "unedited_recall")
# Earlier runs had these settings under the editor's plain name.
_TODAY = {"kn": "kn:unfiltered", "ft": "ft:wide"}
ABILITIES = {
    "recall_held_out": "recall, other words",
    "follows_reasoning_held_out": "follows a fact",
    "several_8_others": "among eight facts",
    "irrelevant_fact": "ignores another fact",
    "others_only_8": "ignores eight",
    "retrieves_relation": "names the relation asked for",
    "extracts_relation": "names that of an answer",
}


def runs(dataset: str, mode: str, model: str, size: str, editors: str = ",".join(EDITORS)) -> str:
    """A row an editor, from the committed run of one model, mode and size that has the most; others fill the gaps.

    A sequential table has the latencies too. ``before/world`` takes the runs on the earlier testbeds.
    """
    folder, _, dataset = dataset.rpartition("/")
    wanted, asked = editors.split(","), (dataset, mode, model, size)
    fitting = [
        {name: row for name, row in rows.items() if name in wanted}
        for rows in _rows_of_runs(folder or "testbed", *asked)
    ]
    found: dict[str, dict[str, Any]] = {}
    for fits in sorted(fitting, key=len, reverse=True):
        found = fits | found
    timed = mode == "sequential"
    more = {name: label for name, label in _BESIDES.items() if any(row["metrics"].get(name) for row in found.values())}
    head = ["editor", *METRICS, *more.values(), "seeds", *(["median edit", "preparation"] if timed else [])]
    lines = []
    for name in [name for name in wanted if name in found]:
        row = found[name]
        besides = [_mean(row, metric) for metric in more]
        lines.append([name, *_metrics(row), *besides, str(len(row["seeds"])), *(_times(row) if timed else [])])
    return table(head, lines)


def _rows_of_runs(folder: str, dataset: str, mode: str, model: str, size: str) -> Iterator[dict[str, dict[str, Any]]]:
    """Of each run of a folder the rows of one data set, mode, model and number of edits, by editor."""
    for path in sorted(RESULTS.glob(f"{folder}/*/summary.json")):
        yield {
            row["editor"]: row
            for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
            if (row["dataset"], row["mode"], row["model"], str(row["size"])) == (dataset, mode, model, size)
        }


def _mean(row: dict[str, Any], metric: str) -> str:
    """A metric's mean; ``dead`` where the model has no answers, see ``dead`` in a row of the summary."""
    found = row["metrics"].get(metric)
    return f"dead ({row['dead']})" if row.get("dead") else share(found and found["mean"])


def before_after(mode: str, model: str, size: str) -> str:
    """A row an editor on the world: before, on the testbed that had practised on all subjects, and now.

    What went by another name before stands under today's.
    """
    before, now = (_world_rows(folder, mode, model, size) for folder in ("before", "testbed"))
    before = {_TODAY.get(name, name): row for name, row in before.items()}
    lines = []
    for name in EDITORS:
        if name in before and name in now:
            both = before[name], now[name]
            cells = [" -> ".join(_mean(one, metric) for one in both) for metric in _BEFORE_AFTER]
            lines.append([name, *cells, " -> ".join(str(len(one["seeds"])) for one in both)])
    return table(["editor", *(metric.replace("_", " ") for metric in _BEFORE_AFTER), "seeds"], lines)


def _world_rows(folder: str, mode: str, model: str, size: str) -> dict[str, dict[str, Any]]:
    """The rows of a folder's runs on the world by editor, of an editor's those with most seeds."""
    found: dict[str, dict[str, Any]] = {}
    for rows in _rows_of_runs(folder, "world", mode, model, size):
        for name, row in rows.items():
            if name not in found or len(row["seeds"]) > len(found[name]["seeds"]):
                found[name] = row
    return found


def abilities(*models: str) -> str:
    """What testbeds can do with facts in a context: before, on all facts; now, on subjects that no example named.

    A last row, where there is one, has a training that is not shipped.
    """
    lines = []
    for model in models:
        manifest = json.loads((MODELS / model / "manifest.json").read_text(encoding="utf-8"))
        sides = [
            ("before: practised on all subjects", read("before", f"abilities-{model}.json")["abilities"]),
            ("now: subjects held out of practice", manifest["abilities"]),
            ("now: subjects practised on", manifest["abilities_of_instructed_subjects"]),
        ]
        trial = RESULTS / "testbed" / f"abilities-{model}-more-subjects.json"
        if trial.is_file():
            sides.append(
                ("not shipped: held out, with more facts and practice", json.loads(trial.read_text())["abilities"])
            )
        lines += [[model, label, *(share(found[name]) for name in ABILITIES)] for label, found in sides]
    return table(["model", "", *ABILITIES.values()], lines)


def _metrics(row: dict[str, Any]) -> list[str]:
    mean = {metric: _mean(row, metric) for metric in row["metrics"]}
    both = [f"{mean[f'{what}_score']} / {mean[f'{what}_accuracy']}" for what in ("efficacy", "paraphrase")]
    return [*both, mean["neighbourhood_score"], mean["unedited_recall"]]


def _times(row: dict[str, Any]) -> list[str]:
    latency, preparation = row["edit_seconds"], row["preparation_seconds"]
    edit = f"{latency['p50'] * 1000:.0f} ms" if latency and row["editor"] != "none" else "-"
    return [edit, f"{preparation:.0f} s" if preparation >= 1 else "-"]


def _in_passes(row: dict[str, Any]) -> str:
    """The median edit, and how many forward passes of an edit's prompt take as long in the same run.

    Runs of several machines stand in one table, so only the second number compares them.
    """
    edit, passes = _times(row)[0], (row.get("edit_forwards") or {}).get("p50")
    return f"{edit} ({passes:.1f})" if edit != "-" and passes is not None else edit


def scale(editors: str, longest: str) -> str:
    """A row an editor and size of the committed sequence of ``longest`` edits, with what only such a one shows."""
    lines = []
    for name in editors.split(","):
        for path in RESULTS.glob(f"paper-scale/*-{longest}-*/summary.json"):
            rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
            ends = {(end["editor"], end["size"]): end for end in read(*path.parent.parts[-2:], "scale.json")["rows"]}
            for row in [row for row in rows if row["editor"] == name]:
                end = ends[name, row["size"]]
                steady = f"{end['last / first']:.2f}" if "last / first" in end and name != "none" else "-"
                kept = f"{end['state_bytes'] / 1e6:.1f} MB" if end["state_bytes"] else "-"
                all_edits = share(end["efficacy_score, superseded edits too"])
                lines.append([name, f"{row['size']:,}", *_metrics(row), _times(row)[0], steady, kept, all_edits])
    head = ["editor", "edits", *METRICS, "median edit", "last / first 1,000", "on disk", "efficacy, taken back too"]
    return table(head, lines)


def real(dataset: str, which: str = "all", sizes: str = "", mode: str = "sequential") -> str:
    """A row an editor and size, from the committed runs of language models that nobody here trained.

    ``which`` is ``known-only`` for runs on facts that the model knew, ``ordered`` for runs in an order from a file;
    ``sizes`` are the numbers of edits shown. Of an editor and size the latest run counts.
    """
    wanted = [int(size) for size in sizes.split(",") if size]
    rows: dict[tuple[str, str, int], tuple[list[str], list[str], list[str]]] = {}
    for config, found in _real_runs(dataset):
        kind = "known-only" if config["known_only"] else "ordered" if config.get("order") else "all"
        if (kind, config["mode"]) != (which, mode):
            continue
        for row in found:
            key = row["model"], row["editor"], row["size"]
            if wanted and row["size"] not in wanted:
                continue
            mean = {metric: share(value and value["mean"]) for metric, value in row["metrics"].items()}
            kept = [mean.get(f"{what}_kept", "-") for what in ("same_subject", "neighbourhood")]
            counts = [f"{count} {name}" for name, count in (row["edit_outcomes"] or {}).items() if count]
            facts = [row["model"], row["editor"], f"{row['size']:,}"]
            written = [mean.get(metric, "-") for metric in WRITTEN]
            rows[key] = [*facts, *_metrics(row)[:3], *kept], written, [", ".join(counts) or "-", _in_passes(row)]
    told = any(written != ["-"] * len(WRITTEN) for _, written, _ in rows.values())  # runs before version 4 do not say
    head = ["model", "editor", "edits", *METRICS[:3], "others kept", "neighbours kept"]
    head += [*(WRITTEN.values() if told else ()), "became", "median edit (forward passes)"]
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (key[0], key[2]))]
    return table(head, [[*first, *(written if told else ()), *last] for first, written, last in ordered])


def _real_runs(dataset: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """What was asked and the rows of each real model's run on a data set, or on one file of it
    (``knowedit/knowedit_zsre``), the oldest first."""
    name, _, file = dataset.partition("/")
    found = [path for folder in ("real", "paper-real") for path in RESULTS.glob(f"{folder}/*/summary.json")]
    runs = [(read(path.parent.parent.name, path.parent.name, "manifest.json"), path) for path in found]
    for manifest, path in sorted(runs, key=lambda run: run[0]["started"]):
        config = manifest["config"]
        ours = config["model"].startswith("testbed-")  # which stand beside real ones in results/paper-real
        if config["dataset"] == name and not ours and (not file or Path(config["data"]).name.startswith(file)):
            yield config, json.loads(path.read_text(encoding="utf-8"))["rows"]


def kinds(dataset: str) -> str:
    """How many of a data set's other questions each editor answers, by kind, from the committed runs of real models.

    The first number is by probability, token by token, the second what stands in the written first sentence. Of an
    editor, its source of relations and a size the latest run counts.
    """
    found: dict[tuple[str, str, int], list[str]] = {}
    columns: dict[str, None] = {}
    cells: dict[tuple[str, str, int], dict[str, str]] = {}
    for config, rows in _real_runs(dataset):
        for row in rows:
            hparams = config["hparams"].get(row["editor"], {})
            named = ", relations named by the user" if hparams.get("relation_source") == "user" else ""
            key = row["model"], row["editor"] + named, row["size"]
            counts = [f"{count} {name}" for name, count in (row["edit_outcomes"] or {}).items() if count]
            found[key] = [
                row["model"],
                key[1],
                f"{row['size']:,}",
                _mean(row, "efficacy_accuracy"),
                _mean(row, "same_subject_kept"),
                ", ".join(counts) or "-",
            ]
            cells[key] = {}
            for kind, one in row["kinds"].items():
                name = f"{kind.partition(': ')[2].replace('_', ' ')} ({one['asked'] // len(row['seeds'])})"
                columns[name] = None
                cells[key][name] = " / ".join(share(one[judged] / one["asked"]) for judged in ("greedy", "contains"))
    lines = [[*found[key], *(cells[key].get(name, "-") for name in columns)] for key in sorted(found)]
    return table(["model", "editor", "edits", "efficacy accuracy", "others kept", "became", *columns], lines)


def known(dataset: str) -> str:
    """How many records of a data set the models know, of those that ``--known-only`` asked; ``before/counterfact``
    takes the runs on the earlier testbeds."""
    folder, _, dataset = dataset.rpartition("/")
    rows = []
    for path in sorted(RESULTS.glob(f"{folder or 'testbed'}/*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["config"]["dataset"] == dataset and (found := manifest["known_only"]):
            rows.append([manifest["config"]["model"], str(found["asked"]), str(found["known"]), share(found["share"])])
    return table(["model", "records asked", "known", "share"], rows)


def report(folder: str, model_free_name: str) -> str:
    """The first table of a file of the committed report on the runs of a folder, as it stands there."""
    text = (RESULTS / folder / "report" / f"{model_free_name}.md").read_text(encoding="utf-8")
    first = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return first[0] if first else ""
