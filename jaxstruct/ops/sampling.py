"""Images read between their pixels: at given coordinates, and at another size.

What may be added: other interpolations. The samples of ROIAlign are in region_alignment.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _bands, _checks
from jaxstruct.ops._arrays import take

_OUTSIDE = ("zero", "edge")


def bilinear_sample(image: ArrayLike, coords: ArrayLike, *, outside: str = "zero") -> jax.Array:
    """Interpolates an image at coordinates; with grid + flow as coordinates, a backward warp.

        out = sum over the four pixels (i, j) around (x, y) of
              max(0, 1 - |x - j|) max(0, 1 - |y - i|) image[i, j]

    Coordinates count pixels from the centre of the top left one, so that (j, i) is exactly
    image[i, j]. Differentiable by both arguments, in both modes; at whole coordinates the
    derivative is the one to the right and downwards.

    Args:
        image: [H, W, C], or [B, H, W, C]. A NaN or infinity reaches no result in which its weight
            is 0.
        coords: [..., 2] or [B, ..., 2]: x, y in pixels. bfloat16 is computed with as float32.
        outside: what lies around the image: "zero", or "edge" for its nearest pixel.

    Returns:
        [..., C], or [B, ..., C], in the dtype of image. A coordinate that is not finite gives 0
        and passes no gradient, whatever lies outside.

    Raises:
        ValueError: other shapes, or another `outside`. TypeError: image or coords are integers.

    Source: Jaderberg et al. 2015, Spatial transformer networks, eq. 5.
    """
    image, coords = _checks.floating("image", image), _checks.floating("coords", coords)
    batched = image.ndim == 4
    if (
        image.ndim not in (3, 4)
        or 0 in image.shape[-3:-1]
        or coords.shape[-1:] != (2,)
        or (batched and (coords.ndim < 2 or coords.shape[0] != image.shape[0]))
    ):
        raise ValueError(
            f"got image {image.shape} and coords {coords.shape}, "
            "expected [H, W, C] and [..., 2], or [B, H, W, C] and [B, ..., 2], with H, W above 0"
        )
    _checks.one_of("outside", outside, _OUTSIDE)
    coords = coords.astype(jnp.promote_types(coords.dtype, jnp.float32))
    batch = image.shape[0] if batched else 1
    shape = (*coords.shape[:-1], image.shape[-1])
    if 0 in shape:
        return jnp.zeros(shape, image.dtype)
    points = coords.reshape(batch, -1, 2)
    out = _sampled(outside == "edge", image.reshape(batch, *image.shape[-3:]), points)
    return out.astype(image.dtype).reshape(shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sampled(edge: bool, images: jax.Array, points: jax.Array) -> jax.Array:
    """[B N, C] of images [B, H, W, C] at points [B, N, 2]."""
    return _interpolated(edge, False, images, points)


@_sampled.defjvp
def _(edge: bool, given: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return jax.jvp(functools.partial(_interpolated, edge, True), given, tangents)


def _interpolated(edge: bool, derived: bool, images: jax.Array, points: jax.Array) -> jax.Array:
    """The sum of the taps; only derivatives by the points need those whose weight is 0."""
    batch, height, width, channels = images.shape
    # All examples in one list of pixels: a gather of rows is the fastest there is.
    pixels = images.reshape(-1, channels)
    number = points.shape[1]
    first = jnp.repeat(jnp.arange(batch, dtype=jnp.int32) * (height * width), number)
    points = points.reshape(-1, 2)
    size = jnp.array([width, height], points.dtype)[None]
    if edge:
        known = jnp.isfinite(points)
    else:
        # Others touch no pixel; at -1 there is a derivative.
        known = ((points >= -1) if derived else (points > -1)) & (points < size)
    known = jnp.all(known, axis=1)
    points = jnp.where(jnp.broadcast_to(known[:, None], points.shape), points, 0)
    if edge:
        within = (points >= 0) & (points <= size - 1)
        points = jnp.clip(points, 0, size - 1)
        points = jnp.where(within, points, lax.stop_gradient(points))
    out = jnp.zeros((batch * number, channels), jnp.promote_types(images.dtype, jnp.float32))
    columns = _taps(points[:, 0], width, derived)
    for row, row_weight in _taps(points[:, 1], height, derived):
        for column, weight in columns:
            value = take(pixels, first + row * width + column).astype(out.dtype)
            if derived:
                both = jnp.where(known, _crossed(row_weight, weight), 0)
            else:
                both = row_weight * weight
            both = jnp.broadcast_to(both.astype(out.dtype)[:, None], out.shape)
            out += _share(value, both) if derived else value * both
    if derived:
        return out
    # Of the unknown 0: `where` takes a CPU longer than all of the sum, for few channels.
    integer = jnp.int64 if out.dtype == jnp.float64 else jnp.int32
    bits = lax.bitcast_convert_type(out, integer)
    bits &= jnp.broadcast_to(-known.astype(integer)[:, None], bits.shape)
    return lax.bitcast_convert_type(bits, out.dtype)


@jax.custom_jvp
def _share(value: jax.Array, weight: jax.Array) -> jax.Array:
    """value * weight, and 0 where the weight is 0, whatever the value: 0 times NaN is NaN.

    The derivative by the weight is the value, there, too.
    """
    return jnp.where(weight == 0, 0, value * weight)


@_share.defjvp
def _(given: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (value, weight), (by_value, by_weight) = given, tangents
    return _share(value, weight), _share(by_value, weight) + value * by_weight


@jax.custom_jvp
def _crossed(a: jax.Array, b: jax.Array) -> jax.Array:
    """a * b, of two weights: what is 0 of one has no share in the gradient by the other."""
    return a * b


@_crossed.defjvp
def _(given: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (a, b), (by_a, by_b) = given, tangents
    return _crossed(a, b), _share(by_a, b) + _share(by_b, a)


def _taps(at: jax.Array, size: int, derived: bool) -> list[tuple[jax.Array, jax.Array]]:
    """(index, weight) of the pixels before and after each position in [-1, size).

    One beyond the image is the other one, with weight 0; so is, but where a derivative needs it,
    one whose weight is 0.
    """
    low = jnp.floor(lax.stop_gradient(at))
    after = at - low
    taps = []
    for index, weight in ((low, 1 - after), (low + 1, after)):
        inside = (index >= 0) & (index <= size - 1)
        index = index if derived else jnp.where(weight > 0, index, low)
        taps.append((jnp.clip(index, 0, size - 1).astype(jnp.int32), jnp.where(inside, weight, 0)))
    return taps


def resize_bilinear(
    image: ArrayLike, size: int | tuple[int, int], *, align_corners: bool = False
) -> jax.Array:
    """Resizes an image by bilinear interpolation, with either convention for its corners.

        align_corners=False:  x = (x' + 1/2) W / W' - 1/2, at least 0: the outer edges coincide
        align_corners=True:   x = x' (W - 1) / (W' - 1): the centres of the corner pixels coincide

    x' is the column in the result, x the position that is interpolated, and the same holds for
    rows. Nothing is smoothed before an image is made smaller.

    Args:
        image: [H, W, C], or [B, H, W, C]. A NaN or infinity reaches no result in which its weight
            is 0.
        size: (height, width) of the result, or an integer for both.
        align_corners: the convention; of a single row or column the result is the first one.

    Returns:
        [height, width, C], or [B, height, width, C], in the dtype of image.

    Raises:
        ValueError: another shape, or an option out of its range. TypeError: image is of integers,
        or an option is of another type.

    Source: the equations above; both are torch.nn.functional.interpolate's.
    """
    image = _checks.images("image", image)
    height, width = _checks.pair("size", size)
    align_corners = _checks.boolean("align_corners", align_corners)
    images = image if image.ndim == 4 else image[None]
    out = _resizing((height, width), align_corners)(images)
    return out if image.ndim == 4 else out[0]


@functools.lru_cache(maxsize=256)
def _resizing(size: tuple[int, int], align_corners: bool) -> Callable[[jax.Array], jax.Array]:
    """Cached and jitted, so that a call outside of jit compiles once for its shape."""

    def resized(images: jax.Array) -> jax.Array:
        rows, columns = images.shape[1:3]
        whole = not (align_corners or size[0] % rows or size[1] % columns)
        out = images.astype(jnp.promote_types(images.dtype, jnp.float32))
        for axis, n, new in ((1, rows, size[0]), (2, columns, size[1])):
            if whole:
                out = _stretched(out, axis, new // n)
            else:
                out = _bands.multiply(_interpolation(n, new, align_corners), out, axis)
        return out.astype(images.dtype)

    return jax.jit(resized)


def _stretched(x: jax.Array, axis: int, factor: int) -> jax.Array:
    """By a whole factor along an axis: each of the new places between two pixels is one image.

    On a CPU five times as fast as a product, of which all but two numbers in a row are zeros.
    """
    if factor == 1:
        return x
    n, zero = x.shape[axis], jnp.zeros((), x.dtype)
    ends = [[(0, 0, 0)] * x.ndim for _ in range(2)]
    ends[0][axis], ends[1][axis] = (1, -1, 0), (-1, 1, 0)
    before, after = (lax.pad(x, zero, one) for one in ends)
    index, places = np.arange(n), []
    for at in (np.arange(factor) + 0.5) / factor - 0.5:
        far = abs(at)
        # At the edge a pixel stands for its missing neighbour.
        own = 1 - far + far * (index == (0 if at < 0 else n - 1))
        own = own.reshape([n if i == axis else 1 for i in range(x.ndim)]).astype(x.dtype)
        place = x * own
        if far:  # or a pixel without a share would be multiplied by 0
            place += (before if at < 0 else after) * np.asarray(far, x.dtype)
        places.append(jnp.expand_dims(place, axis + 1))
    out = jnp.concatenate(places, axis + 1)
    return out.reshape(*x.shape[:axis], n * factor, *x.shape[axis + 1 :])


def _interpolation(size: int, new: int, align_corners: bool) -> np.ndarray:
    """[new, size]: the weights that interpolate `new` positions along an axis."""
    index = np.arange(new)
    # Positions as fractions: what is on a pixel has no share of the next one.
    if align_corners:
        above, below = index * (size - 1), max(new - 1, 1)
    else:
        above, below = np.clip((2 * index + 1) * size - new, 0, 2 * new * (size - 1)), 2 * new
    low, after = above // below, above % below / below
    weights = np.zeros((new, size))
    weights[index, np.minimum(low + 1, size - 1)] += after
    weights[index, low] += 1 - after
    return weights
