"""Alignment of regions: ROIAlign, which interpolates where ROI pooling rounds.

What may be added: other poolings of interpolated samples. Quantised ones are in region_pooling.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks, _regions
from jaxstruct.ops._arrays import take, vary


def roi_align(
    features: ArrayLike,
    rois: ArrayLike,
    *,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = False,
) -> jax.Array:
    """ROIAlign: the mean of S x S bilinear samples in each of T x T bins, nothing rounded.

        start = scale * x1 - offset          offset = 1/2 if aligned else 0
        width = scale * (x2 - x1)            at least 1 if not aligned
        x[j, i] = start + j * width / T + (i + 1/2) * width / (T S),     i = 0 .. S - 1

    and the same for y. A sample at (x, y) interpolates the four cells around it; within one cell
    outside of the features it takes the border's value, further out it is 0. Values and gradient
    are torchvision's. The gradient goes to the features; that of rois is zero.

    A region whose coordinates are not all finite is 0 everywhere and passes no gradient; so is,
    if aligned and with adaptive sampling, one of no or negative width or height.

    Args:
        features: [H, W, C], or [B, H, W, C]. A NaN or infinity reaches no bin in which its weight
            is 0 (in torchvision it does where a sample lies on the row or column before it).
        rois: [R, 4], or [B, R, 4]: x1, y1, x2, y2 in pixels of the image. bfloat16 is computed
            with as float32.
        output_size: T, or (height, width).
        spatial_scale: cells per pixel, 1/16 for conv5 of VGG16.
        sampling_ratio: S; 0 samples adaptively, with S = ceil(width / T), rows and columns apart
            (at most four times as many as the features have rows or columns, which binds
            regions far larger than the features only).
        aligned: True puts cell centres at half-integer coordinates, as boxes have them;
            False is the original.

    Returns:
        [R, T, T, C], or [B, R, T, T, C], in the dtype of features; sums are float32 or wider.

    Raises:
        ValueError: other shapes, or an option out of its range. TypeError: features or rois are
        integers, or an option is of another type. Forward-mode derivatives and second
        derivatives are not defined (custom_vjp).

    Source: He et al. 2017, Mask R-CNN, section 3; the samples are torchvision's.
    """
    height, width = _checks.pair("output_size", output_size)
    scale = _checks.positive("spatial_scale", spatial_scale)
    ratio = _checks.integer("sampling_ratio", sampling_ratio, least=0)
    aligned = _checks.boolean("aligned", aligned)
    options = _Options(height, width, scale, ratio, aligned)
    return _regions.apply(_roi_align(options), features, rois)


class _Options(NamedTuple):
    height: int
    width: int
    scale: float
    ratio: int
    aligned: bool


class _Axis(NamedTuple):
    """N regions' samples along one axis: begin[j] + (i + 1/2) * bin / divisor in bin j of T."""

    begin: jax.Array  # [N, T]
    bin: jax.Array  # [N]
    samples: jax.Array  # [N], int32
    divisor: jax.Array  # [N], the samples again, at least 1
    known: jax.Array  # [N]
    near: jax.Array  # [N, T], where a sample of the bin is that interpolates cells, if there is one
    some: jax.Array  # [N, T], whether there is

    def at(self, i: jax.Array) -> jax.Array:
        """[U, N, T]: where the samples i [U, N, T or 1] of each bin are."""
        within = (i.astype(self.bin.dtype) + 0.5) * self.bin[None, :, None]
        within /= self.divisor[None, :, None]
        # Or the cell and its weight might be those of two positions that differ in the last bit.
        within = _rounded(within, jnp.broadcast_to(self.known[None, :, None], within.shape))
        return self.begin[None] + within


class _Samples(NamedTuple):
    first: jax.Array  # [N]: where the region's example begins among all cells
    y: _Axis
    x: _Axis

    def number(self) -> jax.Array:
        """[N]: the samples of a bin."""
        return self.y.samples * self.x.samples

    def filled(self) -> jax.Array:
        """[N Ty Tx, 1]: which bins have a cell."""
        return (self.y.some[:, :, None] & self.x.some[:, None, :]).reshape(-1, 1)


def _axis(
    low: jax.Array, high: jax.Array, known: jax.Array, size: int, count: int, options: _Options
) -> _Axis:
    offset = 0.5 if options.aligned else 0.0

    def place(coordinate: jax.Array) -> jax.Array:
        return jnp.where(known, _rounded(coordinate * options.scale, known) - offset, 0)

    start = place(low)
    length = place(high) - start
    if not options.aligned:
        length = jnp.maximum(length, 1)
    bin_size = _regions.divide(length, count)
    if options.ratio:
        samples = jnp.full_like(low, options.ratio)
    else:
        samples = jnp.clip(jnp.ceil(bin_size), 0, 4 * size)
    samples = jnp.where(known, samples, 0)
    index = jnp.arange(count, dtype=low.dtype)[None]
    begin = start[:, None] + _rounded(
        index * bin_size[:, None], jnp.broadcast_to(known[:, None], (known.shape[0], count))
    )
    divisor = lax.optimization_barrier(jnp.maximum(samples, 1))
    axis = _Axis(begin, bin_size, samples.astype(jnp.int32), divisor, known, begin, begin)
    return _with_a_sample(axis, size)


def _with_a_sample(axis: _Axis, size: int) -> _Axis:
    """The axis with `near` and `some`: the first sample that is not beyond the features."""
    bin_size, divisor, last = (a[:, None] for a in (axis.bin, axis.divisor, axis.samples - 1))
    side = jnp.where(bin_size < 0, size, -1) - axis.begin
    first = jnp.ceil(side * divisor / jnp.where(bin_size == 0, 1, bin_size) - 0.5)
    # Rounding errors have it, or one beside it.
    first = jnp.clip(first, -2, (last + 2).astype(first.dtype)).astype(jnp.int32)
    i = jnp.clip(jnp.stack([first - 1, first, first + 1]), 0, jnp.maximum(last, 0)[None])
    at = axis.at(i)
    inside = _inside(at, size) & (last >= 0)[None]
    near = jnp.max(jnp.where(inside, at, -1), axis=0)
    return axis._replace(near=near, some=jnp.any(inside, axis=0))


def _inside(at: jax.Array, size: int) -> jax.Array:
    return (at >= -1) & (at <= size)


def _rounded(product: jax.Array, known: jax.Array) -> jax.Array:
    """The product, where known; keeps it from being added to without being rounded first.

    A fused multiply-add would put what lies on a limit, of one cell outside or of one more
    sample, on the limit's other side. No compiler looks through an integer that it cannot know.
    """
    integer = jnp.int64 if product.dtype == jnp.float64 else jnp.int32
    bits = lax.bitcast_convert_type(product, integer) + (~known).astype(integer)
    return lax.bitcast_convert_type(bits, product.dtype)


def _samples(
    rois: jax.Array, first: jax.Array, shape: tuple[int, int], options: _Options
) -> _Samples:
    """The samples of rois [N, 4] whose example's cells begin at `first` [N]."""
    known = jnp.all(jnp.isfinite(rois), axis=1)
    y = _axis(rois[:, 1], rois[:, 3], known, shape[0], options.height, options)
    x = _axis(rois[:, 0], rois[:, 2], known, shape[1], options.width, options)
    return _Samples(first, y, x)


def _taps(
    axis: _Axis, i: jax.Array, size: int
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """(cell, weight), each [U, N, T], before and after the samples i [U, N] of each bin.

    Where the weight is 0, the cell is one that has a weight in the bin, if any has: that of another
    could be NaN, and 0 times NaN is NaN.
    """
    at = axis.at(i[:, :, None])
    inside = _inside(at, size)
    at = jnp.clip(jnp.where(inside, at, axis.near[None]), 0, size - 1)
    low = jnp.floor(at)
    after = at - low
    cell = low.astype(jnp.int32)
    return (
        (cell, jnp.where(inside, 1 - after, 0)),
        (jnp.where(after > 0, cell + 1, cell), jnp.where(inside, after, 0)),
    )


def _corners(
    samples: _Samples, i: jax.Array, unroll: int, shape: tuple[int, int]
) -> list[tuple[jax.Array, jax.Array]]:
    """(cell, weight), each [N Ty Tx], of the four around every sample of each bin in step i."""
    k = jnp.broadcast_to(
        (i * unroll + jnp.arange(unroll, dtype=jnp.int32))[:, None],
        (unroll, samples.first.shape[0]),
    )
    across = jnp.broadcast_to(jnp.maximum(samples.x.samples, 1)[None], k.shape)
    number = samples.number()[None]
    one = jnp.minimum(k, jnp.maximum(number - 1, 0))  # the last one again where there is no more
    rows = _taps(samples.y, lax.div(one, across), shape[0])
    columns = _taps(samples.x, lax.rem(one, across), shape[1])
    share = 1 / (samples.y.divisor * samples.x.divisor)[None]
    share = jnp.where(k < number, share, 0)[:, :, None, None]
    corners: list[tuple[jax.Array, jax.Array]] = []
    for row, row_weight in rows:
        row = samples.first[None, :, None] + row * shape[1]
        for column, column_weight in columns:
            cell = row[:, :, :, None] + column[:, :, None, :]
            weight = row_weight[:, :, :, None] * column_weight[:, :, None, :]
            weight = weight * share
            corners += zip(cell.reshape(unroll, -1), weight.reshape(unroll, -1), strict=True)
    return corners


@functools.lru_cache(maxsize=256)
def _roi_align(options: _Options) -> _regions.Core:
    forward = _regions.over_examples(functools.partial(_forward, options), share_first=True)

    @functools.lru_cache(maxsize=256)
    def backward(shape: tuple[int, int], dtype: jnp.dtype) -> _regions.Core:
        core = functools.partial(_backward, options, shape, dtype)
        return _regions.over_examples(core, share_first=False)

    @jax.custom_vjp
    def align(features: jax.Array, rois: jax.Array) -> jax.Array:
        return forward(features, rois)

    def align_forward(features: jax.Array, rois: jax.Array) -> tuple[jax.Array, tuple]:
        return forward(features, rois), (features[:, :, :, :0], rois)

    def align_backward(saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, rois = saved
        pull = backward(features.shape[1:3], features.dtype)
        return pull(*vary(rois, gradient)), jnp.zeros_like(rois)

    align.defvjp(align_forward, align_backward)
    return jax.jit(align)


def _steps(samples: _Samples, options: _Options) -> tuple[int | jax.Array, int]:
    """How many steps a block of regions takes, and how many samples of a bin a step."""
    if options.ratio:
        number = options.ratio**2
        unroll = min(number, 4)
        return -(-number // unroll), unroll
    return lax.div(jnp.max(samples.number()) + jnp.int32(1), jnp.int32(2)), 2


def _forward(options: _Options, features: jax.Array, rois: jax.Array) -> jax.Array:
    (batch, rows, columns, channels), regions = features.shape, rois.shape[1]
    bins = options.height * options.width
    shape = (batch, regions, options.height, options.width, channels)
    if 0 in shape:
        return jnp.zeros(shape, features.dtype)
    cells = features.reshape(-1, channels)
    wide = jnp.promote_types(features.dtype, jnp.float32)
    first = _regions.first_cells(batch, regions, rows * columns)
    samples = _samples(rois.reshape(-1, 4), first, (rows, columns), options)

    def block(samples: _Samples) -> jax.Array:
        """The aligned regions [n Ty Tx, C] of a block of n."""
        steps, unroll = _steps(samples, options)

        def step(i: jax.Array, total: jax.Array) -> jax.Array:
            for cell, weight in _corners(samples, i, unroll, (rows, columns)):
                value = take(cells, cell.reshape(-1)).astype(wide)
                total += value * jnp.broadcast_to(weight.astype(wide)[:, None], value.shape)
            return total

        total = jnp.zeros((samples.first.shape[0] * bins, channels), wide)
        total, _ = vary(total, cells)
        if isinstance(steps, int) and steps == 1:
            total = step(jnp.int32(0), total)
        else:
            total = _regions.loop(steps, step, total)
        filled = jnp.broadcast_to(samples.filled(), total.shape)
        return jnp.where(filled, total, 0).astype(features.dtype)

    def one_by_one(samples: _Samples) -> jax.Array:
        def step(i: jax.Array, out: jax.Array) -> jax.Array:
            one = _regions.pick(samples, i)
            return lax.dynamic_update_index_in_dim(out, block(one), i, 0)

        out = jnp.zeros((batch * regions, bins, channels), features.dtype)
        return _regions.loop(batch * regions, step, vary(out, cells)[0])

    def all_at_once(samples: _Samples) -> jax.Array:
        return block(samples).reshape(-1, bins, channels)

    return lax.platform_dependent(samples, cpu=one_by_one, default=all_at_once).reshape(shape)


def _backward(
    options: _Options,
    shape: tuple[int, int],
    dtype: jnp.dtype,
    rois: jax.Array,
    gradient: jax.Array,
) -> jax.Array:
    """Adds each bin's gradient to the cells it was interpolated from, by their weights."""
    (batch, regions), channels = rois.shape[:2], gradient.shape[-1]
    out_shape = (batch, *shape, channels)
    if 0 in gradient.shape:
        return jnp.zeros(out_shape, dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    first = _regions.first_cells(batch, regions, shape[0] * shape[1])
    samples = _samples(rois.reshape(-1, 4), first, shape, options)
    gradient = gradient.reshape(batch * regions, -1, channels)
    total = jnp.zeros((batch * shape[0] * shape[1], channels), wide)
    total, _ = vary(total, gradient)

    def block(samples: _Samples, gradient: jax.Array, total: jax.Array) -> jax.Array:
        steps, unroll = _steps(samples, options)
        pulled = gradient.reshape(-1, channels).astype(wide)
        pulled = jnp.where(jnp.broadcast_to(samples.filled(), pulled.shape), pulled, 0)

        def step(i: jax.Array, total: jax.Array) -> jax.Array:
            for cell, weight in _corners(samples, i, unroll, shape):
                update = pulled * jnp.broadcast_to(weight.astype(wide)[:, None], pulled.shape)
                total = total.at[cell].add(update, mode="promise_in_bounds")
            return total

        if isinstance(steps, int) and steps == 1:
            return step(jnp.int32(0), total)
        return _regions.loop(steps, step, total)

    def one_by_one(samples: _Samples, gradient: jax.Array, total: jax.Array) -> jax.Array:
        def step(i: jax.Array, total: jax.Array) -> jax.Array:
            return block(_regions.pick(samples, i), gradient[i], total)

        return _regions.loop(batch * regions, step, total)

    summed = lax.platform_dependent(samples, gradient, total, cpu=one_by_one, default=block)
    return summed.astype(dtype).reshape(out_shape)
