"""Which class is taken for which, as a table of shares in colours and numbers.

What may be added here: another table of one number for each pair of classes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxstruct.figures import _style

_CELL_INCHES = 0.42  # the most that a row of many is high
_TABLE_INCHES = 2.2  # the least that all rows are
_BESIDE = 1.5  # inches to the left of the names and to the right of the cells
_LEAST_POINTS = 7
_ABSENT = "0.88"  # the grey of the row of a class that no label has


def confusion_matrix(
    counts: ArrayLike, names: Sequence[str], *, title: str | None = None
) -> Figure:
    """Draws which share of each true class was taken for which class.

    Each row is divided by its sum. Numbers are whole per cent, where a cell has room for three
    digits; those that round to 0 are left out. The row of a class that no label has is grey and
    says so.

    Args:
        counts: [C, C], how many pixels (or examples) of class i, the row, were taken for class j;
            `metrics.Confusion.counts` is such an array.
        names: of the C classes.
        title: above all.

    Returns:
        a Figure.

    Raises:
        ValueError: counts of another shape, below 0 or not finite, or no count above 0.

    Source: the rows' diagonal is the accuracy by class of Long et al. 2015 (FCN), section 5.
    """
    table = np.asarray(counts, float)
    number = len(names)
    if number < 1 or table.shape != (number, number):
        wanted = "one shape [C, C]" if number else "at least one"
        raise ValueError(f"got counts {table.shape} of {number} names, expected {wanted}")
    if not (np.isfinite(table).all() and (table >= 0).all()):
        raise ValueError(f"got counts from {table.min()} to {table.max()}, expected at least 0")
    sums = table.sum(1, keepdims=True)
    if not sums.any():
        raise ValueError("got counts of 0 alone, expected at least one labelled pixel")
    per_cent = np.divide(100 * table, sums, out=np.full_like(table, np.nan), where=sums > 0)

    points = _style.TICK_POINTS
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
    axes.set_facecolor(_ABSENT)
    drawn = axes.pcolormesh(
        per_cent, cmap="Blues", vmin=0, vmax=100, edgecolors="0.9", linewidth=0.4
    )
    axes.invert_yaxis()
    middles = np.arange(number) + 0.5
    axes.set_xticks(middles, names, rotation=90 if upright else 0)
    axes.set_yticks(middles, names)
    axes.tick_params(labelsize=points, length=0)
    if upright:
        axes.tick_params("x", labelsize=min(points, 72 * width / 1.25))
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class", fontsize=_style.TEXT_POINTS)
    axes.set_ylabel("true class", fontsize=_style.TEXT_POINTS)
    bar = figure.colorbar(drawn, fraction=0.03, pad=0.02, aspect=number * height / 0.18)
    bar.set_label("% of the true class", fontsize=_style.TEXT_POINTS)
    bar.ax.tick_params(labelsize=points)
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=_style.TEXT_POINTS)
    _write_numbers(axes, per_cent, width, height)
    return figure


def _write_numbers(axes: Axes, per_cent: np.ndarray, width: float, height: float) -> None:
    """Writes into cells of that size in inches, if three digits fit."""
    across = _style.TICK_POINTS * 0.85 * width / _style.text_inches("100", _style.TICK_POINTS)
    points = int(min(_style.TICK_POINTS, across, 72 * height / 1.3))
    for row in np.flatnonzero(np.isnan(per_cent[:, 0])):
        axes.text(
            len(per_cent) / 2, row + 0.5, "absent", ha="center", va="center", fontsize=_LEAST_POINTS
        )
    if points < _LEAST_POINTS:
        return
    for (i, j), value in np.ndenumerate(per_cent):
        if value >= 0.5:
            axes.text(
                j + 0.5, i + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=points,
                color="white" if value > 55 else "black",
            )  # fmt: skip
