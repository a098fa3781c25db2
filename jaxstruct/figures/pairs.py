"""A number above or below 0 for each pair of classes, as a table in colours and numbers.

What may be added here: another quantity of pairs that has a sign.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxstruct.figures._class_table import LEAST_POINTS, class_table


def pair_table(
    values: ArrayLike,
    names: Sequence[str],
    *,
    quantity: str,
    row_label: str,
    column_label: str,
    title: str | None = None,
) -> Figure:
    """Draws a table of numbers: red above 0, blue below, white at 0.

    Numbers have one decimal, where a cell has room for them.

    Args:
        values: [C, C], the row first.
        names: of the C classes.
        quantity: that the numbers have, and its unit.
        row_label, column_label: what the rows and the columns are.
        title: above all.

    Returns:
        a Figure.

    Raises:
        ValueError: values of another shape, or not finite.

    Source: Zheng et al. 2015 (CRF-RNN), section 4.2.4: the learned compatibility of labels.
    """
    table, number = np.asarray(values, float), len(names)
    if number < 1 or table.shape != (number, number):
        wanted = "one shape [C, C]" if number else "at least one"
        raise ValueError(f"got values {table.shape} of {number} names, expected {wanted}")
    if not np.isfinite(table).all():
        raise ValueError("got values that are not finite, expected finite ones")
    most = float(np.abs(table).max()) or 1.0
    drawn = class_table(
        table,
        names,
        colors="RdBu_r",
        limits=(-most, most),
        quantity=quantity,
        labels=(column_label, row_label),
        title=title,
    )
    # Plus 0, or what rounds to 0 from below has a minus.
    rounded = {place: round(value, 1) + 0.0 for place, value in np.ndenumerate(table)}
    words = {place: f"{value:.1f}".replace("-", "−") for place, value in rounded.items()}
    points = drawn.points(max(words.values(), key=len))
    if points >= LEAST_POINTS:
        for (i, j), word in words.items():
            color = "white" if abs(table[i, j]) > 0.6 * most else "black"
            drawn.axes.text(
                j + 0.5, i + 0.5, word, ha="center", va="center", fontsize=points, color=color
            )
    return drawn.figure
