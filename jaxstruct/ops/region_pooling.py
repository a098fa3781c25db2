"""Quantised max pooling of regions: Fast R-CNN's ROI pooling, SPPnet's spatial pyramid.

What may be added: other poolings over whole cells of a feature map. Interpolation is in
region_alignment.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks, _regions
from jaxstruct.ops._arrays import take, vary
from jaxstruct.ops._bins import Bins, bins_of

# torchvision starts every maximum here, so nothing below it, and no NaN, is ever chosen.
_LOWEST = float(np.finfo(np.float32).min)
_MOST_ROWS = 16


def roi_pool(
    features: ArrayLike,
    rois: ArrayLike,
    *,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
) -> jax.Array:
    """Fast R-CNN's ROI pooling: the maximum over each of T x T bins of whole cells.

        start, end = round(scale * x1), round(scale * x2)       halves away from zero
        width      = max(end - start + 1, 1)                    cells
        bin j      = [start + floor(j * width / T), start + ceil((j + 1) * width / T))

    and the same for y; bins are cut at the border of the features and may share cells, as they
    must where T is larger than the region. Values and gradient are torchvision's: of equal
    maxima the first in row-major order is chosen. The gradient goes to the features; that of
    rois is zero.

    A bin without a cell, as of a region outside of the features, is 0. So is every bin of a
    region whose coordinates are not all finite. A NaN feature is never chosen: a bin of NaNs alone
    gives the lowest float32, and no gradient.

    Args:
        features: [H, W, C], or [B, H, W, C].
        rois: [R, 4], or [B, R, 4]: x1, y1, x2, y2 in pixels of the image; x2 < x1 is taken as
            a width of one cell. bfloat16 is computed in float32.
        output_size: T, or (height, width).
        spatial_scale: cells per pixel, 1/16 for conv5 of VGG16.

    Returns:
        [R, T, T, C], or [B, R, T, T, C], in the dtype of features.

    Raises:
        ValueError: other shapes, or an option out of its range. TypeError: features or rois are
        integers, or an option is of another type. Forward-mode derivatives and second
        derivatives are not defined (custom_vjp).

    Source: Girshick 2015, Fast R-CNN, section 2.1; the bins are torchvision's.
    """
    height, width = _checks.pair("output_size", output_size)
    scale = _checks.positive("spatial_scale", spatial_scale)
    return _regions.apply(_roi_pool(height, width, scale), features, rois)


def spatial_pyramid_pool(
    features: ArrayLike,
    rois: ArrayLike,
    *,
    levels: Sequence[int] = (6, 3, 2, 1),
    spatial_scale: float = 1.0,
) -> jax.Array:
    """SPPnet's spatial pyramid: `roi_pool` with each level's T, as one vector a region.

    The vector holds the levels in the order given; within a level the bins row by row from the
    top left; within a bin the C channels.

    Args:
        features: [H, W, C], or [B, H, W, C].
        rois: [R, 4], or [B, R, 4], as in `roi_pool`.
        levels: T of each level.
        spatial_scale: cells per pixel.

    Returns:
        [R, D], or [B, R, D], with D = C * sum of T^2: 50 C for the default levels.

    Raises:
        ValueError and TypeError as `roi_pool`, and for levels.

    Source: He et al. 2014, Spatial pyramid pooling in deep convolutional networks, sections 2.2
    and 4.1. The bins are those of `roi_pool`; `window_cells` maps windows to cells as SPPnet does.
    """
    if isinstance(levels, (str, int)) or not isinstance(levels, Sequence):
        raise TypeError(f"levels is {levels!r}, expected a sequence of integers")
    if not levels:
        raise ValueError(f"levels is {levels!r}, expected at least one")
    sizes = [_checks.integer("levels", level, least=1) for level in levels]
    pooled = [
        roi_pool(features, rois, output_size=size, spatial_scale=spatial_scale) for size in sizes
    ]
    flat = [level.reshape(*level.shape[:-3], np.prod(level.shape[-3:])) for level in pooled]
    return jnp.concatenate(flat, axis=-1)


@functools.lru_cache(maxsize=256)
def _roi_pool(height: int, width: int, scale: float) -> _regions.Core:
    options = (height, width, scale)
    forward = _regions.over_examples(functools.partial(_forward, options), share_first=True)
    backward = _regions.over_examples(functools.partial(_backward, options), share_first=False)

    @jax.custom_vjp
    def pool(features: jax.Array, rois: jax.Array) -> jax.Array:
        return forward(features, rois)

    def pool_forward(features: jax.Array, rois: jax.Array) -> tuple[jax.Array, tuple]:
        out = forward(features, rois)
        return out, (features, rois, out)

    def pool_backward(saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, rois, out = saved
        return backward(*vary(features, rois, out, gradient)), jnp.zeros_like(rois)

    pool.defvjp(pool_forward, pool_backward)
    return jax.jit(pool)


def _lowest(dtype: jnp.dtype) -> jax.Array:
    return jnp.maximum(jnp.asarray(_LOWEST, dtype), jnp.finfo(dtype).min)


def _unroll(height: int, width: int) -> int:
    """Cells of a bin in one step: amortises what a step costs, without waste on small regions."""
    return max(4, min(16, 64 // (height * width)))


def _forward(options: tuple, features: jax.Array, rois: jax.Array) -> jax.Array:
    (batch, rows, columns, channels), regions = features.shape, rois.shape[1]
    height, width, _ = options
    shape = (batch, regions, height, width, channels)
    if 0 in shape:
        return jnp.zeros(shape, features.dtype)
    cells = features.reshape(-1, channels)
    first = _regions.first_cells(batch, regions, rows * columns)
    bins = bins_of(rois.reshape(-1, 4), first, (rows, columns), options)

    def block(bins: Bins) -> jax.Array:
        """The pooled regions [n Ty Tx, C] of n: as many steps as the largest of them needs."""
        number, unroll = bins.cells(), _unroll(height, width)
        filled = bins.filled().reshape(-1, 1)

        def step(i: jax.Array, best: jax.Array) -> jax.Array:
            for at in bins.cell(_ks(i, unroll, number), columns):
                value = take(cells, at.reshape(-1))
                # Not maximum, which would spread a NaN.
                best = jnp.where(value > best, value, best)
            return best

        best = jnp.full((filled.shape[0], channels), _lowest(features.dtype))
        best, _ = vary(best, cells)
        best = _regions.loop(_steps(number, unroll), step, best)
        return jnp.where(jnp.broadcast_to(filled, best.shape), best, 0)

    def one_by_one(bins: Bins) -> jax.Array:
        def step(i: jax.Array, out: jax.Array) -> jax.Array:
            return lax.dynamic_update_index_in_dim(out, block(_regions.pick(bins, i)), i, 0)

        out = jnp.zeros((batch * regions, height * width, channels), features.dtype)
        return _regions.loop(batch * regions, step, vary(out, cells)[0])

    return lax.platform_dependent(
        bins, cpu=one_by_one, default=lambda bins: block(bins).reshape(-1, height * width, channels)
    ).reshape(shape)


def _backward(
    options: tuple, features: jax.Array, rois: jax.Array, out: jax.Array, gradient: jax.Array
) -> jax.Array:
    """Adds each bin's gradient to the first cell that has the bin's maximum."""
    (batch, rows, columns, channels), regions = features.shape, rois.shape[1]
    height, width, _ = options
    if 0 in out.shape:
        return jnp.zeros_like(features)
    cells = features.reshape(-1, channels)
    first = _regions.first_cells(batch, regions, rows * columns)
    bins = bins_of(rois.reshape(-1, 4), first, (rows, columns), options)
    best = out.reshape(-1, height * width, channels)
    gradient = gradient.reshape(best.shape)
    wide = jnp.promote_types(features.dtype, jnp.float32)
    total, _ = vary(jnp.zeros(cells.shape, wide), cells)

    def chosen(bins: Bins, best: jax.Array) -> jax.Array:
        """[n Ty Tx, C]: the first cell that has the maximum, -1 where nothing was chosen."""
        number, unroll = bins.cells(), _unroll(height, width)
        some = jnp.broadcast_to(bins.filled().reshape(-1, 1), best.shape)
        some &= best > _lowest(best.dtype)
        never = jnp.int32(rows * columns)

        def step(i: jax.Array, choice: jax.Array) -> jax.Array:
            ks = _ks(i, unroll, number)
            for k, at in zip(ks, bins.cell(ks, columns), strict=True):
                value = take(cells, at.reshape(-1))
                k = jnp.broadcast_to(jnp.repeat(k, height * width)[:, None], choice.shape)
                choice = jnp.minimum(choice, jnp.where(value == best, k, never))
            return choice

        return _regions.loop(_steps(number, unroll), step, jnp.where(some, never, jnp.int32(-1)))

    def scatter(bins: Bins, choice: jax.Array, gradient: jax.Array, total: jax.Array) -> jax.Array:
        """Adds element by element; choice and gradient are [n Ty Tx, C]."""
        number = bins.y.shape[0]
        across = jnp.repeat(bins.across(), height * width)[:, None]
        across = jnp.broadcast_to(across, choice.shape)
        start = (bins.y[:, :, None] + bins.x[:, None, :]).reshape(number * height * width, 1)
        at = start + columns * lax.div(choice, across) + lax.rem(choice, across)
        # What nothing was chosen for goes nowhere.
        at = jnp.where(choice < 0, cells.shape[0], at)
        channel = jnp.broadcast_to(jnp.arange(channels, dtype=at.dtype)[None], at.shape)
        return total.at[at, channel].add(gradient.astype(wide), mode="drop")

    def one_by_one(bins: Bins, best: jax.Array, gradient: jax.Array) -> jax.Array:
        def region(i: jax.Array, total: jax.Array) -> jax.Array:
            one, pulled = _regions.pick(bins, i), gradient[i].astype(wide)
            choice, number = chosen(one, best[i]), one.cells()[0]

            def step(k: jax.Array, total: jax.Array) -> jax.Array:
                at = one.cell(k[None, None], columns)[0]
                return total.at[at].add(jnp.where(choice == k, pulled, 0), mode="promise_in_bounds")

            # Rows of C are added a whole vector at a time, elements one by one: the former wins
            # until most of what a row adds is zeros. Loops of 0 or 1 steps, as cond would copy.
            by_row = number <= _MOST_ROWS
            total = _regions.loop(jnp.where(by_row, number, 0), step, total)
            return _regions.loop(
                jnp.where(by_row, 0, 1), lambda _, t: scatter(one, choice, pulled, t), total
            )

        return _regions.loop(best.shape[0], region, total)

    def all_at_once(bins: Bins, best: jax.Array, gradient: jax.Array) -> jax.Array:
        best, gradient = best.reshape(-1, channels), gradient.reshape(-1, channels)
        return scatter(bins, chosen(bins, best), gradient, total)

    summed = lax.platform_dependent(bins, best, gradient, cpu=one_by_one, default=all_at_once)
    return summed.astype(features.dtype).reshape(features.shape)


def _steps(number: jax.Array, unroll: int) -> jax.Array:
    return lax.div(jnp.max(number) + jnp.int32(unroll - 1), jnp.int32(unroll))


def _ks(i: jax.Array, unroll: int, number: jax.Array) -> jax.Array:
    """[U, N]: which cells of a bin step i visits; a step beyond the last cell visits that one."""
    ks = i * unroll + jnp.arange(unroll, dtype=jnp.int32)
    return jnp.clip(ks[:, None], 0, jnp.maximum(number - 1, 0)[None])
