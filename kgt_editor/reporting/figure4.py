"""Figure 4 of the paper from runs: scores against the number of edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import ScaledTranslation

from kgt_editor.reporting.labels import beside
from kgt_editor.reporting.names import NO_EDIT, editor_label, in_order
from kgt_editor.reporting.style import ELSE, FAINT, FAMILIES, MISSING, RC, bar_lengths, family, look

_SCORES = {"efficacy_score": "Efficacy score (%)", "paraphrase_score": "Paraphrase score (%)"}
_REFERENCES = ("kgt", NO_EDIT)  # in every panel
_ASIDE = 2.5  # points by which the next editor stands to the right

#: For the caption of a figure.
CAPTION = (
    "All scores are taken after the last edit; bars: 95 % intervals. A panel for each kind of editor, KGT and the "
    "unedited model in all of them. Editors stand a little aside of each other at the same number of edits, and labels "
    "that would cover each other are drawn apart, in the order of the last points."
)


def figure_4(rows: pd.DataFrame) -> Figure:
    """Scores against the number of edits (Figure 4): a line an editor, log axis, 95 % intervals as bars.

    A size that other editors have and this one lacks breaks its line and is marked with a cross on the axis.

    Args:
        rows: one setting and one model, all sizes.
    """
    sizes = sorted(rows["size"].unique())
    editors = in_order(rows["editor"])
    kinds = [kind for kind in (*FAMILIES, ELSE) if any(_is_of(kind, name) for name in editors)] or [ELSE]
    # A data set may have no paraphrases.
    scores = {name: title for name, title in _SCORES.items() if name in rows and rows[name].notna().any()} or _SCORES
    with mpl.rc_context(RC):
        figure = Figure(figsize=(max(6.4, 3.1 * len(kinds)), 0.4 + 2.4 * len(scores)))
        grid = figure.subplots(len(scores), len(kinds), sharey=True, squeeze=False)
        missing = False
        for line, (measure, title) in zip(grid, scores.items(), strict=True):
            for panel, kind in zip(line, kinds, strict=True):
                shown = [name for name in editors if name in _REFERENCES or _is_of(kind, name)]
                missing |= _panel(panel, rows, shown, sizes, measure)
            line[0].set_ylabel(title)
        for panel, kind in zip(grid[0], kinds, strict=True):
            panel.set_title(kind)
        for panel in grid[-1]:
            panel.set_xlabel("number of edits")
        if missing:
            grid[-1][0].annotate("crosses on the axis: not measured", (0, 0), (0, -36), xycoords="axes fraction",
                                 textcoords="offset points", color=FAINT, fontsize=7)  # fmt: skip
    return figure


def _is_of(kind: str, editor: str) -> bool:
    return editor not in _REFERENCES and family(editor) == kind


def _panel(panel: Axes, rows: pd.DataFrame, editors: Sequence[str], sizes: Sequence[int], measure: str) -> bool:
    """Draw one measure of some editors; returns whether one of them lacks a size."""
    ends, missing = [], False
    for place, editor in enumerate(editors):
        own = rows[rows["editor"] == editor].set_index("size").reindex(sizes)
        aside = _ASIDE * (place - (len(editors) - 1) / 2)
        missing |= _line(panel, own, editor, measure, aside)
        known = own[measure].astype(float).dropna()
        label = editor_label(editor) + ("" if len(known) else " (missing)")
        ends.append((float(100 * known.iloc[-1]) if len(known) else 0.0, label, look(editor).colour))
    panel.set_xscale("log")
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
    panel.xaxis.set_minor_formatter(NullFormatter())
    room = 1.5 if len(sizes) > 1 else 2
    panel.set_xlim(sizes[0] / room, sizes[-1] * room)
    panel.set_ylim(-4, 104)
    beside(panel, ends, 1.9)
    return missing


def _line(panel: Axes, own: pd.DataFrame, editor: str, measure: str, aside: float) -> bool:
    """One editor's line; returns whether it lacks a size."""
    drawn = look(editor)
    mean, low, high = (100 * own[f"{measure}{end}"].astype(float) for end in ("", "_low", "_high"))
    style: dict[str, Any] = {"color": drawn.colour, "marker": drawn.mark, "linestyle": drawn.line}
    figure = panel.get_figure(root=True)
    assert figure is not None
    shift = ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
    panel.errorbar(own.index, mean, bar_lengths(mean, low, high), fmt="none", ecolor=drawn.colour, elinewidth=0.8,
                   capsize=2, alpha=0.6, transform=panel.transData + shift)  # fmt: skip
    panel.plot(own.index, mean, label=editor_label(editor), markerfacecolor=drawn.face, zorder=3,
               transform=panel.transData + shift, **style)  # fmt: skip
    gaps = own.index[mean.isna()]
    if len(gaps):
        panel.plot(gaps, [0] * len(gaps), MISSING, color=drawn.colour, markersize=6, clip_on=False,
                   transform=panel.get_xaxis_transform() + shift, zorder=4)  # fmt: skip
    return len(gaps) > 0
