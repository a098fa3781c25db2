"""Alignment of regions: ROIAlign, which interpolates where ROI pooling rounds.

What may be added: other poolings of interpolated samples. Quantised ones are in region_pooling.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks, _regions
from jaxstruct.ops._arrays import take, vary
from jaxstruct.ops._samples import Options, Samples, corners_of, samples_of


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
    options = Options(height, width, scale, ratio, aligned)
    return _regions.apply(_roi_align(options), features, rois)


@functools.lru_cache(maxsize=256)
def _roi_align(options: Options) -> _regions.Core:
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


def _steps(samples: Samples, options: Options) -> tuple[int | jax.Array, int]:
    """How many steps a block of regions takes, and how many samples of a bin a step."""
    if options.ratio:
        number = options.ratio**2
        unroll = min(number, 4)
        return -(-number // unroll), unroll
    return lax.div(jnp.max(samples.number()) + jnp.int32(1), jnp.int32(2)), 2


def _forward(options: Options, features: jax.Array, rois: jax.Array) -> jax.Array:
    (batch, rows, columns, channels), regions = features.shape, rois.shape[1]
    bins = options.height * options.width
    shape = (batch, regions, options.height, options.width, channels)
    if 0 in shape:
        return jnp.zeros(shape, features.dtype)
    cells = features.reshape(-1, channels)
    wide = jnp.promote_types(features.dtype, jnp.float32)
    first = _regions.first_cells(batch, regions, rows * columns)
    samples = samples_of(rois.reshape(-1, 4), first, (rows, columns), options)

    def block(samples: Samples) -> jax.Array:
        """The aligned regions [n Ty Tx, C] of a block of n."""
        steps, unroll = _steps(samples, options)

        def step(i: jax.Array, total: jax.Array) -> jax.Array:
            for cell, weight in corners_of(samples, i, unroll, (rows, columns)):
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

    def one_by_one(samples: Samples) -> jax.Array:
        def step(i: jax.Array, out: jax.Array) -> jax.Array:
            one = _regions.pick(samples, i)
            return lax.dynamic_update_index_in_dim(out, block(one), i, 0)

        out = jnp.zeros((batch * regions, bins, channels), features.dtype)
        return _regions.loop(batch * regions, step, vary(out, cells)[0])

    def all_at_once(samples: Samples) -> jax.Array:
        return block(samples).reshape(-1, bins, channels)

    return lax.platform_dependent(samples, cpu=one_by_one, default=all_at_once).reshape(shape)


def _backward(
    options: Options,
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
    samples = samples_of(rois.reshape(-1, 4), first, shape, options)
    gradient = gradient.reshape(batch * regions, -1, channels)
    total = jnp.zeros((batch * shape[0] * shape[1], channels), wide)
    total, _ = vary(total, gradient)

    def block(samples: Samples, gradient: jax.Array, total: jax.Array) -> jax.Array:
        steps, unroll = _steps(samples, options)
        pulled = gradient.reshape(-1, channels).astype(wide)
        pulled = jnp.where(jnp.broadcast_to(samples.filled(), pulled.shape), pulled, 0)

        def step(i: jax.Array, total: jax.Array) -> jax.Array:
            for cell, weight in corners_of(samples, i, unroll, shape):
                update = pulled * jnp.broadcast_to(weight.astype(wide)[:, None], pulled.shape)
                total = total.at[cell].add(update, mode="promise_in_bounds")
            return total

        if isinstance(steps, int) and steps == 1:
            return step(jnp.int32(0), total)
        return _regions.loop(steps, step, total)

    def one_by_one(samples: Samples, gradient: jax.Array, total: jax.Array) -> jax.Array:
        def step(i: jax.Array, total: jax.Array) -> jax.Array:
            return block(_regions.pick(samples, i), gradient[i], total)

        return _regions.loop(batch * regions, step, total)

    summed = lax.platform_dependent(samples, gradient, total, cpu=one_by_one, default=block)
    return summed.astype(dtype).reshape(out_shape)
