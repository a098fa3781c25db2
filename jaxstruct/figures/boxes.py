"""Boxes over the images that they belong to, with names and scores.

What may be added here: another thing that is told of a box.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxstruct.figures import _style
from jaxstruct.figures._box_drawing import BRIGHTNESS, DARK, draw_boxes
from jaxstruct.figures.labels import label_colors

_TRUTH = (1.0, 1.0, 1.0)  # white


def box_panels(
    images: Sequence[ArrayLike],
    boxes: Sequence[ArrayLike],
    *,
    classes: Sequence[ArrayLike] | None = None,
    labels: Sequence[Sequence[str]] | None = None,
    truth: Sequence[ArrayLike] | None = None,
    columns: int = 3,
    title: str | None = None,
) -> Figure:
    """Draws boxes over images, a panel for each image, rows of panels.

    Args:
        images: uint8 [H, W, 3] or [H, W, 1] each, of any size.
        boxes: [n, 4] for each image, (x1, y1, x2, y2) in its pixels.
        classes: integers [n] for each image, which choose the boxes' colours.
        labels: n words for each image, written at the boxes.
        truth: [m, 4] for each image, drawn dashed in white.
        columns: panels in a row.
        title: above all.

    Returns:
        a Figure.

    Raises:
        ValueError: no image, lists of other lengths, or boxes of another shape.

    Source: Ren et al. 2015, figure 5 is such a page.
    """
    given = {"boxes": boxes, "classes": classes, "labels": labels, "truth": truth}
    for name, values in given.items():
        if values is not None and len(values) != len(images):
            raise ValueError(f"got {name} of {len(values)} images, expected {len(images)}")
    if not images or columns < 1:
        raise ValueError(f"got {len(images)} images in {columns} columns, expected at least one")
    pictures = [np.asarray(image) for image in images]
    columns = min(columns, len(pictures))
    rows = [range(i, min(i + columns, len(pictures))) for i in range(0, len(pictures), columns)]
    # The images of a row have one height, and each row fills the page.
    gap = 0.06
    widths = [_widths([pictures[i].shape for i in row], columns, gap) for row in rows]
    heights = [row_width[0] / _aspect(pictures[row[0]].shape) for row, row_width in
               zip(rows, widths, strict=True)]  # fmt: skip
    above = 0.35 if title else 0.0
    size = _style.PAGE_INCHES, above + sum(heights) + gap * (len(rows) - 1)
    figure = Figure(figsize=size, dpi=_style.DPI)
    if title:
        figure.text(
            0.5, 1 - 0.08 / size[1], title, ha="center", va="top", fontsize=_style.TEXT_POINTS
        )
    colors = _colors()
    top = size[1] - above
    for row, row_widths, height in zip(rows, widths, heights, strict=True):
        left = 0.0
        for i, width in zip(row, row_widths, strict=True):
            place = left / size[0], (top - height) / size[1], width / size[0], height / size[1]
            axes = figure.add_axes(place)
            axes.set_axis_off()
            axes.imshow(_shown(pictures[i]), aspect="auto")
            axes.set_autoscale_on(False)
            if truth is not None:
                draw_boxes(axes, truth[i], _TRUTH, name="truth", dashed=True)
            kinds = 1 if classes is None else np.asarray(classes[i], int)
            words = None if labels is None else labels[i]
            draw_boxes(axes, boxes[i], colors[kinds % len(colors)], words)
            left += width + gap
        top -= height + gap
    return figure


def _colors() -> np.ndarray:
    """The colours of labels [n, 3] that are seen on a dark photograph, too."""
    colors = label_colors(64) / 255
    return colors[colors @ BRIGHTNESS > DARK]


def _widths(shapes: Sequence[tuple[int, ...]], columns: int, gap: float) -> list[float]:
    """Inches of each image of a row; a row that is not full is not enlarged."""
    aspects = [_aspect(shape) for shape in shapes]
    room = _style.PAGE_INCHES - gap * (columns - 1)
    height = room / (sum(aspects) * columns / len(aspects))
    return [aspect * height for aspect in aspects]


def _aspect(shape: tuple[int, ...]) -> float:
    return shape[1] / shape[0]


def _shown(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, -1) if image.shape[-1] == 1 else image
