"""One look for all figures: colours that colour-blind readers tell apart, marks and lines that grey print does."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

INK = "#1f2933"  # text and axes; the page replaces it with its own text colour
FAINT = "#8a949e"

# Of contrast 3:1 and more with the page's ground in both themes (WCAG 2.2, 1.4.11), and told apart by deuteranopes
# within each of FAMILIES; found by search near Okabe and Ito's hues (2008). In grey, marks and labels tell them apart.
_COLOURS = {
    "kgt": "#006CC5",
    "ft": "#786D0D",
    "rome": "#EE3807",
    "ke": "#CF33B1",
    "kn": "#239FC5",
    "mend": "#28A660",
    "none": "#6C6C6C",
    "icl": "#A05C09",
    "oppu": "#8E3BFD",
    "locft": "#E56C04",
    "memit": "#F55F83",
    "alphaedit": "#3B57FC",
    "ultraedit": "#41791E",
}
#: What is never an editor's mark: it says that a number is missing.
MISSING = "x"
_MARKS = {
    "kgt": "o", "ft": "s", "rome": "^", "ke": "D", "kn": "v", "mend": "P", "none": ".", "icl": "*", "oppu": "h",
    "locft": "d", "memit": "<", "alphaedit": ">", "ultraedit": "p",
}  # fmt: skip
_OTHER_COLOURS = ("#5C7080", "#B0415F", "#0F7F6C", "#AA4499", "#6A5ACD", "#117733")
_OTHER_MARKS = ("H", "8", "1", "2", "3", "4")
_PRESETS: tuple[tuple[str, Any], ...] = (
    ("D", (0, (1.5, 1.5))),
    ("o", (0, (5, 2))),
    ("^", (0, (6, 2, 1.5, 2))),
    ("s", (0, (3, 1))),
    ("v", (0, (8, 2))),
)


#: Editors that are drawn in one panel, by what they have in common; KGT and the unedited model stand in each of them.
FAMILIES = {
    "Read, weights as they were": ("kgt", "icl"),
    "Weights at one place": ("rome", "memit", "alphaedit", "ultraedit", "kn"),
    "Fine-tuned or trained": ("ft", "locft", "oppu", "mend", "ke"),
}
#: The panel of all others.
ELSE = "Others"


def family(editor: str) -> str:
    """The panel that an editor is drawn in."""
    base = editor.partition(":")[0]
    return next((name for name, members in FAMILIES.items() if base in members), ELSE)


@dataclass(frozen=True)
class Look:
    """How an editor is drawn, in every figure and on the page.

    A preset has its editor's colour, a hollow mark of its own and a broken line.
    """

    colour: str
    mark: str
    line: Any
    hollow: bool

    @property
    def face(self) -> str:
        """What its mark is filled with."""
        return "none" if self.hollow else self.colour


def look(editor: str) -> Look:
    """The look of an editor; one that is not ours gets a colour of its name's own."""
    base, _, preset = editor.partition(":")
    other = zlib.crc32(base.encode()) % len(_OTHER_COLOURS)
    mark, line = _MARKS.get(base, _OTHER_MARKS[other]), "-"
    if preset:
        mark, line = _PRESETS[zlib.crc32(preset.encode()) % len(_PRESETS)]
    return Look(_COLOURS.get(base, _OTHER_COLOURS[other]), mark, line, hollow=bool(preset))


def bar_lengths(mean: Any, low: Any, high: Any) -> Any:
    """Lengths of error bars, shape (2, n); rounding may put a mean a hair outside of its interval."""
    return np.clip(np.array([mean - low, high - mean], dtype=float).reshape(2, -1), 0, None)


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
