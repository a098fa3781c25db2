"""Which class is taken for which, as a table of shares in colours and numbers.

What may be added here: another table of one number for each pair of classes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxstruct.figures._class_table import LEAST_POINTS, Table, class_table

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

    drawn = class_table(
        per_cent,
        names,
        colors="Blues",
        limits=(0, 100),
        quantity="% of the true class",
        labels=("predicted class", "true class"),
        title=title,
    )
    drawn.axes.set_facecolor(_ABSENT)
    _write_numbers(drawn, per_cent)
    return drawn.figure


def _write_numbers(drawn: Table, per_cent: np.ndarray) -> None:
    """Writes into the cells, if three digits fit."""
    points, axes = drawn.points("100"), drawn.axes
    for row in np.flatnonzero(np.isnan(per_cent[:, 0])):
        axes.text(
            len(per_cent) / 2, row + 0.5, "absent", ha="center", va="center", fontsize=LEAST_POINTS
        )
    if points < LEAST_POINTS:
        return
    for (i, j), value in np.ndenumerate(per_cent):
        if value >= 0.5:
            axes.text(
                j + 0.5, i + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=points,
                color="white" if value > 55 else "black",
            )  # fmt: skip
