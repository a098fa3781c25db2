"""A table of one number for each pair of classes: its page, its colours, the names beside it.

What may be added here: tables of two lists of names.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxstruct.figures import _style

_CELL_INCHES = 0.42  # the most that a row of many is high
_TABLE_INCHES = 2.2  # the least that all rows are
_BESIDE = 1.5  # inches to the left of the names and to the right of the cells
LEAST_POINTS = 7


class Table(NamedTuple):
    """A figure, its axes in cells, and a cell's size in inches."""

    figure: Figure
    axes: Axes
    width: float
    height: float

    def points(self, widest: str) -> int:
        """The size of type in which the widest of the numbers fits into a cell."""
        points = _style.TICK_POINTS
        across = points * 0.85 * self.width / _style.text_inches(widest, points)
        return int(min(points, across, 72 * self.height / 1.3))


def class_table(
    values: np.ndarray,
    names: Sequence[str],
    *,
    colors: str,
    limits: tuple[float, float],
    quantity: str,
    labels: tuple[str, str],
    title: str | None = None,
) -> Table:
    """Draws values [C, C], NaN as nothing, in a colour map between limits.

    `labels` are those of the columns and of the rows, `quantity` is that of the colour bar.
    """
    number, points = len(names), _style.TICK_POINTS
    longest = max(_style.text_inches(name, points) for name in names)
    width = (_style.PAGE_INCHES - longest - _BESIDE) / number
    height = max(min(width, _CELL_INCHES), 1.25 * points / 72, _TABLE_INCHES / number)
    upright = longest + 0.1 > width
    below = 0.5 + longest * upright
    figure = Figure(
        (_style.PAGE_INCHES, number * height + below + 0.3 * bool(title)),
        _style.DPI,
        layout="constrained",
    )
    axes = figure.subplots()
    drawn = axes.pcolormesh(
        values, cmap=colors, vmin=limits[0], vmax=limits[1], edgecolors="0.9", linewidth=0.4
    )
    axes.invert_yaxis()
    middles = np.arange(number) + 0.5
    axes.set_xticks(middles, names, rotation=90 if upright else 0)
    axes.set_yticks(middles, names)
    axes.tick_params(labelsize=points, length=0)
    if upright:
        axes.tick_params("x", labelsize=min(points, 72 * width / 1.25))
    axes.spines[:].set_visible(False)
    axes.set_xlabel(labels[0], fontsize=_style.TEXT_POINTS)
    axes.set_ylabel(labels[1], fontsize=_style.TEXT_POINTS)
    bar = figure.colorbar(drawn, fraction=0.03, pad=0.02, aspect=number * height / 0.18)
    bar.set_label(quantity, fontsize=_style.TEXT_POINTS)
    bar.ax.tick_params(labelsize=points)
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=_style.TEXT_POINTS)
    return Table(figure, axes, width, height)
