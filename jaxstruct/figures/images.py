"""Grids of small images, pixel for pixel.

What may be added here: other arrangements of images. One image with something drawn over it
(boxes, masks, flow) is another room.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import ArrayLike, NDArray

from jaxstruct.figures import _style

_MAX_WIDTH = int(_style.PAGE_INCHES * _style.DPI)
_MAX_HEIGHT = 2 * _MAX_WIDTH


def image_grid(
    images: ArrayLike,
    *,
    title: str | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    gap: int = 0,
) -> Figure:
    """Draws a grid of images without axes or margins, each pixel a sharp square.

    Args:
        images: [rows, columns, H, W], or [rows, columns, H, W, 1 or 3]; floating in [0, 1]
            (clipped; NaN is white) or uint8. Row 0 is at the top.
        title: above the grid.
        row_labels: one per row, left of it.
        column_labels: one per column, above it; upright where a column is too narrow.
        gap: white pixels between images, in pixels of the images.

    Returns:
        a Figure, to be saved at its own resolution.

    Raises:
        ValueError: another shape, a negative gap, or labels that are not one per row or column.
        TypeError: another dtype.

    Source: Kingma & Welling 2014, figures 4 and 5 are such grids.
    """
    grid = _mosaic("images", images, gap)
    rows, columns = np.shape(images)[:2]
    for name, labels, count in (
        ("row_labels", row_labels, rows),
        ("column_labels", column_labels, columns),
    ):
        if labels is not None and len(labels) != count:
            raise ValueError(f"got {len(labels)} {name}, expected {count}")
    return _draw([grid], title, column_labels or (), row_labels or ())


def side_by_side(
    panels: Mapping[str, ArrayLike], *, title: str | None = None, gap: int = 0
) -> Figure:
    """Draws several grids of images in one row, each under its name.

    Args:
        panels: name -> images, as for `image_grid`; all at one magnification.
        title: above all.
        gap: white pixels between the images of a grid, in pixels of the images.

    Returns:
        a Figure, to be saved at its own resolution.

    Raises:
        ValueError: no panel, a shape that is not a grid of images, or a negative gap.
        TypeError: another dtype than floating or uint8.

    Source: Kingma & Welling 2014, figure 5 is such a row, one grid per size of the latent space.
    """
    if not panels:
        raise ValueError("got no panels, expected at least one")
    return _draw([_mosaic(name, images, gap) for name, images in panels.items()], title, [*panels])


def signed_images(values: ArrayLike) -> NDArray[np.float32]:
    """Weights as images: 0 is the middle grey, the largest magnitude of each is black or white.

    Args:
        values: [..., H, W, C], such as the weights of a unit.

    Returns:
        [..., H, W, C] float32 in [0, 1], for `image_grid`.

    Raises:
        ValueError: fewer than three axes.

    Source: Vincent et al. 2008, figure 3.
    """
    weights = np.asarray(values, np.float32)
    if weights.ndim < 3:
        raise ValueError(f"got values {weights.shape}, expected [..., H, W, C]")
    largest = np.abs(weights).max(axis=(-3, -2, -1), keepdims=True)
    return 0.5 + 0.5 * weights / np.maximum(largest, np.finfo(np.float32).tiny)


def _mosaic(name: str, images: ArrayLike, gap: int) -> NDArray[np.float32]:
    """[R, C, H, W(, 1 or 3)] -> [R H + gaps, C W + gaps, 3], white between the images."""
    values = np.asarray(images)
    if values.ndim == 4:
        values = values[..., None]
    if values.ndim != 5 or values.shape[-1] not in (1, 3) or 0 in values.shape:
        raise ValueError(f"got {name} {np.shape(images)}, expected [R, C, H, W(, 1 or 3)]")
    if gap < 0:
        raise ValueError(f"got gap={gap}, expected zero or more pixels")
    if values.dtype == np.uint8:
        values = values / np.float32(255)
    elif values.dtype.kind != "f" and values.dtype.name != "bfloat16":
        raise TypeError(f"{name} has dtype {values.dtype}, expected floating or uint8")
    rows, columns, height, width, _ = values.shape
    cells = np.ones((rows, height + gap, columns, width + gap, 3), np.float32)
    cells[:, :height, :, :width] = np.clip(values.astype(np.float32), 0, 1).transpose(0, 2, 1, 3, 4)
    mosaic = cells.reshape(rows * (height + gap), columns * (width + gap), 3)
    return mosaic[: len(mosaic) - gap, : mosaic.shape[1] - gap]


def _draw(
    mosaics: Sequence[NDArray[np.float32]],
    title: str | None,
    headings: Sequence[str],
    row_labels: Sequence[str] = (),
) -> Figure:
    """Lays mosaics out in a row, in whole pixels, so that no image pixel is resampled.

    The headings stand over the mosaics, or are spread over the columns of the only one.
    """
    heights, widths = np.array([mosaic.shape[:2] for mosaic in mosaics]).T
    scale = max(1, min(_MAX_WIDTH // widths.sum(), _MAX_HEIGHT // heights.max()))
    # Type grows with the pictures, so that it is legible once the page is shown at 800 pixels.
    dpi = max(100.0, widths.sum() * scale / _style.PAGE_INCHES)
    pad = round(_style.TEXT_POINTS / 72 * dpi / 2)
    space = 2 * pad
    figure = Figure(dpi=dpi)

    titles, title_width, title_height = _texts(figure, [title] if title else [])
    rows, rows_width, _ = _texts(figure, row_labels, ha="right", va="center")
    lefts = np.cumsum([0, *(widths * scale + space)])[:-1]
    body = int(lefts[-1] + widths[-1] * scale)
    column = widths.min() * scale if len(mosaics) > 1 else body / max(len(headings), 1)
    columns, columns_width, columns_height = _texts(figure, headings)
    if columns_width > column:
        columns_width, columns_height = columns_height, columns_width
        for text in columns:
            text.set_rotation(90)

    margin = rows_width + 2 * pad if rows else 0
    width = max(margin + body, title_width)
    left = (width - margin - body) // 2 + margin
    title_bottom = pad // 2 + title_height if titles else 0
    columns_bottom = title_bottom + pad // 2 + columns_height if columns else title_bottom
    top = columns_bottom + pad if titles or columns else 0
    height = top + heights.max() * scale
    figure.set_size_inches(width / dpi, height / dpi)

    def place(text: Text, x: float, y: float) -> None:
        text.set_position((x / width, 1 - y / height))

    for text in titles:
        place(text, left + body / 2 if title_width <= body else width / 2, title_bottom)
    for i, text in enumerate(columns):
        one = lefts[i] + widths[i] * scale / 2 if len(mosaics) > 1 else (i + 0.5) * column
        place(text, left + one, columns_bottom)
    for i, text in enumerate(rows):
        place(text, left - pad, top + (i + 0.5) * heights[0] * scale / len(rows))
    for mosaic, x in zip(mosaics, left + lefts, strict=True):
        h, w = (scale * size for size in mosaic.shape[:2])
        axes = figure.add_axes((x / width, 1 - (top + h) / height, w / width, h / height))
        axes.set_axis_off()
        axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    return figure


def _texts(
    figure: Figure, labels: Sequence[str], ha: str = "center", va: str = "bottom"
) -> tuple[list[Text], int, int]:
    """The labels, yet to be placed, with the width and the height that hold the largest."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [
        figure.text(0, 0, label, fontsize=_style.TEXT_POINTS, ha=ha, va=va) for label in labels
    ]
    boxes = [text.get_window_extent(renderer) for text in texts]
    width = max((box.width for box in boxes), default=0)
    height = max((box.height for box in boxes), default=0)
    return texts, int(np.ceil(width)), int(np.ceil(height))
