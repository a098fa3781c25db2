"""What becomes of candidate regions on a feature map: cells of a grid, vectors of one length.

What may be added here: another picture of how regions are read from a map.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from jaxstruct.figures import _style
from jaxstruct.figures.labels import label_colors


def region_pooling(
    image: ArrayLike,
    features: ArrayLike,
    regions: ArrayLike,
    pooled: Sequence[ArrayLike],
    *,
    stride: float,
    title: str | None = None,
) -> Figure:
    """Draws regions on an image and on its map, their grids, and the vectors that they become.

    The first row has the image and the map, with all regions on both. Then each region has a row:
    for each grid of T x T cells the region on the map, divided into the cells, and what was pooled
    of it as a picture of T x T; its number of values is the same for each region.

    Args:
        image: uint8 [H, W, 3].
        features: [h, w] or [h, w, C], of which the mean over channels is shown.
        regions: [R, 4], (x1, y1, x2, y2) in pixels of the image.
        pooled: for each grid [R, T, T, C], what was pooled of the regions.
        stride: pixels of the image from cell to cell of the map.
        title: above all.

    Returns:
        a Figure. All that was pooled has one scale of greys, and the map its own.

    Raises:
        ValueError: shapes other than these.

    Source: Girshick 2015 (Fast R-CNN), section 2.1, of which this is a picture.
    """
    picture, boxes = np.asarray(image), np.asarray(regions, float)
    grids = [np.asarray(x, float) for x in pooled]
    for x in grids:
        if x.ndim != 4 or len(x) != len(boxes) or x.shape[1] != x.shape[2]:
            raise ValueError(
                f"got pooled {x.shape} of {len(boxes)} regions, expected [{len(boxes)}, T, T, C]"
            )
    if picture.ndim != 3 or boxes.ndim != 2 or boxes.shape[-1] != 4 or not grids:
        raise ValueError(
            f"got image {picture.shape}, regions {boxes.shape} and {len(grids)} grids, expected "
            "[H, W, 3], [R, 4] and at least one"
        )
    seen = np.asarray(features, float)
    seen = seen.mean(-1) if seen.ndim == 3 else seen
    means = [x.mean(-1) for x in grids]
    flat = np.concatenate([x.ravel() for x in means])
    limits = flat.min(initial=np.inf), flat.max(initial=-np.inf)
    colors = label_colors(8) / 255
    columns = 2 * len(grids)
    panel = _style.PAGE_INCHES / columns
    height = panel * picture.shape[0] / picture.shape[1]
    size = _style.PAGE_INCHES, 2 * height + (len(boxes)) * (panel + 0.1) + 0.5
    figure = Figure(figsize=size, dpi=_style.DPI, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=_style.TEXT_POINTS)
    ratios = [2 * height, *[panel] * len(boxes)]
    rows = figure.add_gridspec(len(ratios), 1, height_ratios=ratios)
    top = rows[0].subgridspec(1, 2)
    for place, shown, scale, name in (
        (top[0], picture, 1.0, "candidates in the image"),
        (top[1], seen, 1 / stride, "on the feature map"),
    ):
        axes = _panel(figure, place, shown, name)
        for box, color in zip(boxes * scale, colors, strict=False):
            _frame(axes, box, color, 2)
    for row, (box, color) in enumerate(zip(boxes / stride, colors, strict=False), 1):
        inside = rows[row].subgridspec(1, columns)
        for i, x in enumerate(grids):
            cells = x.shape[1]
            axes = _panel(figure, inside[2 * i], seen, f"{cells} x {cells} cells")
            _frame(axes, box, color, 1.5)
            for k in range(1, cells):
                across = box[0] + (box[2] - box[0]) * k / cells - 0.5
                down = box[1] + (box[3] - box[1]) * k / cells - 0.5
                axes.plot([across] * 2, box[1::2] - 0.5, color=color, linewidth=0.8)
                axes.plot(box[0::2] - 0.5, [down] * 2, color=color, linewidth=0.8)
            margin = 0.15 * max(box[2] - box[0], box[3] - box[1]) + 1
            axes.set_xlim(max(box[0] - margin, 0) - 0.5, min(box[2] + margin, seen.shape[1]) - 0.5)
            axes.set_ylim(min(box[3] + margin, seen.shape[0]) - 0.5, max(box[1] - margin, 0) - 0.5)
            between = "\n" if panel < 1.2 else " "
            count = f"{cells} x {cells} x {x.shape[-1]:,}{between}values"
            _panel(figure, inside[2 * i + 1], means[i][row - 1], count, limits)
    return figure


def _panel(
    figure: Figure,
    place: Any,
    shown: np.ndarray,
    name: str,
    limits: tuple[float | None, float | None] = (None, None),
) -> Any:
    axes = figure.add_subplot(place)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():  # a cell as white as the page is seen, too
        side.set(color="0.6", linewidth=0.5)
    axes.set_title(name, fontsize=_style.TICK_POINTS, pad=2)
    axes.imshow(shown, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axes.set_autoscale_on(False)
    return axes


def _frame(axes: Any, box: np.ndarray, color: Any, width: float) -> None:
    x1, y1, x2, y2 = box - 0.5
    axes.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=width)
    )
