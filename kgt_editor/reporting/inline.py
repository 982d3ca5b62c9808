"""Figures inside a page: named for screen readers, with their numbers as a table, and with a text for every line."""

from __future__ import annotations

import re
from html import escape
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kgt_editor.reporting.style import INK

_SERIES = "series-"


class Point(NamedTuple):
    """A number that a figure shows: in which panel, of what, where and how much."""

    panel: str
    series: str
    x: str
    y: str


def numbers(figure: Figure) -> list[Point]:
    """All points of a figure's lines and bars that have a name."""
    found = []
    for panel in figure.axes:
        name = _name(panel)
        for line in _lines(panel):
            label, pairs = str(line.get_label()), _pairs(line)
            found += [Point(name, label, x, y) for x, y in pairs]
        ticks = {tick.get_position()[0]: tick.get_text() for tick in panel.get_xticklabels()}
        for bars in (one for one in panel.containers if isinstance(one, BarContainer)):
            for bar in bars.patches:
                if bar.get_height() == bar.get_height():
                    place = min(ticks, key=lambda at: abs(at - bar.get_x() - bar.get_width() / 2), default=0.0)
                    label = str(bars.get_label())
                    if not label.startswith("_"):
                        found.append(Point(name, label, ticks.get(place, ""), _short(bar.get_height())))
    return found


def name_lines(figure: Figure) -> dict[str, str]:
    """Give every line that has a name an id for the SVG.

    Returns:
        id -> what a pointer over the line is told.
    """
    told = {}
    for number, line in enumerate(line for panel in figure.axes for line in _lines(panel)):
        identity = f"{_SERIES}{number}"
        line.set_gid(identity)
        pairs = _pairs(line)
        shown = pairs if len(pairs) <= 8 else [*pairs[:4], ("\N{HORIZONTAL ELLIPSIS}", ""), *pairs[-4:]]
        told[identity] = f"{line.get_label()}: " + ", ".join(f"{x}: {y}" if y else x for x, y in shown)
    return told


def inline_svg(text: str, title: str, stem: str, told: dict[str, str]) -> str:
    """SVG for use inside a page.

    Args:
        text: the SVG file.
        title: its name for screen readers.
        stem: begins its ids, which no other figure of the page may have.
        told: from :func:`name_lines`.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    for identity, line in told.items():
        body = body.replace(f'<g id="{identity}">', f'<g id="{identity}"><title>{escape(line)}</title>', 1)
    prefix = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}.", body)
    body = body.replace(INK, "currentColor")
    return body.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def table(points: list[Point]) -> str:
    """The numbers as a table behind a line to be opened; empty where there are none."""
    if not points:
        return ""
    rows = "".join(f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in point)}</tr>" for point in points)
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("panel", "row", "at", "value"))
    return (
        "<details><summary>The numbers in this figure</summary>"
        f'<div class="scroll" tabindex="0"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</details>"
    )


def _name(panel: Axes) -> str:
    return ", ".join(filter(None, (panel.get_title("left") or panel.get_title(), panel.get_ylabel())))


def _lines(panel: Axes) -> list[Line2D]:
    return [line for line in panel.lines if not str(line.get_label()).startswith("_")]


def _pairs(line: Line2D) -> list[tuple[str, str]]:
    places, values = (np.asarray(data, dtype=float).tolist() for data in (line.get_xdata(), line.get_ydata()))
    return [(_short(x), _short(y)) for x, y in zip(places, values, strict=True) if y == y]


def _short(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
