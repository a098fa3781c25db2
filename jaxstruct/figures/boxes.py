"""Boxes over the images that they belong to, with names and scores.

What may be added here: another thing that is told of a box.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike

from jaxstruct.figures import _style
from jaxstruct.figures.labels import label_colors

_TRUTH = "white"
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # of red, green and blue
_PAD = 0.8  # points of colour around a name


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
            for box in _boxes("truth", truth[i]) if truth is not None else ():
                _outline(axes, box, _TRUTH, dashed=True)
            found = _boxes("boxes", boxes[i])
            for j, box in enumerate(found):
                color = (
                    colors[int(np.asarray(classes[i])[j]) % len(colors)]
                    if classes is not None
                    else colors[1]
                )
                _outline(axes, box, color)
                if labels is not None:
                    _name(axes, box, labels[i][j], color, pictures[i].shape[1] / width)
            left += width + gap
        top -= height + gap
    return figure


def _colors() -> np.ndarray:
    """The colours of labels [n, 3] that are seen on a dark photograph, too."""
    colors = label_colors(64) / 255
    return colors[colors @ _BRIGHTNESS > 0.25]


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


def _boxes(name: str, values: ArrayLike) -> np.ndarray:
    found = np.asarray(values, float)
    if found.ndim != 2 or found.shape[-1] != 4:
        raise ValueError(f"got {name} {found.shape} of an image, expected [n, 4]")
    return found


def _outline(axes: Any, box: np.ndarray, color: Any, dashed: bool = False) -> None:
    x1, y1, x2, y2 = box - 0.5  # the first pixel's centre is at 0
    style = (0, (3, 2)) if dashed else "-"
    line = axes.add_patch(
        Rectangle(
            (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.4, linestyle=style
        )
    )
    line.set_path_effects([patheffects.Stroke(linewidth=2.4, foreground="black", alpha=0.5),
                           patheffects.Normal()])  # fmt: skip


def _name(axes: Any, box: np.ndarray, text: str, color: Any, per_inch: float) -> None:
    """Writes a name at the box; `per_inch` are the pixels of the image in an inch of the page."""
    right, points = axes.get_xlim()[1], _style.TICK_POINTS - 2
    around = 2 * _PAD + 0.2 * points  # the page rounds the place of each letter
    width = TextPath((0, 0), text, size=points).get_extents().width
    length = (width + around) / 72 * per_inch
    y, late = box[1], max(box[0], 0) + length > right  # a name that begins there would be cut
    x = min(box[2], right) if late else max(box[0], 0)
    bright = float(np.asarray(color)[:3] @ _BRIGHTNESS) > 0.55
    axes.text(
        x,
        max(y, 0),
        text,
        fontsize=points,
        color="black" if bright else "white",
        va="bottom" if y > 0.06 * axes.get_ylim()[0] else "top",
        ha="right" if late else "left",
        clip_on=True,
        bbox={"facecolor": color, "edgecolor": "none", "pad": _PAD, "alpha": 0.9},
    )
