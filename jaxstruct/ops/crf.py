"""Fully connected conditional random fields: mean-field inference, energies, and their filters.

What may be added: another filter, that is, a linear and symmetric function of values at all points.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _arrays, _checks
from jaxstruct.ops._energies import (
    Kernel,
    checked_compatibility,
    energy,
    free_energy,
    free_energy_of,
    messages,
    pairwise_costs,
)
from jaxstruct.ops._lattice import find
from jaxstruct.ops.gaussian import (
    FILTERS,
    Deviation,
    FilterName,
    GridGaussian,
    deviation,
    gaussian,
    joined,
    normalized,
    split,
)
from jaxstruct.ops.permutohedral import rounded

__all__ = [
    "Kernel",
    "dense_crf",
    "energy",
    "free_energy",
    "lattice_capacity",
    "mean_field",
    "pixel_features",
    "pixel_kernels",
]


def dense_crf(
    unary: ArrayLike,
    image: ArrayLike,
    *,
    bilateral_weight: ArrayLike = 10.0,
    sigma_xy: Deviation = 80.0,
    sigma_rgb: Deviation = 13.0,
    gaussian_weight: ArrayLike = 3.0,
    sigma_gaussian: Deviation = 3.0,
    compatibility: ArrayLike | None = None,
    iterations: int = 10,
    filter: FilterName = "lattice",
    capacity: int | None = None,
) -> jax.Array:
    """The marginals of a fully connected CRF over the pixels of an image, by mean-field inference.

        E(x) = sum over i of U_i(x_i)  +  sum over i < j of  mu(x_i, x_j) k(i, j)
        k(i, j) = w1 exp(-|p_i - p_j|^2 / (2 sigma_xy^2) - |I_i - I_j|^2 / (2 sigma_rgb^2))
                + w2 exp(-|p_i - p_j|^2 / (2 sigma_gaussian^2))

    Each exponential is normalized on its own, D^-1/2 K D^-1/2 with D = K 1, and the sums of
    mean-field inference include j = i. Both are pydensecrf's defaults. With filter "lattice" the
    marginals differ from pydensecrf's by less than 2e-4 on average.

    The cost is linear in pixels and labels with "lattice", quadratic in pixels with "exact".
    Outside of a trace the lattice's capacity follows from the image and is rounded, so that images
    of one size share few programs. Inside of jit, vmap and the like give a `capacity`: the default
    is that of the worst case, many times as large. A batch is computed image by image on a CPU,
    together elsewhere.

    Gradients reach the unary, the weights, the compatibility and sigma_gaussian; sigma_xy,
    sigma_rgb and the image only with "exact". On a GPU the lattice adds up in any order, so last
    bits can change from call to call.

    Args:
        unary: [H, W, L] or [B, H, W, L], negative log-probabilities; +inf forbids a label, and a
            pixel that forbids all of them, or a NaN, makes the image NaN.
        image: [H, W, 3] or [B, H, W, 3], of any dtype, in [0, 255].
        bilateral_weight: w1.
        sigma_xy: in pixels, one number or (x, y).
        sigma_rgb: in the image's units, one number or one for each color.
        gaussian_weight: w2.
        sigma_gaussian: in pixels, one number or (x, y). Where it is known to Python, "lattice" cuts
            this kernel off at 3 standard deviations, on a CPU.
        compatibility: mu; by default Potts, [x_i != x_j]. Else [L] or [L, L] costs, as in `Kernel`,
            which the weights multiply.
        iterations: of mean-field inference, all pixels at once.
        filter: "lattice", the permutohedral lattice, or "exact", the sum over all pairs.
        capacity: vertices of the lattice, as in `PermutohedralLattice.build`.

    Returns:
        [H, W, L] or [B, H, W, L], which sum to 1 over the last axis, in the dtype of unary.

    Raises:
        ValueError: other shapes or options; or, outside of a trace, a floating image within [0, 1]
            that is not constant, weights or costs that are not finite, or a standard deviation that
            is not above 0 and finite, or so small that the lattice has no coordinates left (in a
            trace: NaN). TypeError: another dtype.

    Source: Kraehenbuehl & Koltun 2011, Efficient inference in fully connected CRFs with Gaussian
    edge potentials, eq. 2, 3 and algorithm 1; the names of the parameters are DeepLab's (Chen et
    al. 2015, section 3.2).
    """
    costs, pixels = check_images(unary, image)
    _checks.integer("iterations", iterations, least=0)
    _checks.one_of("filter", filter, FILTERS)
    weights: tuple[ArrayLike, ...] = bilateral_weight, gaussian_weight
    if compatibility is not None:
        label_costs = checked_compatibility(compatibility, costs.shape[-1])
        weights = tuple(w * label_costs for w in weights)
    kernels = functools.partial(
        pixel_kernels,
        bilateral_weight=weights[0],
        sigma_xy=sigma_xy,
        sigma_rgb=sigma_rgb,
        gaussian_weight=weights[1],
        sigma_gaussian=sigma_gaussian,
        filter=filter,
    )

    def one(unary: jax.Array, image: jax.Array, capacity: int | None = capacity) -> jax.Array:
        return mean_field(unary, kernels(image, capacity=capacity), iterations=iterations)

    if costs.ndim == 3:
        return one(costs, pixels)
    if isinstance(pixels, jax.core.Tracer) or isinstance(costs, jax.core.Tracer):
        return over_images(one, costs, pixels)
    if jax.default_backend() == "cpu" or filter == "exact":
        return jnp.stack([one(*pair) for pair in zip(costs, pixels, strict=True)])
    if capacity is None:
        capacity = rounded(lattice_capacity(pixels, sigma_xy=sigma_xy, sigma_rgb=sigma_rgb))
    return jax.vmap(functools.partial(one, capacity=capacity))(costs, pixels)


def over_images(f: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """f of each image of a batch: one after the other on a CPU, all together elsewhere."""
    in_turn = lambda *arrays: lax.map(lambda each: f(*each), arrays)
    return lax.platform_dependent(*arrays, cpu=in_turn, default=jax.vmap(f))


def pixel_kernels(
    image: ArrayLike,
    *,
    bilateral_weight: ArrayLike = 10.0,
    sigma_xy: Deviation = 80.0,
    sigma_rgb: Deviation = 13.0,
    gaussian_weight: ArrayLike = 3.0,
    sigma_gaussian: Deviation = 3.0,
    filter: FilterName = "lattice",
    capacity: int | None = None,
) -> list[Kernel]:
    """The two kernels of `dense_crf`, for `mean_field` on any number of unaries of this image.

    Args:
        image: [H, W, 3]; the others are as in `dense_crf`, but a weight can be any compatibility.

    Returns:
        The bilateral and the Gaussian kernel, normalized, of values [H, W, C].

    Raises:
        ValueError: image is not [H, W, 3]; else ValueError and TypeError as `dense_crf`.
    """
    pixels = jnp.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise _checks.shape("image", pixels.shape, "[H, W, 3]")
    shape = pixels.shape[:2]
    features = pixel_features(pixels, sigma_xy, sigma_rgb)
    bilateral = gaussian(features.reshape(-1, 5), filter, capacity)
    sigma, reach = deviation("sigma_gaussian", sigma_gaussian, 2), None
    if filter == "lattice" and not isinstance(sigma, jax.Array):
        reach = math.ceil(3 * float(np.max(sigma)))
    spatial = GridGaussian(jnp.asarray(sigma, features.dtype), reach)
    return [
        Kernel(normalized(bilateral, shape, dtype=features.dtype), bilateral_weight),
        Kernel(normalized(spatial, shape, dtype=features.dtype), gaussian_weight),
    ]


def pixel_features(image: ArrayLike, sigma_xy: Deviation, sigma_rgb: Deviation) -> jax.Array:
    """(x / sigma_xy, y / sigma_xy, color / sigma_rgb) of each pixel: [H, W, C] to [H, W, 2 + C].

    A sigma is one number, or (x, y) and one for each color. Raises ValueError and TypeError for
    others, as `dense_crf`, and ValueError for an image of another shape.
    """
    pixels = jnp.asarray(image)
    if pixels.ndim != 3:
        raise _checks.shape("image", pixels.shape, "[H, W, C]")
    of_place = deviation("sigma_xy", sigma_xy, 2)
    of_color = deviation("sigma_rgb", sigma_rgb, pixels.shape[-1])
    pixels = pixels.astype(jnp.promote_types(pixels.dtype, jnp.float32))
    of_place, of_color = (
        jnp.asarray(sigma, dtype).reshape((1, 1, -1))
        for sigma, dtype in ((of_place, float), (of_color, pixels.dtype))
    )
    rows, columns = jnp.mgrid[: pixels.shape[0], : pixels.shape[1]]
    places = jnp.stack([columns, rows], -1).astype(float) / of_place
    return jnp.concatenate([places.astype(pixels.dtype), pixels / of_color], -1)


def mean_field(
    unary: ArrayLike,
    kernels: Sequence[Kernel],
    *,
    iterations: int = 10,
    trace: bool = False,
) -> Any:
    """Mean-field inference, all points at once: the marginals Q that approximate exp(-E).

        Q = softmax(-U);  repeated:  Q <- softmax(-U - sum over kernels of mu K Q)

    The points may be pixels, regions, or nodes of a graph: only the filters K know where they are.

    Args:
        unary: [..., L], negative log-probabilities at the points.
        kernels: filters of values [..., C] at these points, and their compatibilities.
        iterations: how often Q is replaced.
        trace: whether to return the free energies, too.

    Returns:
        Q, [..., L], in the dtype of unary. With trace (Q, energies [iterations + 1]): what
        `free_energy` says of Q before each iteration and after the last one.

    Raises:
        ValueError: a compatibility of another shape. TypeError: unary is not floating.

    Source: Kraehenbuehl & Koltun 2011, algorithm 1.
    """
    costs = _checks.floating("unary", unary)
    _checks.integer("iterations", iterations, least=0)
    checked = [
        k._replace(compatibility=checked_compatibility(k.compatibility, costs.shape[-1], 0))
        for k in kernels
    ]
    arrays, fixed, structure = split(checked)
    return _mean_field(costs, arrays, fixed, structure, iterations, trace)


@functools.partial(jax.jit, static_argnames=("fixed", "structure", "iterations", "trace"))
def _mean_field(
    unary: jax.Array, arrays: Any, fixed: Any, structure: Any, iterations: int, trace: bool
) -> Any:
    """Jitted once for all kernels of a kind: what in them is no array is static."""
    kernels = joined(arrays, fixed, structure)
    wide = unary.astype(jnp.promote_types(unary.dtype, jnp.float32))

    def step(q: jax.Array, _: None) -> Any:
        sums = messages(q, kernels)
        energy = free_energy_of(q, wide, sums, kernels) if trace else None
        # Without the barrier XLA computes the sums for each pass of the softmax.
        costs = _arrays.barrier(pairwise_costs(sums, kernels, wide))
        return jax.nn.softmax(-wide - costs), energy

    q, energies = lax.scan(step, jax.nn.softmax(-wide), None, length=iterations)
    if not trace:
        return q.astype(unary.dtype)
    last = free_energy_of(q, wide, messages(q, kernels), kernels)
    return q.astype(unary.dtype), jnp.append(energies, last)


def check_images(unary: ArrayLike, image: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both as arrays; raises what `dense_crf` says of them."""
    costs = _checks.array(
        "unary", unary, "floating", "[H, W, L] or [B, H, W, L]", ranks=range(3, 5)
    )
    pixels = jnp.asarray(image)
    if pixels.shape != (*costs.shape[:-1], 3):
        raise ValueError(
            f"got unary {costs.shape} and image {pixels.shape}, expected [H, W, L] and [H, W, 3], "
            "or both with a batch axis"
        )
    if 0 in costs.shape:
        raise _checks.shape("unary", costs.shape, "pixels and labels")
    if not isinstance(pixels, jax.core.Tracer) and jnp.issubdtype(pixels.dtype, jnp.floating):
        low, high = float(pixels.min()), float(pixels.max())
        if 0 <= low < high <= 1:
            raise ValueError(
                f"image reaches from {low:.3g} to {high:.3g}, expected [0, 255], the unit of "
                "sigma_rgb: multiply it by 255"
            )
    return costs, pixels


def lattice_capacity(
    images: ArrayLike, *, sigma_xy: Deviation = 80.0, sigma_rgb: Deviation = 13.0
) -> int:
    """The least `capacity` with which `dense_crf` computes these images inside of jit.

    With a capacity for all images of one size, they share one program; with less than an image
    needs, its marginals are NaN.

    Args:
        images: [H, W, 3] or [B, H, W, 3], of any dtype, in [0, 255].
        sigma_xy, sigma_rgb: as in `dense_crf`.

    Returns:
        vertices of the lattice, as in `PermutohedralLattice.build`.

    Raises:
        ValueError: another shape, or deviations that `dense_crf` refuses or that are so small that
            the lattice has no coordinates left. TypeError: deviations of another dtype.
    """
    pixels = jnp.asarray(images)
    if pixels.ndim not in (3, 4) or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise _checks.shape("images", pixels.shape, "[H, W, 3] or [B, H, W, 3]")
    found = [
        find(pixel_features(image, sigma_xy, sigma_rgb).reshape(-1, 5))
        for image in pixels.reshape(-1, *pixels.shape[-3:])
    ]
    if not all(one.inside for one in found):
        raise ValueError(
            f"sigma_xy {sigma_xy} and sigma_rgb {sigma_rgb} are too small for a lattice of these "
            "images; expected larger ones, and images of finite numbers"
        )
    return max(int(one.used) for one in found)
