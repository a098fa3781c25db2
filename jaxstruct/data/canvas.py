"""Examples of any size on canvases of one size: images, label maps and boxes move together.

OpenCV moves the pixels; it is imported where it is called. Coordinates are those of
`jaxstruct.data.affine`.

What may be added: how another kind of value moves, another rule that a canvas is chosen by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxstruct.data.affine import Affine, Size, move_boxes
from jaxstruct.data.kinds import Kind, kinds_of

PER_BOX = ("classes", "difficult", "crowd", "masks")
"""Keys that have one row for each row of `boxes`."""

_OUTSIDE = {"class_map": 255, "masks": 0}


def canvas_for(size: Size, canvases: Sequence[Size]) -> Size:
    """Of a few canvases, the one on which an image of this size keeps the largest scale.

    Of equal scales, the canvas of the fewest pixels is taken, then the first one. Raises ValueError
    where no canvas is given.
    """
    if not canvases:
        raise ValueError("no canvases were given, expected at least one (height, width)")
    return min(
        canvases, key=lambda canvas: (-_letter_box_scale(size, canvas), canvas[0] * canvas[1])
    )


def letter_box(
    image: np.ndarray, canvas: Size, *, fill: float | Sequence[float] = 0
) -> tuple[np.ndarray, float, Size]:
    """Scales an image so that it just fits on a canvas, and places it at the top left.

    Shrinking averages over areas, enlarging is bilinear, with pixel centres at halves; the numbers
    are those of `move` by `Affine.letter_box`.

    Args:
        image: [H, W, C] of 1, 3 or 4 channels, uint8 or float32.
        canvas: height and width of the result.
        fill: the value of what the image does not cover; a number, or one for each channel.

    Returns:
        The canvas [height, width, C] in the image's dtype; the scale, by which boxes are multiplied
        to move along; and (height, width) of the image on the canvas, in whole pixels.

    Raises:
        ValueError: the shape of the image or the fill is another, or no more than half a pixel of
            the image's shorter side would be left.
        TypeError: the image has another dtype.
    """
    if image.ndim != 3:
        raise ValueError(f"image of shape {image.shape}, expected [H, W, C]")
    height, width = image.shape[:2]
    affine = Affine.letter_box((height, width), canvas)
    origin = _origin(affine, (height, width), canvas)
    size = int((~origin.outside).any(1).sum()), int((~origin.outside).any(0).sum())
    scale = _letter_box_scale((height, width), canvas)
    if min(size) < 1:
        raise ValueError(
            f"image of {height}x{width} is no more than half a pixel high or wide on a canvas of "
            f"{canvas[0]}x{canvas[1]}, at the scale {scale:.3g}; crop the image first"
        )
    return _move_image(image, affine, origin, fill), scale, size


def padded(values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Fills values [n, ...] up with zeros: ([most, ...], which rows are values: bool [most]).

    Of `boxes`, the two are `boxes` and `boxes_valid` of a batch. Raises ValueError for more than
    `most` values.
    """
    values = np.asarray(values)
    if not values.ndim:
        raise ValueError("got a single number, expected values [n, ...]")
    if len(values) > most:
        raise ValueError(
            f"got {len(values)} values, expected at most {most}; allow more, or drop some first"
        )
    rows = np.zeros((most, *values.shape[1:]), values.dtype)
    rows[: len(values)] = values
    return rows, np.arange(most) < len(values)


def move(
    example: Mapping[str, Any],
    affine: Affine,
    canvas: Size,
    *,
    kinds: Mapping[str, Kind] | None = None,
    fill: float | Sequence[float] = 0,
    keep: float = 0.4,
    per_box: Sequence[str] = PER_BOX,
) -> dict[str, Any]:
    """Moves everything of one example onto a canvas by one map, each key as its kind moves.

    - image [..., H, W, C] of 1, 3 or 4 channels: interpolated bilinearly, `fill` where there is no
      image. On an axis on which the map shrinks, the image is first averaged over areas to the
      map's scale, so that it does not alias.
    - class_map [..., H, W]: the label of the pixel that the centre of the canvas's pixel comes
      from; 255 where there is none.
    - masks [..., H, W]: the same, with 0 where there is none.
    - boxes [n, 4]: the upright boxes around the moved ones, float32, clipped to the canvas. Boxes
      of which less than `keep` of the area is left are dropped, and so are those without area.
      The keys of `per_box` lose the rows that `boxes` loses.
    - values: as they are.

    Args:
        example: of one image, before `padded`.
        affine: the map from the image's pixels to the canvas's.
        canvas: height and width of the result.
        kinds: of keys whose names do not say it, see `jaxstruct.data.kinds`.
        fill: the value of what the image does not cover; a number, or one for each channel.
        keep: the least share of a box's area that must lie on the canvas, 0 to 1.
        per_box: keys with a row for each row of `boxes`; those that the example lacks are skipped.

    Raises:
        ValueError: a shape is another than its kind says, sizes or numbers of rows differ, or an
            option is out of its range.
        TypeError: an image is neither uint8 nor float32.
    """
    if not 0 <= keep <= 1:
        raise ValueError(f"keep {keep}, expected a share from 0 to 1")
    kind_of = kinds_of(example, kinds)
    moved = dict(example)
    for key in (key for key, kind in kind_of.items() if kind == "boxes"):
        moved[key], kept = _clipped(move_boxes(example[key], affine), canvas, keep)
        if key == "boxes":
            moved |= {name: _rows(example, name, kept) for name in per_box if name in example}
    size = _size(example, kind_of)
    if size is None:
        return moved
    origin = _origin(affine, size, canvas)
    for key, kind in kind_of.items():
        if kind == "image":
            moved[key] = _move_image(np.asarray(moved[key]), affine, origin, fill)
        elif kind in _OUTSIDE:
            plane = np.asarray(moved[key])[..., origin.rows, origin.columns]
            plane[..., origin.outside] = _OUTSIDE[kind]
            moved[key] = plane
    return moved


def _letter_box_scale(size: Size, canvas: Size) -> float:
    return float(Affine.letter_box(size, canvas).matrix[0, 0])


class _Origin(NamedTuple):
    """Where the centres of a canvas's pixels come from.

    Attributes:
        rows: indices of the image's rows, [H, 1], or [H, W] where they depend on the column.
        columns: indices of the image's columns, [1, W] or [H, W].
        outside: bool [H, W], which centres come from outside of the image.
    """

    rows: np.ndarray
    columns: np.ndarray
    outside: np.ndarray


def _origin(affine: Affine, size: Size, canvas: Size) -> _Origin:
    """Where an image of this size is seen on the canvas."""
    (xx, xy, x0), (yx, yy, y0) = affine.inverse().matrix
    centre_x = np.arange(canvas[1])[None, :] + 0.5
    centre_y = np.arange(canvas[0])[:, None] + 0.5
    x, y = xx * centre_x + x0, yy * centre_y + y0
    if xy or yx:  # else x is the same in all rows, and y in all columns
        x, y = x + xy * centre_y, y + yx * centre_x
    rows, columns = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
    outside = (rows < 0) | (rows >= size[0]) | (columns < 0) | (columns >= size[1])
    return _Origin(np.clip(rows, 0, size[0] - 1), np.clip(columns, 0, size[1] - 1), outside)


def _move_image(
    images: np.ndarray, affine: Affine, origin: _Origin, fill: float | Sequence[float]
) -> np.ndarray:
    """Images [..., h, w, C] on a canvas: [..., H, W, C]."""
    import cv2

    if images.dtype not in (np.uint8, np.float32):
        raise TypeError(f"image of {images.dtype}, expected uint8 or float32")
    if images.shape[-1] not in (1, 3, 4):  # OpenCV refuses others, or rounds where it interpolates
        raise ValueError(f"image of shape {images.shape}, expected 1, 3 or 4 channels")
    canvas = origin.outside.shape
    color = _color(fill, images)
    moved = np.empty((*images.shape[:-3], *canvas, images.shape[-1]), images.dtype)
    for place in np.ndindex(images.shape[:-3]):
        image, shrink = _shrunk(images[place], affine)
        matrix = shrink.inverse().then(affine).inverse().matrix.copy()
        # In OpenCV's coordinates, the centre of a pixel is a whole number.
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        # The border is repeated, since a constant border would fade into the image.
        warped = cv2.warpAffine(
            image, matrix, canvas[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        moved[place] = warped.reshape(moved.shape[-3:])
    moved[..., origin.outside, :] = color
    return moved


def _shrunk(image: np.ndarray, affine: Affine) -> tuple[np.ndarray, Affine]:
    """The image averaged over areas to the map's scale, and the map to what it became.

    An axis that the map enlarges, or shrinks by less than half a pixel in all, stays as it is.
    """
    import cv2

    factors = []
    for extent, scale in zip(
        image.shape[1::-1], np.linalg.norm(affine.matrix[:, :2], axis=0), strict=True
    ):
        factor = max(float(scale), 1 / extent)
        factors.append(factor if round(factor * extent) < extent else 1.0)
    x, y = factors
    if x == y == 1:
        return image, Affine.identity()
    # Without a size, OpenCV takes the factors as they are, not those of rounded sizes.
    small = cv2.resize(image, None, fx=x, fy=y, interpolation=cv2.INTER_AREA)
    return small, Affine(np.array([[x, 0, 0], [0, y, 0]]))


def _color(fill: float | Sequence[float], image: np.ndarray) -> np.ndarray:
    """The fill as a value of the image's dtype for each channel, [C]."""
    color, channels = np.asarray(fill, np.float64), image.shape[-1]
    if color.shape not in ((), (1,), (channels,)):
        raise ValueError(f"fill {fill}, expected one number, or {channels}, one for each channel")
    if image.dtype == np.uint8:
        color = np.round(color)
        if (color < 0).any() or (color > 255).any():
            raise ValueError(f"fill {fill}, expected 0 to 255, as in the image, which is uint8")
    return np.broadcast_to(color.astype(image.dtype), (channels,))


def _clipped(boxes: np.ndarray, canvas: Size, keep: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [n, 4] clipped to the canvas, those of which enough is left; and which these are."""
    if boxes.ndim != 2:
        raise ValueError(f"boxes of shape {boxes.shape}, expected [n, 4], those of one example")
    limit = np.array([canvas[1], canvas[0]] * 2, boxes.dtype)
    clipped = np.clip(boxes, 0, limit)
    left, whole = _area(clipped), _area(boxes)
    kept = (left > 0) & (left >= keep * whole)
    return clipped[kept], kept


def _area(boxes: np.ndarray) -> np.ndarray:
    """Of boxes [n, 4], float64 [n]."""
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    return sides[:, 0] * sides[:, 1]


def _rows(example: Mapping[str, Any], key: str, kept: np.ndarray) -> np.ndarray:
    """The rows of a key that belong to the boxes that were kept."""
    values = np.asarray(example[key])
    if len(np.atleast_1d(values)) != len(kept):
        raise ValueError(
            f"{key} of shape {values.shape} and {len(kept)} boxes, expected one row for each box; "
            "name other keys in per_box"
        )
    return values[kept]


def _size(example: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Size | None:
    """Height and width of the example's image and label maps, None where there is neither."""
    sizes: dict[str, Size] = {}
    for key, kind in kinds.items():
        if kind in ("image", "class_map", "masks"):
            shape, layout = np.shape(example[key]), "H, W, C" if kind == "image" else "H, W"
            end = len(shape) - layout.count(",") - 1
            if end < 0:
                raise ValueError(f"{key} of shape {shape}, expected [..., {layout}]")
            sizes[key] = shape[end], shape[end + 1]
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{key} {h}x{w}" for key, (h, w) in sizes.items())
        raise ValueError(f"heights and widths differ ({listed}), expected those of one image")
    return next(iter(sizes.values()), None)
