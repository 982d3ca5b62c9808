"""Runs as pandas frames: one line a case, and one line an editor of a run with means and 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kgt_editor.errors import UsageError
from kgt_editor.reporting import kinds
from kgt_editor.reporting.names import CASE_MEASURES, OUTCOMES, SHARES
from kgt_editor.reporting.runs import Run, find_runs, read_run
from kgt_editor.results.statistics import Interval, latency, mean_interval, no_narrower, share_interval
from kgt_editor.results.summary import costs_of

#: What must be equal for two runs to stand in one table.
SETTING = ("dataset", "data_revision", "mode", "normalise", "known_only")
_LATENCY = ("p50", "p95", "first_tenth_p50", "last_tenth_p50")


def load(paths: Sequence[str | Path]) -> tuple[list[Run], list[str]]:
    """Read the runs at and below ``paths``.

    Returns:
        the runs, and notices about those that had to be left out.

    Raises:
        UsageError: a path holds no run, or none of them can be read.
    """
    runs, notices = [], []
    for path in find_runs([Path(path) for path in paths]):
        try:
            runs.append(read_run(path))
        except UsageError as error:
            notices.append(f"left out: {error}")
    if not runs:
        raise UsageError(notices[0])
    return runs, notices


def cases_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Every case of every run: ``run``, ``model``, the setting and the columns of :attr:`Run.cases`."""
    frames = [run.cases.assign(**_facts(run)) for run in runs if run.cases is not None]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def rows_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One line for each editor of each run and each number of edits.

    Columns: ``run``, ``editor``, ``model``, the setting, ``size``, ``seeds`` (complete ones), ``status`` (``complete``,
    ``partial``: some seeds; ``failed`` or ``missing``: none), ``reason``; every share and ``edit_mean`` with ``_low``
    and ``_high``; ``edit_p50`` and the other costs of :data:`kgt_editor.reporting.names.MEASURES`; ``relation_source``
    for KGT; ``dead`` where the model has no answers, see :func:`kgt_editor.results.summary.dead`; ``reference`` and, by
    the paired bootstrap against that editor, ``_p`` of every share, and ``_best`` and ``_best_p``: the best editor of
    the run and the p against it. The other numbers come from the records; from the summary where a run has no records.
    """
    return pd.DataFrame(
        [_row(run, editor, size) for run in runs for size in run.sizes for editor in run.config["editors"]]
    )


def _facts(run: Run) -> dict[str, Any]:
    config = run.config
    setting = {name: config.get(name) for name in SETTING}
    setting["known_only"] = bool(setting["known_only"])  # a run of an earlier version does not say
    return {
        "run": run.name,
        "model": config["model"],
        **setting,
        "started": str(run.manifest.get("started")),
    }


def _row(run: Run, editor: str, size: int) -> dict[str, Any]:
    summaries = (run.summary or {}).get("rows", ())
    own = (row for row in summaries if (row["editor"], row.get("size", run.size)) == (editor, size))
    summary: dict[str, Any] = next(own, {})
    done = [key[1] for key, cell in sorted(run.cells.items()) if key == (editor, key[1], size) and _is_complete(cell)]
    seeds = done if run.cells else summary.get("seeds", [])
    row = {"editor": editor, **_facts(run), "size": size, "seeds": len(seeds)}
    row["relation_source"] = run.config.get("hparams", {}).get(editor, {}).get("relation_source")
    row["status"], row["reason"] = _status(run, editor, size, len(seeds))
    if seeds:
        row |= _from_summary(summary, size) if run.cases is None else _from_records(run, editor, size, seeds, summary)
        row |= compared_columns((run.summary or {}).get("comparisons"), editor, size)
        row |= kinds.shares(summary.get("kinds") or {}, len(seeds))
        row["dead"] = summary.get("dead")
    return row


def _is_complete(cell: dict[str, Any]) -> bool:
    return bool(cell["status"] == "complete")


def compared_columns(found: Mapping[str, Any] | None, editor: str, size: int) -> dict[str, Any]:
    """How sure it is that an editor differs from others, as columns of :func:`rows_frame`.

    Args:
        found: from :func:`kgt_editor.results.paired.comparisons`; None where there is nothing to compare, or for a run
            of an earlier version.
        editor: which one.
        size: after how many edits.
    """
    if not found:
        return {}
    rows = [one["metrics"] for one in found["rows"] if (one["editor"], one["size"]) == (editor, size)]
    known: dict[str, Any] = {f"{name}_p": one["p"] for metrics in rows for name, one in metrics.items() if one}
    for best in (one["metrics"] for one in found.get("best", ()) if one["size"] == size):
        for name, one in best.items():
            if one and editor in (one["editor"], *one["p"]):
                known |= {f"{name}_best": one["editor"], f"{name}_best_p": one["p"].get(editor)}
    return {"reference": found["reference"], **known}


def _status(run: Run, editor: str, size: int, complete: int) -> tuple[str, str]:
    if complete:
        return ("complete" if complete == run.config["seeds"] else "partial"), ""
    failures = [one["reason"] for one in (run.summary or {}).get("failed", ()) if one["editor"] == editor]
    failures += [
        cell["reason"]
        for (name, _, edits), cell in run.cells.items()
        if (name, edits, cell["status"]) == (editor, size, "failed")
    ]
    return ("failed", str(failures[0])) if failures else ("missing", "not run to its end")


def _spread(name: str, interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _from_records(run: Run, editor: str, size: int, seeds: Sequence[int], summary: dict[str, Any]) -> dict[str, Any]:
    assert run.cases is not None
    cases = run.cases
    own = cases[(cases["editor"] == editor) & (cases["size"] == size) & cases["seed"].isin(seeds)]
    by_seed = [frame.sort_values("position") for _, frame in own.groupby("seed")]
    found: dict[str, Any] = {}
    for name in CASE_MEASURES:
        if name != "unedited_recall":
            values = [one[name].dropna().tolist() for one in by_seed]
            distinct = own.loc[own[name].notna(), "case_id"].nunique()
            found |= _spread(name, share_interval(values, distinct) if name in SHARES else mean_interval(values))
    cells = [run.cells[editor, seed, size] for seed in seeds if (editor, seed, size) in run.cells]
    if cells:
        found |= _spread("unedited_recall", share_interval([[float(x) for x in cell["recalled"]] for cell in cells]))
        found["memory"] = max(cell["peak_memory_bytes"] for cell in cells) / 2**20
        found["preparation_seconds"] = costs_of(cells).get("preparation_seconds")
    else:
        kept = _from_summary(summary, size)
        names = ("unedited_recall", "unedited_recall_low", "unedited_recall_high", "memory", "preparation_seconds")
        found |= {name: kept[name] for name in names if name in kept}
    seconds = [one["edit_seconds"].dropna().tolist() for one in by_seed]
    found |= _spread("edit_mean", mean_interval(seconds)) | _quantiles(latency(seconds))
    found["failed_edits"] = int(own["failed"].sum())
    if (own["outcome"] >= 0).any():
        found |= {name: int((own["outcome"] == code).sum()) for code, name in enumerate(OUTCOMES.values())}
    return _costs(found, editor, summary)


def _from_summary(row: dict[str, Any], size: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, interval in row["metrics"].items():
        share = interval and Interval(**interval)
        if share and name in SHARES and "undecided" not in row:
            share = no_narrower(share, size)  # runs before version 4 gave shares that agree no width
        found |= _spread(name, share)
    if row["edit_seconds"]:
        # The summary has no interval of the mean latency: it is given without one.
        found |= {"edit_mean": row["edit_seconds"]["mean"]} | _quantiles(row["edit_seconds"])
    found["memory"] = row["peak_memory_bytes"] / 2**20
    found["preparation_seconds"] = row.get("preparation_seconds")
    found["failed_edits"] = row["failed_edits"]
    if row.get("edit_outcomes"):
        found |= {name: row["edit_outcomes"].get(outcome, 0) for outcome, name in OUTCOMES.items()}
    return _costs(found, row["editor"], row)


def _quantiles(seconds: dict[str, float] | None) -> dict[str, float]:
    if seconds is None:
        return {}
    return {f"edit_{name}" if name in ("p50", "p95") else name: seconds[name] for name in _LATENCY}


def _costs(found: dict[str, Any], editor: str, summary: dict[str, Any]) -> dict[str, Any]:
    """Ratios to plain inference, which the summary holds; the no-edit row has no edit whose time means anything."""
    if editor == "none":
        for name in ("edit_mean", "edit_mean_low", "edit_mean_high", "edit_p50", "edit_p95", *_LATENCY[2:]):
            found.pop(name, None)
        found.pop("preparation_seconds", None)
    if summary.get("forward_seconds") and "edit_p50" in found:
        found["edit_forward_ratio"] = found["edit_p50"] / summary["forward_seconds"]
    if summary.get("inference_memory_bytes") and "memory" in found:
        found["memory_inference_ratio"] = found["memory"] * 2**20 / summary["inference_memory_bytes"]
    return found


def choose(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """One line for each editor, model, size and setting; where runs differ, the one with most seeds, then the latest.

    Returns:
        the lines kept, and a notice for every run that gave way.
    """
    key = ["editor", "model", *SETTING, "size"]
    ranked = rows.sort_values(["seeds", "started"], ascending=False, kind="stable")
    kept = ranked.drop_duplicates(key).sort_index()
    merged = rows.merge(kept[[*key, "run"]], on=key, suffixes=("", "_kept"))
    notices = [
        f"{old} and {new} both measured {', '.join(sorted(group['editor']))} on {group['model'].iloc[0]}: the tables "
        f"show {new} ({'more seeds' if group['seeds'].max() < _seeds(kept, new) else 'later'})"
        for (old, new), group in merged[merged["run"] != merged["run_kept"]].groupby(["run", "run_kept"])
    ]
    return kept.reset_index(drop=True), notices


def _seeds(rows: pd.DataFrame, run: str) -> int:
    return int(rows.loc[rows["run"] == run, "seeds"].max())
