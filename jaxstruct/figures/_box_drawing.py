"""Boxes and their names on a picture that is drawn already.

What may be added here: another mark of a place in an image (points, outlines).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from jaxstruct.figures import _style

BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # of red, green and blue
DARK = 0.25  # brightness at which a colour is not seen on a dark photograph
_PAD = 0.8  # points of colour around a name


def draw_boxes(
    axes: Any,
    boxes: ArrayLike,
    colors: ArrayLike,
    labels: Sequence[str] | None = None,
    *,
    name: str = "boxes",
    dashed: bool = False,
) -> None:
    """Draws boxes [n, 4], (x1, y1, x2, y2) in pixels of the image that fills the axes.

    `colors` are [n, 3], or one for all, in [0, 1]; `labels` are n words. Boxes of another shape
    raise a ValueError that calls them by `name`.
    """
    found = np.asarray(boxes, float)
    if found.ndim != 2 or found.shape[-1] != 4:
        raise ValueError(f"got {name} {found.shape} of an image, expected [n, 4]")
    for i, color in enumerate(np.broadcast_to(colors, (len(found), 3))):
        _outline(axes, found[i], color, dashed)
        if labels is not None:
            _name(axes, found[i], labels[i], color)


def _outline(axes: Any, box: np.ndarray, color: np.ndarray, dashed: bool) -> None:
    x1, y1, x2, y2 = box - 0.5  # the first pixel's centre is at 0
    style = (0, (3, 2)) if dashed else "-"
    line = axes.add_patch(
        Rectangle(
            (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.4, linestyle=style
        )
    )
    around = "black" if color @ BRIGHTNESS > DARK else "white"
    line.set_path_effects([patheffects.Stroke(linewidth=2.4, foreground=around, alpha=0.5),
                           patheffects.Normal()])  # fmt: skip


def _name(axes: Any, box: np.ndarray, text: str, color: np.ndarray) -> None:
    right, points = axes.get_xlim()[1], _style.TICK_POINTS - 2
    inches = axes.get_position().width * axes.figure.get_figwidth()
    per_inch = (right + 0.5) / inches  # pixels of the image in an inch of the page
    around = (2 * _PAD + 0.2 * points) / 72  # the page rounds the place of each letter
    length = (_style.text_inches(text, points) + around) * per_inch
    y, late = box[1], max(box[0], 0) + length > right  # a name that begins there would be cut
    x = min(box[2], right) if late else max(box[0], 0)
    axes.text(
        x,
        max(y, 0),
        text,
        fontsize=points,
        color="black" if color @ BRIGHTNESS > 0.55 else "white",
        va="bottom" if y > 0.06 * axes.get_ylim()[0] else "top",
        ha="right" if late else "left",
        clip_on=True,
        bbox={"facecolor": color, "edgecolor": "none", "pad": _PAD, "alpha": 0.9},
    )
