"""Where in an image a class is probable: coarse maps of one number over the image.

What may be added here: another way to lay one number a place over an image (contours).
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from jaxstruct.figures import _style
from jaxstruct.figures._picture_rows import picture_rows, pictures_of

_COLORS = "plasma"
_OPACITY = 0.85  # of the highest value; the lowest is clear
_BELOW = 0.75  # inches with the colour bar
_GREY = np.array([0.299, 0.587, 0.114])  # of red, green and blue


def heat_maps(
    images: Sequence[ArrayLike],
    maps: Mapping[str, Sequence[ArrayLike]],
    *,
    quantity: str,
    limits: tuple[float, float] | None = None,
    grids: Mapping[str, tuple[float, float]] | None = None,
    title: str | None = None,
) -> Figure:
    """Draws a row for each image: the image, then maps over its pale grey, in columns with titles.

    Colour and opacity grow with the value, by one colour bar for all. Each cell of a map is a
    square of its own. A dashed frame is drawn around a map that does not reach to the borders.

    Args:
        images: uint8 [H, W, 3] each, of any sizes.
        maps: title of a column -> for each image floats [h, w]; NaN is clear.
        quantity: that the maps have, and its unit, such as "probability of a camel".
        limits: the values at the ends of the colour bar; by default those that occur.
        grids: title of a column -> (stride, offset): pixels of the image from cell to cell and
            before the first cell, as (crop - stride) / 2 of a classifier that is slid without
            padding. The maps of other columns are spread over the whole image.
        title: above all.

    Returns:
        a Figure.

    Raises:
        ValueError: no image or map, columns of another length, maps of another rank, no finite
            value, limits that do not grow, or a grid of no column.
        TypeError: images are not uint8.

    Source: Long et al. 2015 (FCN), figure 2: a classifier becomes a heat map.
    """
    pictures = pictures_of(images, maps)
    grids = grids or {}
    if not maps:
        raise ValueError("got no maps, expected at least one column")
    for column, (stride, _) in grids.items():
        if column not in maps or not stride > 0:
            raise ValueError(
                f"got a grid of stride {stride} for {column!r}, expected one above 0 for some of "
                f"{[*maps]}"
            )
    heat = {column: [np.asarray(x, float) for x in values] for column, values in maps.items()}
    for column, values in heat.items():
        for row, x in enumerate(values):
            if x.ndim != 2 or 0 in x.shape:
                raise ValueError(f"got a map {x.shape} in {column!r}, row {row}, expected [h, w]")
    low, high = limits or _limits(heat)
    if not high > low:
        raise ValueError(f"got limits {limits}, expected a lower and a higher value")
    norm = Normalize(low, high)
    shapes = [picture.shape[:2] for picture in pictures]
    figure, rows = picture_rows(shapes, ["image", *heat], title=title, below=_BELOW)
    for row, picture in enumerate(pictures):
        rows[row][0].imshow(picture, aspect="auto")
        for axes, (column, values) in zip(rows[row][1:], heat.items(), strict=True):
            # Pale, so that a colour looks alike on dark and on bright places.
            axes.imshow(64 + picture @ _GREY / 2, cmap="gray", vmin=0, vmax=255, aspect="auto")
            axes.set_autoscale_on(False)
            _lay_over(axes, _colored(norm(values[row])), grids.get(column))
    place = 0.2, 0.5 / figure.get_figheight(), 0.6, 0.13 / figure.get_figheight()
    scale = _colored(np.linspace(0, 1, 256))
    over_grey = ListedColormap(scale[:, :3] * scale[:, 3:] + 0.5 * (1 - scale[:, 3:]))
    bar = figure.colorbar(
        ScalarMappable(norm, over_grey), cax=figure.add_axes(place), orientation="horizontal"
    )
    bar.set_label(quantity, fontsize=_style.TEXT_POINTS)
    bar.ax.tick_params(labelsize=_style.TICK_POINTS)
    bar.outline.set_visible(False)
    return figure


def _limits(heat: Mapping[str, Sequence[np.ndarray]]) -> tuple[float, float]:
    """The least and the largest finite value, apart from each other."""
    flat = np.concatenate([x.ravel() for values in heat.values() for x in values])
    found = flat[np.isfinite(flat)]
    if not found.size:
        raise ValueError("got maps without a finite value, expected at least one")
    low, high = float(found.min()), float(found.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _colored(shares: np.ndarray) -> np.ndarray:
    """Red, green, blue and opacity [..., 4] of values from 0 to 1; clear where there is none."""
    known = np.ma.filled(np.ma.masked_invalid(shares), 0).clip(0, 1)
    colors = matplotlib.colormaps[_COLORS](known)
    colors[..., 3] = _OPACITY * known
    return colors


def _lay_over(axes: Axes, colors: np.ndarray, grid: tuple[float, float] | None) -> None:
    """Draws colors [h, w, 4] over the image that fills the axes."""
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    left = top = -0.5  # the first pixel's centre is at 0
    if grid is None:
        x1, y1, x2, y2 = left, top, right, bottom
    else:
        stride, offset = grid
        x1 = y1 = offset - 0.5
        x2, y2 = x1 + stride * colors.shape[1], y1 + stride * colors.shape[0]
    axes.imshow(colors, extent=(x1, x2, y2, y1), aspect="auto", interpolation="nearest")
    if max(x1 - left, y1 - top, right - x2, bottom - y2) > 0.5:
        for color, style in (("black", "-"), ("white", (0, (3, 2)))):
            axes.add_patch(
                Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linestyle=style)
            )
