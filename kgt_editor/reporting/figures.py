"""Figure 3 of the paper from runs, and two of ours: latency over the edits, efficacy against latency."""

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
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from kgt_editor.reporting.labels import beside
from kgt_editor.reporting.names import NO_EDIT, editor_label, in_order, seconds
from kgt_editor.reporting.style import FAINT, INK, RC, bar_lengths, look
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
        panel.errorbar(place + offset, mean, bar_lengths(mean, low, high), fmt="none", ecolor=INK, capsize=3, lw=1)
        label = None
    if label:  # nothing drawn: the legend still says which bar is missing
        panel.bar(np.nan, np.nan, 0.34, label=f"{label} (missing)", linewidth=1.2, **style)


#: For the caption of the latency figure.
LATENCY_CAPTION = (
    "Median over stretches of the sequence, all seeds; band: the middle 80 % of the edits. Dotted, without a band: "
    "medians of the first and the last tenth, of a run that has no records."
)


def latency_figure(cases: pd.DataFrame, rows: pd.DataFrame) -> Figure | None:
    """How long an edit takes as edits pile up: median over stretches of the sequence, middle 80 % as a band.

    Args:
        cases: from :func:`kgt_editor.reporting.frames.cases_frame`; of an editor whose run has no records the medians
            of the first and last tenth are drawn.
        rows: the lines of the same setting, model and size.

    Returns:
        None where no edit was timed.
    """
    ends, missing = [], []
    with mpl.rc_context(RC):
        figure = Figure(figsize=(6.4, 3.1))
        panel = figure.subplots()
        for editor in (name for name in in_order(rows["editor"]) if name != NO_EDIT):
            drawn, label = look(editor), editor_label(editor)
            centres, low, middle, high = _course(cases, rows, editor)
            if not centres:
                missing.append((f"{label} (missing)", drawn.colour))
                continue
            style: dict[str, Any] = {"color": drawn.colour, "marker": drawn.mark, "markersize": 3.5}
            line = drawn.line if low else ":"
            panel.plot(centres, middle, label=label, linestyle=line, markerfacecolor=drawn.face, **style)
            if low:
                panel.fill_between(centres, low, high, color=drawn.colour, alpha=0.15, linewidth=0)
            ends.append((middle[-1], label, drawn.colour))
        if not panel.lines:
            return None
        panel.set_yscale("log")
        _time_axis(panel.yaxis, 12)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.set_xlabel("edits made before")
        panel.set_title("Wall time of an edit")
        lowest = panel.get_ylim()[0]
        beside(panel, [*ends, *((lowest, name, colour) for name, colour in missing)], 2.4)
    return figure


_Course = tuple[list[float], list[float], list[float], list[float]]


def _course(cases: pd.DataFrame, rows: pd.DataFrame, editor: str) -> _Course:
    """Places, lower ends, medians and upper ends; without ends where only the first and last tenth are known."""
    own = cases.loc[cases["editor"] == editor, ["position", "edit_seconds"]].dropna() if len(cases) else cases
    if own.empty:
        row = rows[rows["editor"] == editor].iloc[0]
        if "first_tenth_p50" not in row or pd.isna(row["first_tenth_p50"]):
            return [], [], [], []
        return [0.05 * row["size"], 0.95 * row["size"]], [], [row["first_tenth_p50"], row["last_tenth_p50"]], []
    width = max(1, int(np.ceil((own["position"].max() + 1) / _BINS)))
    stretches = own.groupby(own["position"] // width)
    spread = stretches["edit_seconds"].quantile([0.1, 0.5, 0.9]).unstack()
    return stretches["position"].mean().tolist(), *(spread[q].tolist() for q in (0.1, 0.5, 0.9))


def _time_axis(axis: Axis, most: int) -> None:
    """Ticks in seconds, ``most`` or so: at 1, 2 and 5 of every power of ten, at powers alone where these are many."""

    def tick(value: float, _: int) -> str:
        return re.sub(r"\.0+(?= )", "", seconds(value))

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 2, 5), numticks=most))
    axis.set_major_formatter(FuncFormatter(tick))
    axis.set_minor_locator(NullLocator())


#: For the caption of the cost figure.
COST_CAPTION = (
    "Left and high is better, and little memory; bars: 95 % intervals. Memory: the highest while an edit runs."
)


def cost_figure(rows: pd.DataFrame) -> Figure | None:
    """Efficacy against the median latency of an edit, and beside it the memory that an edit takes, a line an editor.

    Args:
        rows: one setting, model and size.

    Returns:
        None where no edit was timed.
    """
    timed = rows[(rows["editor"] != NO_EDIT) & rows.get("edit_p50", pd.Series(np.nan, rows.index)).notna()]
    if timed.empty:
        return None
    editors = in_order(timed["editor"])
    untimed = [editor_label(name) for name in in_order(set(rows["editor"]) - set(editors) - {NO_EDIT})]
    with mpl.rc_context(RC):
        figure = Figure(figsize=(6.4, max(3.1, 0.8 + 0.2 * len(editors))))
        panel, memory = figure.subplots(1, 2, width_ratios=[3, 2])
        for place, editor in enumerate(editors):
            row = timed[timed["editor"] == editor].iloc[0]
            drawn = look(editor)
            x, y = row["edit_p50"], 100 * row["efficacy_score"]
            spread = bar_lengths(y, 100 * row["efficacy_score_low"], 100 * row["efficacy_score_high"])
            panel.errorbar(x, y, spread, fmt="none", ecolor=drawn.colour, capsize=2, lw=1, alpha=0.6, zorder=2)
            style: dict[str, Any] = {
                "color": drawn.colour,
                "markerfacecolor": drawn.face,
                "linestyle": "none",
                "zorder": 4,
            }
            panel.plot(x, y, marker=drawn.mark, label=editor_label(editor), **style)
            memory.plot(row["memory"], place, marker=drawn.mark, label=editor_label(editor), **style)
            memory.annotate(f"{row['memory']:,.0f}", (row["memory"], place), (5, 0), textcoords="offset points",
                            va="center", fontsize=7)  # fmt: skip
        panel.set_xscale("log")
        panel.margins(x=0.15)
        _time_axis(panel.xaxis, 5)
        panel.set_ylim(-4, 108)
        panel.set_xlabel("median wall time of an edit")
        panel.set_title("Efficacy score (%)")
        memory.set_yticks(range(len(editors)), [editor_label(name) for name in editors])
        memory.set_ylim(len(editors) - 0.5, -0.5)
        memory.set_xlim(0, 1.25 * timed["memory"].max())
        memory.xaxis.set_major_locator(MaxNLocator(3))
        memory.set_xlabel("MiB while an edit runs")
        memory.set_title("Memory")
        for text, editor in zip(memory.get_yticklabels(), editors, strict=True):
            text.set_color(look(editor).colour)
        if untimed:
            figure.supxlabel(f"missing: {', '.join(untimed)}", color=FAINT, fontsize=7.5)
    return figure
