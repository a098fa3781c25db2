"""Upconvolution, and the kernels to begin one with.

Also called deconvolution, transposed or fractionally strided convolution. What may be added:
another form of the same sum, with the shapes for which it is the fastest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks
from jaxstruct.ops._winograd import best_tile, winograd


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
    grid = _Grid(step, (down, across), precision)
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


class _Grid(NamedTuple):
    """What does not depend on the arrays: strides, what is cut off at the ends, precision."""

    stride: tuple[int, int]
    cut: tuple[tuple[int, int], tuple[int, int]]
    precision: lax.PrecisionLike

    def taps(self, kernel: tuple[int, ...]) -> tuple[int, int]:
        """How many inputs one output sees along each axis: ceil(k / stride)."""
        return -(-kernel[0] // self.stride[0]), -(-kernel[1] // self.stride[1])

    def interleaved(self, phases: jax.Array, kernel: jax.Array, size: tuple[int, int]) -> jax.Array:
        """[B, Gh, Gw, sh sw D], whose channels are the positions between two inputs, as images."""
        batch, height, width, _ = phases.shape
        (down, across), depth = self.stride, kernel.shape[3]
        out = phases.reshape(batch, height, width, down, across, depth)
        out = out.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * down, width * across, depth)
        ends = [
            (-low, (n - 1) * s + k - high - rows, 0)
            for n, s, k, (low, high), rows in zip(
                size, self.stride, kernel.shape[:2], self.cut, out.shape[1:3], strict=True
            )
        ]
        return lax.pad(out, jnp.zeros((), out.dtype), [(0, 0, 0), *ends, (0, 0, 0)])


_MOST_TAPS = 36
_LEAST_SAVED = 1.2
_Form = Callable[[jax.Array, jax.Array], jax.Array]


@functools.lru_cache(maxsize=256)
def _form(grid: _Grid, kernel: tuple[int, ...]) -> _Form:
    """The fastest form forward and backward together, on two cores of a Zen CPU, jax 0.10.2.

    Cached and jitted, so that a call outside of jit compiles once. Inserting zeros into the input,
    as a convolution with lhs_dilation does, was never the fastest, and the gradient of its kernel
    took up to fifty times as long as that of the form chosen here.
    """
    convolved = functools.partial(_convolved, grid)
    taps, (channels, depth) = math.prod(grid.taps(kernel)), kernel[2:]
    phases = math.prod(grid.stride) * depth
    # Many taps, of which each is a product, would take minutes to compile.
    if grid.stride == (1, 1) or taps > _MOST_TAPS:
        return jax.jit(convolved)
    at_once = taps * phases <= channels
    wide_result = taps * channels <= phases
    if wide_result:  # FCN's 8x of 21 classes: 2.4 of what _scattered does
        products = functools.partial(_gathered, grid)
    else:  # in one product for DCGAN's last layer (2.5), in one per tap for those before (1.2)
        products = functools.partial(_scattered, grid, at_once=at_once)

    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # A CPU multiplies bfloat16 no faster than float32, and would round every sum to it.
        wide = jnp.promote_types(x.dtype, jnp.float32)
        tile = 0 if wide_result or at_once else _tile(grid, x.shape, kernel.shape)
        form = functools.partial(_filtered, grid, tile) if tile else products
        return form(x.astype(wide), kernel.astype(wide)).astype(x.dtype)

    return jax.jit(lambda *given: lax.platform_dependent(*given, cpu=on_cpu, default=convolved))


def _tile(grid: _Grid, x: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """The m of Winograd's F(m, taps) for the phases, or 0 where it saves no products."""
    down, across = grid.taps(kernel)
    number = x[1] + down - 1, x[2] + across - 1
    phases = math.prod(grid.stride)
    m, products = best_tile(
        x[0], number, (down, across, kernel[2], phases * kernel[3]), grid.precision
    )
    plain = math.prod(x[:3]) * math.prod(kernel[:2])
    return m if plain >= _LEAST_SAVED * products * phases else 0


def _convolved(grid: _Grid, x: jax.Array, kernel: jax.Array) -> jax.Array:
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

    phases = _by_taps(grid, kernel, convolve)
    return grid.interleaved(phases, kernel, (x.shape[1], x.shape[2]))


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=(0, 1))
def _filtered(grid: _Grid, m: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same by Winograd's algorithm, for DCGAN's layers 1.4 times as fast as one by one.

    What a gradient needs is computed again: the transforms are larger than x.
    """
    ends = [(n - 1, n - 1) for n in grid.taps(kernel.shape)]
    phases = winograd(m, x, _phases(grid, kernel)[::-1, ::-1], ends, grid.precision)
    return grid.interleaved(phases, kernel, (x.shape[1], x.shape[2]))


def _gathered(grid: _Grid, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The inputs that an output sees side by side, and one product with the whole kernel."""
    batch, height, width, channels = x.shape
    down, across = grid.taps(kernel.shape)
    around = jnp.pad(x, ((0, 0), (down - 1, down - 1), (across - 1, across - 1), (0, 0)))
    high, wide = height + down - 1, width + across - 1

    def multiply(taps: jax.Array) -> jax.Array:
        seen = [
            around[:, down - 1 - i : down - 1 - i + high, across - 1 - j : across - 1 - j + wide]
            for i, j in np.ndindex(taps.shape[:2])
        ]
        rows = jnp.concatenate(seen, -1).reshape(-1, len(seen) * channels)
        columns = taps.reshape(rows.shape[1], taps.shape[3])
        products = jnp.dot(rows, columns, precision=grid.precision)
        return products.reshape(batch, high, wide, taps.shape[3])

    return grid.interleaved(_by_taps(grid, kernel, multiply), kernel, (height, width))


def _scattered(grid: _Grid, x: jax.Array, kernel: jax.Array, *, at_once: bool) -> jax.Array:
    """The product of the inputs with the kernel's taps, each added where it belongs."""
    batch, height, width, channels = x.shape
    down, across = grid.taps(kernel.shape)
    flipped, depth = kernel[::-1, ::-1], kernel.shape[3]
    s, t = grid.stride
    places = [(i, j) for i in range(down) for j in range(across)]
    # The last tap may be a narrower one: no product with the zeros that would fill it.
    parts = [flipped[i * s : (i + 1) * s, j * t : (j + 1) * t] for i, j in places]
    rows = x.reshape(-1, channels)  # a product of four axes copies its operands in the gradient
    columns = [part.transpose(2, 0, 1, 3).reshape(channels, -1) for part in parts]
    if at_once:
        together = jnp.dot(rows, jnp.concatenate(columns, 1), precision=grid.precision)
        products = lax.split(together, [c.shape[1] for c in columns], axis=1)
    else:
        products = [jnp.dot(rows, c, precision=grid.precision) for c in columns]
    out = jnp.zeros((), x.dtype)
    for (i, j), part, product in zip(places, parts, products, strict=True):
        a, b = part.shape[:2]
        product = product.reshape(batch, height, width, a, b, depth)
        product = jnp.pad(product, ((0, 0), (0, 0), (0, 0), (0, s - a), (0, t - b), (0, 0)))
        product = product.reshape(batch, height, width, s * t * depth)
        out += jnp.pad(product, ((0, 0), (i, down - 1 - i), (j, across - 1 - j), (0, 0)))
    return grid.interleaved(out, kernel, (height, width))


def _by_taps(
    grid: _Grid, kernel: jax.Array, convolve: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """[B, Gh, Gw, sh sw D]: the phases, those of as many taps together.

    Where the stride does not divide the kernel's size, the last phases have one tap less, or none.
    A zero in its place would be multiplied: 0 times NaN is NaN.
    """
    (s, t), depth = grid.stride, kernel.shape[3]
    taps = _phases(grid, kernel)
    taps = taps.reshape(*taps.shape[:3], s, t, depth)

    def some(i: int, rows: slice, j: int, columns: slice) -> jax.Array:
        mine = taps[:i, :j, :, rows, columns]
        a, b = mine.shape[3:5]
        phases = convolve(mine.reshape(*mine.shape[:3], a * b * depth))
        return phases.reshape(*phases.shape[:3], a, b, depth)

    down, across = (_parts(k, n) for k, n in zip(kernel.shape[:2], grid.stride, strict=True))
    rows = [jnp.concatenate([some(*one, *other) for other in across], 4) for one in down]
    out = jnp.concatenate(rows, 3)
    without = [(0, s - out.shape[3]), (0, t - out.shape[4])]
    out = jnp.pad(out, [(0, 0), (0, 0), (0, 0), *without, (0, 0)])
    return out.reshape(*out.shape[:3], s * t * depth)


def _parts(size: int, stride: int) -> list[tuple[int, slice]]:
    """(number of taps, phases along an axis that have so many), without those of none."""
    less, more = divmod(size, stride)
    parts = [(less + 1, slice(0, more)), (less, slice(more, stride))]
    return [(n, phases) for n, phases in parts if n and phases.start < phases.stop]


def _phases(grid: _Grid, kernel: jax.Array) -> jax.Array:
    """[mh, mw, C, sh sw D]: the kernel's taps by the input they see, filled up with zeros."""
    (s, t), (down, across) = grid.stride, grid.taps(kernel.shape)
    high, wide, channels, depth = kernel.shape
    ends = ((0, down * s - high), (0, across * t - wide), (0, 0), (0, 0))
    taps = jnp.pad(kernel[::-1, ::-1], ends).reshape(down, s, across, t, channels, depth)
    return taps.transpose(0, 2, 4, 1, 3, 5).reshape(down, across, channels, s * t * depth)


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
