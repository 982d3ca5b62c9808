"""What a reader of a report has to know of the runs behind it, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kgt_editor.reporting import tables
from kgt_editor.reporting.runs import Run
from kgt_editor.results import compact


def without_records(runs: Sequence[Run]) -> list[str]:
    """Notices that name the runs whose numbers come from their summary, and those of figures without a text."""
    bare = [run.name for run in runs if run.cases is None]
    figures = [run.name for run in runs if run.cases is not None and not (run.path / "records.jsonl").is_file()]
    return [
        f"{why}: {', '.join(names)}"
        for why, names in (
            ("no records.jsonl, so numbers from the summary and no list of edits", bare),
            (f"{compact.FILE} in place of records.jsonl, so no list of edits", figures),
        )
        if names
    ]


def failed_edits(rows: pd.DataFrame) -> list[str]:
    """A notice for every editor of a run that some edits failed for."""
    last = rows["size"] == rows.groupby("run")["size"].transform("max")
    failed = rows[last & (rows.get("failed_edits", pd.Series(0, rows.index)) > 0)]
    return [
        f"{row['run']}: {row['failed_edits']:.0f} edits of '{row['editor']}' failed and count as not edited"
        for row in failed.to_dict("records")
    ]


def dead(rows: pd.DataFrame) -> list[str]:
    """A notice for every editor that left a model without answers."""
    found = rows[rows["dead"].notna()] if "dead" in rows else rows[:0]
    return [
        f"{row['run']}: after {row['size']:,} edits of '{row['editor']}' the model is dead: "
        + ("its probabilities are no numbers" if row["dead"] == "NaN" else "it finds every answer as likely")
        for row in found.to_dict("records")
    ]


def silence(runs: Sequence[Run]) -> list[str]:
    """A notice for every run whose unedited model says nothing to some of the prompts that edits are to leave alone."""
    notices = []
    for run in runs:
        silences = [row["silence"] for row in (run.summary or {}).get("rows", ()) if row.get("silence")]
        asked, silent = (sum(one[name] for one in silences) for name in ("asked", "silent"))
        if silent:
            notices.append(
                f"{run.name}: the unedited model says nothing to {silent / asked:.0%} of the prompts whose answers are "
                "to be kept; silence again counts as kept"
            )
    return notices


def differences(runs: Sequence[Run]) -> list[str]:
    """Notices where runs that are shown together were not made alike."""
    notices = []
    looks = {
        "number format": lambda run: run.config.get("dtype"),
        "data revision": lambda run: f"{run.config['dataset']} {run.config.get('data_revision')}",
        "commit": lambda run: ((run.environment.get("git") or {}).get("commit") or "unknown")[:8],
        "device": lambda run: f"{run.environment.get('device_name')}, {run.environment.get('threads')} threads",
        "torch": lambda run: run.environment.get("versions", {}).get("torch"),
    }
    for what, look in looks.items():
        by_value: dict[str, list[str]] = {}
        for run in runs:
            by_value.setdefault(str(look(run)), []).append(run.name)
        if what == "data revision":  # other data sets have other revisions
            kinds = {value.split(" ")[0] for value in by_value}
            if len(by_value) == len(kinds):
                continue
        if len(by_value) > 1:
            listed = "; ".join(f"{value} ({len(names)} runs)" for value, names in by_value.items())
            tail = ": their times are not comparable" if what == "device" else ""
            notices.append(f"the runs differ in {what}: {listed}{tail}")
    return notices + _hparam_differences(runs)


def _hparam_differences(runs: Sequence[Run]) -> list[str]:
    notices = []
    seen: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for run in runs:
        for editor, hparams in run.config.get("hparams", {}).items():
            first, known = seen.setdefault((run.config["model"], editor), (run.name, hparams))
            changed = sorted(key for key in {*known, *hparams} if known.get(key) != hparams.get(key))
            if changed:
                notices.append(
                    f"{first} and {run.name}: '{editor}' on {run.config['model']} has other hyperparameters: "
                    + ", ".join(f"{key} {known.get(key)} / {hparams.get(key)}" for key in changed[:4])
                )
    return notices


def sizes(rows: pd.DataFrame) -> list[str]:
    """Says which numbers of edits are in no table."""
    notices = []
    for setting in tables.settings(rows):
        own = tables.of_setting(rows, setting)
        size = tables.table_size(own)
        others = sorted(set(own["size"]) - {size})
        if others:
            listed = ", ".join(f"{one:,}" for one in others)
            notices.append(
                f"{setting[0]}, {setting[2]}: the tables show the runs of {size:,} edits; {listed} are in Figure 4 only"
            )
    return notices
