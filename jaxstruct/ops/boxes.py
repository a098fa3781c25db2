"""Geometry of boxes (x1, y1, x2, y2) in continuous pixel coordinates: width = x2 - x1.

What may be added here: other measures of overlap, other parametrisations of a box.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxstruct.ops import _checks

_ANY = range(1, 33)
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the targets of Fast R-CNN's head


def box_area(boxes: ArrayLike) -> jax.Array:
    """Area of boxes.

        area = (x2 - x1) (y2 - y1)

    Args:
        boxes: [..., 4]; a malformed box (x2 < x1) has a negative area, NaN spreads.

    Returns:
        [...] in square pixels, float32 or wider.

    Raises:
        ValueError: the last dimension is not 4. TypeError: boxes are not floating.
    """
    (boxes,) = _wide(_boxes("boxes", boxes))
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(a: ArrayLike, b: ArrayLike) -> jax.Array:
    """Intersection over union of every box in a with every box in b.

        IoU(i, j) = area(a_i and b_j) / (area(a_i) + area(b_j) - area(a_i and b_j))

    Where two boxes share no area, as where one has none, the IoU is 0 and so is its gradient
    (torchvision's is NaN where both have none). A malformed box (x2 < x1) meets nothing, a box with
    a NaN has the IoU NaN with all.

    Args:
        a: [..., N, 4].
        b: [..., M, 4]; its leading axes broadcast against those of a.

    Returns:
        [..., N, M] in [0, 1], float32 or wider.

    Raises:
        ValueError: shapes other than these. TypeError: an argument is not floating.

    Source: Everingham et al. 2010 (PASCAL VOC), eq. 3.
    """
    pair = {"a": a, "b": b}
    a, b = (
        _checks.array(name, value, "floating", "[..., N, 4]", ranks=range(2, 33), last=4)
        for name, value in pair.items()
    )
    batch = _common("a", a.shape[:-2], "b", b.shape[:-2])
    a, b = _wide(a, b)
    a = jnp.broadcast_to(a, batch + a.shape[-2:])[..., :, None, :]
    b = jnp.broadcast_to(b, batch + b.shape[-2:])[..., None, :, :]
    low = jnp.maximum(a[..., :2], b[..., :2])
    high = jnp.minimum(a[..., 2:], b[..., 2:])
    # Not maximum, half of whose gradient passes where both are 0.
    side = jax.nn.relu(high - low)
    intersection = side[..., 0] * side[..., 1]
    union = box_area(a) + box_area(b) - intersection
    return intersection / jnp.where(union == 0, 1, union)


def clip_boxes(boxes: ArrayLike, height: ArrayLike, width: ArrayLike) -> jax.Array:
    """Moves the corners of boxes into an image: x into [0, width], y into [0, height].

    A box outside the image becomes one without area on its border; NaN stays NaN.

    Args:
        boxes: [..., 4].
        height: of the image in pixels; one number, or one for each of the first axes of boxes,
            such as [B] for boxes [B, N, 4].
        width: as height.

    Returns:
        [..., 4] in the dtype of boxes.

    Raises:
        ValueError: shapes other than these. TypeError: boxes are not floating, or the size is
            neither of integers nor floating.
    """
    boxes = _boxes("boxes", boxes)
    limits = []
    for name, size in (("width", width), ("height", height)):
        size = jnp.asarray(size)
        if not (
            jnp.issubdtype(size.dtype, jnp.floating) or jnp.issubdtype(size.dtype, jnp.integer)
        ):
            raise TypeError(f"{name} has dtype {size.dtype}, expected a number of pixels")
        if size.shape != boxes.shape[:-1][: size.ndim]:
            raise _checks.shape(name, size.shape, f"() or the first axes of boxes {boxes.shape}")
        size = size.reshape(size.shape + (1,) * (boxes.ndim - 1 - size.ndim))
        limits.append(jnp.broadcast_to(size.astype(boxes.dtype), boxes.shape[:-1]))
    limit = jnp.stack(limits * 2, axis=-1)
    return jnp.minimum(jnp.maximum(boxes, 0), limit)


def encode_boxes(
    boxes: ArrayLike, anchors: ArrayLike, *, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> jax.Array:
    """The regression targets that move anchors onto boxes.

        t_x = w_x (x - x_a) / width_a,   t_w = w_w log(width / width_a)
        t_y = w_y (y - y_a) / height_a,  t_h = w_h log(height / height_a)

    with the centre (x, y) and the size of a box, and of its anchor (a). An anchor without area has
    no finite target, neither has a box without area: mask them (`jnp.where`), as rows of padding.

    Args:
        boxes: [..., 4].
        anchors: [..., 4]; leading axes broadcast against those of boxes.
        weights: (w_x, w_y, w_w, w_h), positive; Fast R-CNN's second stage uses (10, 10, 5, 5).

    Returns:
        [..., 4] targets (t_x, t_y, t_w, t_h), in the dtype the arguments promote to; bfloat16 is
        computed in float32.

    Raises:
        ValueError: shapes other than these, or weights that are not four positive numbers.
        TypeError: an argument is not floating.

    Source: Girshick et al. 2014 (R-CNN), appendix C; Ren et al. 2015 (Faster R-CNN), eq. 2.
    """
    boxes, anchors, dtype = _pair("boxes", boxes, anchors)
    weight = _weights(weights, boxes.dtype)
    centre, size = _centre_and_size(boxes)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    shift = (centre - anchor_centre) / anchor_size
    scale = jnp.log(size / anchor_size)
    targets = jnp.concatenate([shift, scale], axis=-1)
    return (targets * jnp.broadcast_to(weight, targets.shape)).astype(dtype)


def decode_boxes(
    deltas: ArrayLike,
    anchors: ArrayLike,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float | None = math.log(1000 / 16),
) -> jax.Array:
    """The boxes that regression outputs make of anchors: the inverse of `encode_boxes`.

        x = x_a + width_a d_x / w_x,   width = width_a exp(min(d_w / w_w, clip))

    and the same for y and the height; then the corners are (x - width / 2, ..., y + height / 2).

    Args:
        deltas: [..., 4] outputs (d_x, d_y, d_w, d_h). For one box per class, [N, C, 4].
        anchors: [..., 4]; leading axes broadcast against those of deltas, as [N, 1, 4] do.
        weights: (w_x, w_y, w_w, w_h), positive; the ones that the targets were made with.
        clip: the largest logarithm of a size ratio, before exp can overflow; None for no limit.

    Returns:
        [..., 4] boxes in the dtype the arguments promote to; bfloat16 is computed in float32.

    Raises:
        ValueError: shapes other than these, weights that are not four positive numbers, or a clip
            that is NaN. TypeError: an argument is not floating.

    Source: Girshick et al. 2014 (R-CNN), eqs. 1 to 4.
    """
    deltas, anchors, dtype = _pair("deltas", deltas, anchors)
    weight = _weights(weights, deltas.dtype)
    limit = None if clip is None else _checks.number("clip", clip)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    deltas = deltas / jnp.broadcast_to(weight, deltas.shape)
    shift, scale = deltas[..., :2], deltas[..., 2:]
    if limit is not None:
        scale = jnp.minimum(scale, limit)
    centre = shift * anchor_size + anchor_centre
    half = 0.5 * (jnp.exp(scale) * anchor_size)
    return jnp.concatenate([centre - half, centre + half], axis=-1).astype(dtype)


def pyramid_level(
    boxes: ArrayLike, *, lowest: int = 2, highest: int = 5, canonical: float = 224.0
) -> jax.Array:
    """Which level of a feature pyramid a box is pooled from, by its area.

        level = floor(4 + log2(sqrt(area) / canonical) + 1e-6),  kept within lowest and highest

    Args:
        boxes: [..., 4]; one without area belongs to the lowest level.
        lowest: the level of the finest map, of stride 2^lowest.
        highest: the level of the coarsest map.
        canonical: the side in pixels of a box on level 4, ImageNet's 224.

    Returns:
        [...] int32.

    Raises:
        ValueError: the last dimension is not 4, or not 1 <= lowest <= highest or a canonical side
            above 0. TypeError: boxes are not floating, or an option is no number.

    Source: Lin et al. 2017 (Feature pyramid networks), eq. 1; 1e-6 is torchvision's.
    """
    least = _checks.integer("lowest", lowest, least=1)
    most = _checks.integer("highest", highest, least=least)
    side = _checks.positive("canonical", canonical)
    area = jnp.maximum(box_area(boxes), 0)
    # In the order of torchvision's operations: at a border a rounding decides.
    level = jnp.floor(4 + jnp.log2(jnp.sqrt(area) / side) + 1e-6)
    return jnp.clip(level, least, most).astype(jnp.int32)


def window_cells(windows: ArrayLike, *, stride: int, center: float | None = None) -> jax.Array:
    """SPPnet's mapping of windows to a feature map: the cells whose centres a window holds.

        left  = floor((x1 - c) / S) + 1            right = ceil((x2 - c) / S) - 1

    and the same for top and bottom, with S the stride and c the centre of cell 0; cell i is centred
    at c + i S. A window that holds no centre gets the cell whose centre is the nearest to its own,
    along each axis, the second of two that are equally near; the paper does not say what becomes of
    it.

    Args:
        windows: [..., 4]: x1, y1, x2, y2 in pixels of the image.
        stride: S, of the map.
        center: c, in pixels, where the first pixel reaches from 0 to 1. By default S / 2, as in
            VGG, whose poolings of 2x2 pad nothing. The paper's networks pad each pooling by half
            its size, and have 1 / 2.

    Returns:
        [..., 4], whole numbers, the last cell included, as `roi_pool` and `spatial_pyramid_pool`
        take them with a spatial_scale of 1. Some may lie outside of the map. A window that is not
        finite stays so. No gradient flows through it.

    Raises:
        ValueError: windows of another shape, a stride below 1. TypeError: windows are integers, or
        an option is of another type.

    Source: He et al. 2014, Spatial pyramid pooling in deep convolutional networks, appendix A.
    """
    (corners,) = _wide(_boxes("windows", windows))
    size = _checks.integer("stride", stride, least=1)
    first = size / 2 if center is None else _checks.number("center", center)
    low, high = (corners[..., :2] - first) / size, (corners[..., 2:] - first) / size
    begin, end = jnp.floor(low) + 1, jnp.ceil(high) - 1
    nearest = jnp.floor((low + high) / 2 + 0.5)
    empty = end < begin
    return jnp.concatenate(
        [jnp.where(empty, nearest, begin), jnp.where(empty, nearest, end)], axis=-1
    )


def _boxes(name: str, value: ArrayLike) -> jax.Array:
    return _checks.array(name, value, "floating", "[..., 4]", ranks=_ANY, last=4)


def _wide(*arrays: jax.Array) -> list[jax.Array]:
    """The arrays in the dtype they promote to, float32 at least."""
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return [array.astype(dtype) for array in arrays]


def _common(a: str, a_shape: tuple[int, ...], b: str, b_shape: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(a_shape, b_shape)
    except ValueError:
        raise ValueError(
            f"got {a} with leading axes {a_shape} and {b} with {b_shape}, expected axes that "
            "broadcast"
        ) from None


def _pair(
    name: str, value: ArrayLike, anchors: ArrayLike
) -> tuple[jax.Array, jax.Array, jnp.dtype]:
    value, anchors = _boxes(name, value), _boxes("anchors", anchors)
    shape = (*_common(name, value.shape[:-1], "anchors", anchors.shape[:-1]), 4)
    dtype = jnp.result_type(value, anchors)
    value, anchors = _wide(value, anchors)
    return jnp.broadcast_to(value, shape), jnp.broadcast_to(anchors, shape), dtype


def _weights(weights: Sequence[float], dtype: jnp.dtype) -> np.ndarray:
    return np.asarray(_checks.positive_numbers("weights", weights, 4), dtype)


def _centre_and_size(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    low, high = boxes[..., :2], boxes[..., 2:]
    size = high - low
    return low + 0.5 * size, size
