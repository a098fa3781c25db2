"""Upconvolution, and the kernels to begin one with.

Also called deconvolution, transposed or fractionally strided convolution. What may be added:
another form of the same sum, with the shapes for which it is the fastest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks
from jaxstruct.ops._cpu.upconvolution import filtered, gathered, scattered, winograd_tile
from jaxstruct.ops._phases import Grid, by_taps


def upconv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    stride: int | tuple[int, int],
    padding: str | int | tuple[int, int] = "SAME",
    output_padding: int | tuple[int, int] = 0,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Upconvolution: every input adds the kernel, weighted by itself, to a larger grid.

        out[o] = sum over q, t with stride q + t = o + low of  x[q] kernel[k - 1 - t]

    along both axes. The kernel is oriented as `flax.linen.ConvTranspose` has it; PyTorch's goes
    through `torch_upconv_kernel`. Of the full grid of (H - 1) stride + k, `low` and `high` are cut
    off at the ends:

        "SAME"     H' = H stride                        low = floor(max(k - stride, 0) / 2)
        "VALID"    H' = (H - 1) stride + max(k, stride)                low = 0
        integer p  H' = (H - 1) stride + k - 2 p + output_padding      low = p, as in PyTorch

    No zeros are put between the inputs: the stride's phases are channels of a smaller grid, where
    a CPU multiplies matrices (at stride 1 it convolves) and everything else convolves, once where
    the stride divides the kernel's size. On a CPU the form is chosen by shape, and where it is
    Winograd's algorithm, which the precision "highest" excludes, the largest error is 1e-5 of the
    largest value instead of 1e-6, and a NaN or infinity in x may reach all results of a tile,
    not only the k x k that the equation gives it to. Both arguments can be differentiated, in
    both modes and repeatedly.

    Args:
        x: [H, W, C] or [B, H, W, C].
        kernel: [kh, kw, C, D].
        stride: an integer for both axes, or (down, across).
        padding: "SAME", "VALID", or PyTorch's, an integer for both axes or (down, across).
        output_padding: with integer padding, how many more rows and columns the end has.
        precision: of the products, as in `jax.lax.dot`.

    Returns:
        [H', W', D] or [B, H', W', D], in the dtype that x and kernel promote to.

    Raises:
        ValueError: other shapes, options out of their range, or nothing left of the result.
        TypeError: x or kernel is not floating, or an option is of another type.

    Source: Zeiler et al. 2010, Deconvolutional networks; Long et al. 2015, section 3.3; the phases
    are those of Shi et al. 2016, Real-time single image and video super-resolution.
    """
    x, kernel = _checks.image_and_kernel(x, kernel)
    step = _checks.pair("stride", stride)
    more = _checks.pair("output_padding", output_padding, least=0)
    down = _cut(0, kernel.shape[0], step[0], padding, more)
    across = _cut(1, kernel.shape[1], step[1], padding, more)
    batched = x.ndim == 4
    images = x if batched else x[None]
    grid = Grid(step, (down, across), precision)
    size = [
        (n - 1) * s + k - sum(cut)
        for n, s, k, cut in zip(images.shape[1:3], step, kernel.shape[:2], grid.cut, strict=True)
    ]
    if min(size) < 1:
        raise ValueError(
            f"got padding {padding!r} for x {x.shape}, kernel {kernel.shape} and stride {stride}: "
            f"nothing is left of the result, expected a smaller padding"
        )
    out = _form(grid, kernel.shape)(images, kernel)
    return out if batched else out[0]


def bilinear_kernel(stride: int, channels: int) -> jax.Array:
    """The kernel with which `upconv` interpolates: every channel by itself, bilinearly.

        k = 2 stride - stride mod 2,    kernel[i, j, c, c] = (1 - |i - m| / f) (1 - |j - m| / f)

    with f = ceil(k / 2) and the centre m = (k - 1) / 2. With padding "SAME" the corners coincide
    as in `resize_bilinear`, whose values it gives except at the border, where it sees zeros.

    Args:
        stride: how many times larger the result is to be.
        channels: C.

    Returns:
        [k, k, C, C], float32.

    Raises:
        ValueError: stride or channels is below 1. TypeError: one of them is no integer.

    Source: Long et al. 2015, Fully convolutional networks, section 3.3; the size is that of their
    published layers.
    """
    stride = _checks.integer("stride", stride, least=1)
    channels = _checks.integer("channels", channels, least=1)
    size = 2 * stride - stride % 2
    line = 1 - np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2)
    kernel = np.outer(line, line)[:, :, None, None] * np.eye(channels)
    return jnp.asarray(kernel, jnp.float32)


def torch_upconv_kernel(weight: ArrayLike) -> jax.Array:
    """The kernel of `upconv` that is PyTorch's weight of a ConvTranspose2d: moved and flipped.

        kernel[i, j, c, d] = weight[c, d, kh - 1 - i, kw - 1 - j]

    Args:
        weight: [C, D, kh, kw].

    Returns:
        [kh, kw, C, D], in the dtype of weight.

    Raises:
        ValueError: another rank. TypeError: weight is not floating.

    Source: the equation above; the layout is torch.nn.ConvTranspose2d's with one group.
    """
    weight = _checks.array("weight", weight, "floating", "[C, D, kh, kw]", ranks=range(4, 5))
    return jnp.transpose(weight, (2, 3, 0, 1))[::-1, ::-1]


_MOST_TAPS = 36
_Form = Callable[[jax.Array, jax.Array], jax.Array]


@functools.lru_cache(maxsize=256)
def _form(grid: Grid, kernel: tuple[int, ...]) -> _Form:
    """The fastest form forward and backward together; benchmarks/results/upconv.md has timings.

    Cached and jitted, so that a call outside of jit compiles once.
    """
    convolved = functools.partial(_convolved, grid)
    taps, (channels, depth) = math.prod(grid.taps(kernel)), kernel[2:]
    phases = math.prod(grid.stride) * depth
    # Many taps, of which each is a product, would take minutes to compile.
    if grid.stride == (1, 1) or taps > _MOST_TAPS:
        return jax.jit(convolved)
    at_once = taps * phases <= channels
    wide_result = taps * channels <= phases
    if wide_result:  # as FCN's 8x of 21 classes has
        products = functools.partial(gathered, grid)
    else:  # one product for DCGAN's last layer, one for each tap of the layers before
        products = functools.partial(scattered, grid, at_once=at_once)

    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # A CPU multiplies bfloat16 no faster than float32, and would round every sum to it.
        wide = jnp.promote_types(x.dtype, jnp.float32)
        tile = 0 if wide_result or at_once else winograd_tile(grid, x.shape, kernel.shape)
        form = functools.partial(filtered, grid, tile) if tile else products
        return form(x.astype(wide), kernel.astype(wide)).astype(x.dtype)

    return jax.jit(lambda *given: lax.platform_dependent(*given, cpu=on_cpu, default=convolved))


def _convolved(grid: Grid, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One convolution of stride 1 with all phases as channels of its result."""
    high, wide = grid.taps(kernel.shape)

    def convolve(taps: jax.Array) -> jax.Array:
        ends = ((taps.shape[0] - 1, high - 1), (taps.shape[1] - 1, wide - 1))
        return lax.conv_general_dilated(
            x,
            taps[::-1, ::-1],
            (1, 1),
            ends,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=grid.precision,
        )

    phases = by_taps(grid, kernel, convolve)
    return grid.interleaved(phases, kernel, (x.shape[1], x.shape[2]))


def _cut(
    axis: int, size: int, stride: int, padding: str | int | tuple[int, int], more: tuple[int, int]
) -> tuple[int, int]:
    """How much of the full grid is cut off at the beginning and at the end of an axis."""
    if isinstance(padding, str):
        _checks.padding_name(padding)
        if any(more):
            raise ValueError(f"got output_padding {more} with padding {padding!r}, expected 0")
        low = max(size - stride, 0) // 2 if padding == "SAME" else 0
        rest = size - stride if padding == "SAME" else min(size - stride, 0)
        return low, rest - low
    low = _checks.pair("padding", padding, least=0)[axis]
    if more[axis] >= stride:
        raise ValueError(f"output_padding is {more}, expected less than the stride of {stride}")
    return low, low - more[axis]
