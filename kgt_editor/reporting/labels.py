"""Editors' names beside the ends of their lines, in place of a legend."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

_LINE = 10.5 / 72  # inches that a label takes


def beside(panel: Axes, ends: Sequence[tuple[float, str, str]], height: float) -> None:
    """Write names right of the axes, each at the height of its line's last point or as near as the others let it.

    Args:
        panel: with its scales and limits set.
        ends: the last value, the name and the colour, of each line.
        height: of the panel, about, in inches.
    """

    def share(value: float) -> float:
        """How far up the axes a value is."""
        x = panel.get_xlim()[0]
        return float(panel.transAxes.inverted().transform(panel.transData.transform((x, value)))[1])

    ordered = sorted((share(value), name, colour) for value, name, colour in ends)
    places = apart([at for at, _, _ in ordered], _LINE / height, 1.0)
    for (at, name, colour), place in zip(ordered, places, strict=True):
        panel.plot([1.0, 1.04], [at, place], color=colour, lw=0.7, clip_on=False, transform=panel.transAxes)
        panel.annotate(name, (1.05, place), xycoords="axes fraction", va="center", color=colour, fontsize=7.5)


def apart(heights: Sequence[float], least: float, highest: float) -> list[float]:
    """Places for labels, at least ``least`` apart and as near to ``heights`` as that lets them be.

    Args:
        heights: rising.
        least: the distance.
        highest: where the topmost one may stand.

    Labels that touch become a block, which stands at the mean of what its members want; blocks that touch join.
    """
    blocks: list[tuple[float, int]] = []  # where the first member stands, how many there are
    for height in heights:
        blocks.append((min(height, highest), 1))
        while len(blocks) > 1 and _end(blocks[-2], least) > blocks[-1][0]:
            start, count = blocks.pop()
            before, members = blocks.pop()
            joined = (before * members + (start - members * least) * count) / (members + count)
            total = members + count
            blocks.append((min(joined, highest - (total - 1) * least), total))
    return [start + number * least for start, count in blocks for number in range(count)]


def _end(block: tuple[float, int], least: float) -> float:
    """Where the next label after a block may stand."""
    return block[0] + block[1] * least
