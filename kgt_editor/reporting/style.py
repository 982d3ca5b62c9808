"""One look for all figures: colours that colour-blind readers tell apart, marks and lines that grey print does."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#1f2933"  # text and axes; the page replaces it with its own text colour
FAINT = "#8a949e"

# Okabe and Ito's palette (2008), its yellow darkened to be seen on white.
_COLOURS = {
    "kgt": "#0072B2",
    "ft": "#E69F00",
    "rome": "#D55E00",
    "ke": "#CC79A7",
    "kn": "#56B4E9",
    "mend": "#009E73",
    "none": "#7F7F7F",
    "icl": "#A89500",
    "oppu": "#6A4C93",
    "locft": "#8C564B",
    "memit": "#B22222",
    "alphaedit": "#3B3EAC",
    "ultraedit": "#4D7C0F",
}
_MARKS = {
    "kgt": "o", "ft": "s", "rome": "^", "ke": "D", "kn": "v", "mend": "P", "none": "x", "icl": "*", "oppu": "h",
    "locft": "d", "memit": "<", "alphaedit": ">", "ultraedit": "p",
}  # fmt: skip
_OTHER_COLOURS = ("#44475A", "#7B1E3A", "#004D40", "#AA4499", "#332288", "#117733")
_OTHER_MARKS = ("H", "8", "X", "1", "2", "+")
_PRESETS: tuple[tuple[str, Any], ...] = (
    ("D", (0, (1.5, 1.5))),
    ("o", (0, (5, 2))),
    ("^", (0, (6, 2, 1.5, 2))),
    ("s", (0, (3, 1))),
    ("v", (0, (8, 2))),
)


@dataclass(frozen=True)
class Look:
    """How an editor is drawn, in every figure and on the page.

    A preset has its editor's colour, a hollow mark of its own and a broken line.
    """

    colour: str
    mark: str
    line: Any
    hollow: bool


def look(editor: str) -> Look:
    """The look of an editor; one that is not ours gets a colour of its name's own."""
    base, _, preset = editor.partition(":")
    other = zlib.crc32(base.encode()) % len(_OTHER_COLOURS)
    mark, line = _MARKS.get(base, _OTHER_MARKS[other]), "-"
    if preset:
        mark, line = _PRESETS[zlib.crc32(preset.encode()) % len(_PRESETS)]
    return Look(_COLOURS.get(base, _OTHER_COLOURS[other]), mark, line, hollow=bool(preset))


#: For ``matplotlib.rc_context``: vector text as outlines, so that a file looks the same everywhere.
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "hatch.linewidth": 0.7,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "kgt_editor",
    "pdf.fonttype": 42,
}


_PNG_DPI = 200
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


def save(figure: Figure, target: Path | IO[str], kind: str) -> None:
    """Write a figure as svg, pdf or png: the same bytes for the same figure, on any day."""
    with mpl.rc_context(RC):  # ids and fonts of a file are decided when it is written
        figure.savefig(target, format=kind, dpi=_PNG_DPI, metadata=_UNDATED[kind], transparent=kind == "svg")
