"""A page of pictures: a row for each image, whose pictures have its shape, columns with titles.

What may be added here: names of the rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from jaxstruct.figures import _style

_GAP = 0.06  # inches between pictures
_LINE = 1.3  # of the size of type


def pictures_of(
    images: Sequence[ArrayLike], *columns: Mapping[str, Sequence[Any]]
) -> list[NDArray[np.uint8]]:
    """The images as arrays, one a row, of which each column has something in each row.

    Raises:
        ValueError: no image, one that is not [H, W, 3], or a column of another length.
        TypeError: an image is not uint8.
    """
    pictures = [np.asarray(image) for image in images]
    if not pictures:
        raise ValueError("got no images, expected at least one")
    for row, picture in enumerate(pictures):
        if picture.ndim != 3 or picture.shape[-1] != 3:
            raise ValueError(f"got image {picture.shape} in row {row}, expected [H, W, 3]")
        if picture.dtype != np.uint8:
            raise TypeError(f"image of row {row} has dtype {picture.dtype}, expected uint8")
    for column, values in (item for some in columns for item in some.items()):
        if len(values) != len(pictures):
            raise ValueError(
                f"got {len(values)} rows of {column!r}, expected {len(pictures)}, one an image"
            )
    return pictures


def picture_rows(
    shapes: Sequence[tuple[int, int]],
    columns: Sequence[str],
    *,
    title: str | None = None,
    below: float = 0.0,
) -> tuple[Figure, list[list[Axes]]]:
    """A page as wide as all are, with axes for pictures, [row][column], and room below them.

    Args:
        shapes: height and width of each row's image, in pixels. A picture is no higher than the
            column is wide.
        columns: the titles above the columns, in as many lines as they need.
        title: above all.
        below: inches for what the caller puts under the pictures.

    Returns:
        the Figure, and axes that are as large as their pictures, without ticks.
    """
    column = (_style.PAGE_INCHES - _GAP * (len(columns) - 1)) / len(columns)
    sizes = [(min(column, column * w / h), min(column * h / w, column)) for h, w in shapes]
    above, lines = wrapped([title or ""], _style.PAGE_INCHES)[0], wrapped(columns, column)
    widest = max(_style.text_inches(line, 1) for text in lines for line in text.split("\n"))
    points = min(_style.TEXT_POINTS, column / max(widest, 1e-9))
    over = _height(above) * bool(title) + max(map(_height, lines)) * any(columns)
    height = over + sum(h for _, h in sizes) + _GAP * (len(sizes) - 1) + below
    figure = Figure((_style.PAGE_INCHES, height), _style.DPI)

    def write(text: str, x: float, top: float, va: str, points: float) -> None:
        figure.text(
            x / _style.PAGE_INCHES, 1 - top / height, text, ha="center", va=va, fontsize=points
        )

    if title:
        write(above, _style.PAGE_INCHES / 2, 0.05, "top", _style.TEXT_POINTS)
    rows: list[list[Axes]] = [[] for _ in sizes]
    for i, text in enumerate(lines):
        middle, top = i * (column + _GAP) + column / 2, over
        write(text, middle, over - 0.05, "bottom", points)
        for row, (w, h) in zip(rows, sizes, strict=True):
            left, bottom = middle - w / 2, height - top - h
            place = left / _style.PAGE_INCHES, bottom / height, w / _style.PAGE_INCHES, h / height
            row.append(figure.add_axes(place))
            row[-1].set_axis_off()
            top += h + _GAP
    return figure, rows


def wrapped(texts: Sequence[str], inches: float) -> list[str]:
    """The texts in lines that are no wider than that, as far as words can be parted."""
    found = []
    for text in texts:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and _style.text_inches(longer, _style.TEXT_POINTS) > inches:
                lines.append(word)
            else:
                lines[-1] = longer
        found.append("\n".join(lines))
    return found


def _height(text: str) -> float:
    """Inches of a text and the space around it."""
    return (text.count("\n") + 1) * _style.TEXT_POINTS * _LINE / 72 + 0.1
