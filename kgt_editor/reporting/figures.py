"""Figures 3 and 4 of the paper from runs, and two of ours: latency over the edits, efficacy against latency."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from kgt_editor.reporting.names import NO_EDIT, editor_label, in_order, seconds
from kgt_editor.reporting.style import FAINT, INK, RC, look
from kgt_editor.reporting.tables import model_label

_PANELS = {"efficacy_score": "Efficacy score (%)", "paraphrase_score": "Paraphrase score (%)"}
_BINS = 20  # of positions, in the latency figure
_FEEDBACK = {False: "relations found by the model", True: "relations given by the user"}


def figure_3(rows: pd.DataFrame) -> Figure | None:
    """KGT with and without the user's feedback on relations (Figure 3): bars with 95 % intervals, a group a model.

    Args:
        rows: one setting and size, from :func:`kgt_editor.reporting.frames.choose`.

    Returns:
        None where no row is KGT's.
    """
    kgt = rows[rows["editor"].str.partition(":")[0] == "kgt"]
    if kgt.empty:
        return None
    # The default and the preset that differs from it in the source of relations only; other presets are other methods.
    kinds = {False: kgt[kgt["editor"] == "kgt"], True: kgt[kgt["relation_source"] == "user"]}
    models = list(dict.fromkeys(rows["model"]))
    with mpl.rc_context(RC):
        figure = Figure(figsize=(6.4, 3.1))
        axes = figure.subplots(1, 2, sharey=True)
        for panel, (measure, title) in zip(axes, _PANELS.items(), strict=True):
            for offset, (user_named, found) in zip((-0.19, 0.19), kinds.items(), strict=True):
                _bars(panel, found, models, measure, offset, user_named)
            panel.set_title(title)
            panel.set_xticks(range(len(models)), [model_label(model) for model in models])
            panel.tick_params(axis="x", length=0)
            panel.grid(axis="x", visible=False)
            panel.set_ylim(0, 105)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return figure


def _bars(
    panel: Axes, found: pd.DataFrame, models: Sequence[str], measure: str, offset: float, user_named: bool
) -> None:
    colour = look("kgt").colour
    style: dict[str, Any] = {
        "facecolor": "none" if user_named else colour,
        "edgecolor": colour,
        "hatch": "////" if user_named else "",
    }
    label: str | None = f"KGT, {_FEEDBACK[user_named]}"
    for place, model in enumerate(models):
        row = found[(found["model"] == model) & (found["seeds"] > 0)]
        if row.empty:
            panel.bar(place + offset, 100, 0.34, facecolor="none", edgecolor=FAINT, linestyle=":", linewidth=0.8)
            panel.text(place + offset, 50, "missing", rotation=90, ha="center", va="center", color=FAINT)
            continue
        mean, low, high = (100 * row[f"{measure}{end}"].iloc[0] for end in ("", "_low", "_high"))
        panel.bar(place + offset, mean, 0.34, label=label, linewidth=1.2, **style)
        panel.errorbar(place + offset, mean, _ends(mean, low, high), fmt="none", ecolor=INK, capsize=3, lw=1)
        label = None
    if label:  # nothing drawn: the legend still says which bar is missing
        panel.bar(np.nan, np.nan, 0.34, label=f"{label} (missing)", linewidth=1.2, **style)


def _ends(mean: Any, low: Any, high: Any) -> Any:
    """Lengths of error bars, shape (2, n); rounding may put a mean a hair outside of its interval."""
    return np.clip(np.array([mean - low, high - mean], dtype=float).reshape(2, -1), 0, None)


def figure_4(rows: pd.DataFrame) -> Figure:
    """Scores against the number of edits (Figure 4): a line an editor, log axis, the 95 % interval as a band.

    A size that other editors have and this one lacks breaks its line and is marked with a cross on the axis.

    Args:
        rows: one setting and one model, all sizes.
    """
    sizes = sorted(rows["size"].unique())
    editors = in_order(rows["editor"])
    with mpl.rc_context(RC):
        figure = Figure(figsize=(6.4, 3.1))
        axes = figure.subplots(1, 2, sharey=True)
        missing = False
        for panel, (measure, title) in zip(axes, _PANELS.items(), strict=True):
            for editor in editors:
                own = rows[rows["editor"] == editor].set_index("size").reindex(sizes)
                missing |= _line(panel, own, editor, measure)
            panel.set_title(title)
            panel.set_xlabel("number of edits")
            _log_sizes(panel, sizes)
            panel.set_ylim(-4, 104)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
        if missing:
            axes[0].annotate("crosses on the axis: not measured", (0, 0), (0, -34), xycoords="axes fraction",
                             textcoords="offset points", color=FAINT, fontsize=7)  # fmt: skip
    return figure


def _line(panel: Axes, own: pd.DataFrame, editor: str, measure: str) -> bool:
    """One editor's line; returns whether it lacks a size."""
    drawn = look(editor)
    mean, low, high = (100 * own[f"{measure}{end}"].astype(float) for end in ("", "_low", "_high"))
    face = "none" if drawn.hollow else drawn.colour
    style: dict[str, Any] = {"color": drawn.colour, "marker": drawn.mark, "linestyle": drawn.line}
    none_known = mean.isna().all()
    label = editor_label(editor) + (" (missing)" if none_known else "")
    panel.plot(own.index, mean, label=label, markerfacecolor=face, zorder=3, **style)
    if len(own) > 1:
        panel.fill_between(own.index, low, high, color=drawn.colour, alpha=0.15, linewidth=0)
    else:
        panel.errorbar(own.index, mean, _ends(mean, low, high), fmt="none", ecolor=drawn.colour, capsize=3, lw=1)
    gaps = own.index[mean.isna()]
    if len(gaps):
        panel.plot(gaps, [0] * len(gaps), "x", color=drawn.colour, markersize=6, clip_on=False,
                   transform=panel.get_xaxis_transform(), zorder=4)  # fmt: skip
    return len(gaps) > 0


def _log_sizes(panel: Axes, sizes: Sequence[int]) -> None:
    panel.set_xscale("log")
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
    panel.xaxis.set_minor_formatter(NullFormatter())
    if len(sizes) == 1:
        panel.set_xlim(sizes[0] / 2, sizes[0] * 2)


def latency_figure(cases: pd.DataFrame, rows: pd.DataFrame) -> Figure | None:
    """How long an edit takes as edits pile up: median over stretches of the sequence, middle 80 % as a band.

    Args:
        cases: one run's, from :func:`kgt_editor.reporting.frames.cases_frame`; empty where it has no records: the
            medians of its first and last tenth are drawn then.
        rows: the same run's lines.

    Returns:
        None where no edit was timed.
    """
    editors = [name for name in in_order(rows["editor"]) if name != NO_EDIT]
    with mpl.rc_context(RC):
        figure = Figure(figsize=(6.4, 3.1))
        panel = figure.subplots()
        for editor in editors:
            drawn, label = look(editor), editor_label(editor)
            centres, low, middle, high = _course(cases, rows, editor)
            if not centres:
                label += " (missing)"
            face = "none" if drawn.hollow else drawn.colour
            style: dict[str, Any] = {"color": drawn.colour, "marker": drawn.mark, "markersize": 3.5}
            panel.plot(centres, middle, label=label, linestyle=drawn.line, markerfacecolor=face, **style)
            if low:
                panel.fill_between(centres, low, high, color=drawn.colour, alpha=0.15, linewidth=0)
        if not any(len(line.get_xdata()) for line in panel.lines):  # type: ignore[arg-type]
            return None
        panel.set_yscale("log")
        _time_axis(panel.yaxis)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.set_xlabel("edits made before")
        panel.set_title("Wall time of an edit")
        figure.legend(loc="outside right center")
    return figure


_Course = tuple[list[float], list[float], list[float], list[float]]


def _course(cases: pd.DataFrame, rows: pd.DataFrame, editor: str) -> _Course:
    if cases.empty:
        row = rows[rows["editor"] == editor].iloc[0]
        if "first_tenth_p50" not in row or pd.isna(row["first_tenth_p50"]):
            return [], [], [], []
        return [0.05 * row["size"], 0.95 * row["size"]], [], [row["first_tenth_p50"], row["last_tenth_p50"]], []
    own = cases.loc[cases["editor"] == editor, ["position", "edit_seconds"]].dropna()
    if own.empty:
        return [], [], [], []
    width = max(1, int(np.ceil((own["position"].max() + 1) / _BINS)))
    stretches = own.groupby(own["position"] // width)
    spread = stretches["edit_seconds"].quantile([0.1, 0.5, 0.9]).unstack()
    return stretches["position"].mean().tolist(), *(spread[q].tolist() for q in (0.1, 0.5, 0.9))


def _time_axis(axis: Axis) -> None:
    def tick(value: float, _: int) -> str:
        return re.sub(r"\.0+(?= )", "", seconds(value))

    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(FuncFormatter(tick))
    axis.set_minor_locator(NullLocator())


def cost_figure(rows: pd.DataFrame) -> Figure | None:
    """Efficacy against the median latency of an edit; the area of a mark is the memory the edit takes.

    Args:
        rows: one setting, model and size.

    Returns:
        None where no edit was timed.
    """
    timed = rows[(rows["editor"] != NO_EDIT) & rows.get("edit_p50", pd.Series(np.nan, rows.index)).notna()]
    if timed.empty:
        return None
    untimed = [editor_label(name) for name in in_order(set(rows["editor"]) - set(timed["editor"]) - {NO_EDIT})]
    top = timed["memory"].max()
    with mpl.rc_context(RC):
        figure = Figure(figsize=(6.4, 3.1))
        panel = figure.subplots()
        for editor in in_order(timed["editor"]):
            row = timed[timed["editor"] == editor].iloc[0]
            drawn = look(editor)
            x, y = row["edit_p50"], 100 * row["efficacy_score"]
            spread = _ends(y, 100 * row["efficacy_score_low"], 100 * row["efficacy_score_high"])
            panel.errorbar(x, y, spread, fmt="none", ecolor=drawn.colour, capsize=2, lw=1, zorder=2)
            panel.scatter(x, y, 420 * row["memory"] / top, facecolor="none" if drawn.hollow else drawn.colour,
                          edgecolor=drawn.colour, alpha=1 if drawn.hollow else 0.5, linewidth=1.4, zorder=3,
                          clip_on=False)  # fmt: skip
            label = f"{editor_label(editor)}, {row['memory']:,.0f} MiB"
            face = "none" if drawn.hollow else drawn.colour
            style: dict[str, Any] = {"color": drawn.colour, "markerfacecolor": face, "linestyle": "none", "zorder": 4}
            panel.plot(x, y, marker=drawn.mark, label=label, **style)
        panel.set_xscale("log")
        _time_axis(panel.xaxis)
        panel.margins(x=0.15)
        panel.set_ylim(-4, 108)
        panel.set_xlabel("median wall time of an edit")
        panel.set_title("Efficacy score (%); area: memory while editing")
        figure.legend(loc="outside right center")
        if untimed:
            figure.supxlabel(f"missing: {', '.join(untimed)}", color=FAINT, fontsize=7.5)
    return figure
