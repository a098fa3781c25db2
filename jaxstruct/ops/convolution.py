"""Convolution. What may be added: another form of the same sum, and where it is the fastest."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _arrays, _checks
from jaxstruct.ops._winograd import best_tile, winograd


def conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    stride: int | tuple[int, int] = 1,
    padding: _checks.Padding = "SAME",
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Convolution, as networks mean it: the kernel is not flipped.

        out[o] = sum over t of  x[stride o + dilation t - low] kernel[t]

    along both axes. `low` rows of zeros come before the image: what padding says; none with
    "VALID"; with "SAME", for ceil(H / stride) results, half of what they need, rounded down. With
    groups, output channels [i D / groups, (i + 1) D / groups) see the i-th part of x's channels.

    On a CPU it is computed as matrix products, of fewer and larger numbers where that is possible
    (Winograd's algorithm: a largest error of 1e-5 to 3e-5 of the largest value in float32, and a
    NaN or infinity in x may reach all results of a tile, not only those that see it; with the
    precision "highest" it is not used), and depthwise, where each channel is a group, as a sum of
    shifted images, because XLA's own is slow there, the gradient of the kernel above all. The form
    is chosen by shape: another size of batch or image compiles again. Everything else runs XLA's
    convolution. Both arguments can be differentiated, in both modes and repeatedly.

    Args:
        x: [H, W, C] or [B, H, W, C].
        kernel: [kh, kw, C / groups, D].
        stride: distance of two results, an integer for both axes or (down, across).
        padding: "SAME", "VALID", an integer for both axes or (down, across) and as much at the end,
            or ((before, after), (before, after)).
        dilation: distance of two taps, an integer for both axes or (down, across).
        groups: how many convolutions stand side by side; it divides C and D.
        precision: of the products, as in `jax.lax.dot`.

    Returns:
        [H', W', D] or [B, H', W', D], in the dtype that x and kernel promote to.

    Raises:
        ValueError: other shapes, options out of their range, or nothing left of the result.
        TypeError: x or kernel is not floating, or an option is of another type.

    Source: the equation above; the forms are those of Lavin & Gray 2015, Fast algorithms for
    convolutional neural networks, and of Chellapilla et al. 2006 (products of unrolled images).
    """
    groups = _checks.integer("groups", groups, least=1)
    x, kernel = _checks.image_and_kernel(x, kernel, groups)
    step, apart = _checks.pair("stride", stride), _checks.pair("dilation", dilation)
    reach = [(k - 1) * r + 1 for k, r in zip(kernel.shape[:2], apart, strict=True)]
    images = x if x.ndim == 4 else x[None]
    down, across = _checks.padding(padding, images.shape[1:3], reach, step)
    setting = _Setting(step, (down, across), apart, groups, precision)
    if min(setting.number(images.shape, kernel.shape)) < 1:
        raise ValueError(
            f"got padding {padding!r} for x {x.shape}, kernel {kernel.shape} and dilation "
            f"{dilation}: nothing is left of the result, expected a larger image or padding"
        )
    out = _form(setting)(images, kernel)
    return out if x.ndim == 4 else out[0]


def atrous_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    rate: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: _checks.Padding = "SAME",
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Atrous convolution, also called dilated: `conv` under the name and the word of its paper.

    A field of view of k + (k - 1) (rate - 1) for the parameters and the work of k.

    Args:
        x: [H, W, C] or [B, H, W, C].
        kernel: [kh, kw, C, D].
        rate: distance of two taps, an integer for both axes or (down, across).
        stride, padding, precision: as in `conv`.

    Returns:
        As `conv`.

    Raises:
        ValueError, TypeError: as `conv`.

    Source: Chen et al. 2015, Semantic image segmentation with deep convolutional nets and fully
    connected CRFs, section 3.1; the equation is that of its successor, eq. 1.
    """
    rate = _checks.pair("rate", rate)
    return conv(x, kernel, stride=stride, padding=padding, dilation=rate, precision=precision)


_Pair = tuple[int, int]


class _Setting(NamedTuple):
    """What does not depend on the arrays."""

    stride: _Pair
    ends: tuple[_Pair, _Pair]
    dilation: _Pair
    groups: int
    precision: lax.PrecisionLike

    def number(self, x: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, int]:
        """How many results there are along each axis."""
        axes = zip(x[1:3], kernel[:2], self.stride, self.ends, self.dilation, strict=True)
        high, wide = ((n + sum(e) - (k - 1) * d - 1) // s + 1 for n, k, s, e, d in axes)
        return high, wide


_OnCpu = Callable[[_Setting, jax.Array, jax.Array], jax.Array]


@functools.lru_cache(maxsize=256)
def _form(setting: _Setting) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Cached and jitted, so that a call outside of jit compiles once for its shapes."""
    elsewhere = functools.partial(_convolved, setting)

    # What a gradient needs is computed again: a Winograd transform is 2.25 times as large as x.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # A CPU multiplies bfloat16 no faster than float32, and would round every sum to it.
        wide = jnp.promote_types(x.dtype, jnp.float32)
        form = _choose(setting, x.shape, kernel.shape)
        return form(setting, x.astype(wide), kernel.astype(wide)).astype(x.dtype)

    return jax.jit(lambda *given: lax.platform_dependent(*given, cpu=on_cpu, default=elsewhere))


_LARGEST = 2**26  # numbers of the unrolled images: 256 MiB of float32
_MOST_TAPS = 49  # of a kernel, or pixels of a step, that the program has one by one
_FEWEST_CHANNELS = 32  # of a kernel that is moved into the channels


def _choose(setting: _Setting, x: tuple[int, ...], kernel: tuple[int, ...]) -> _OnCpu:
    """The fastest form forward and backward together, on two cores of a Zen 3 CPU.

    What lost, as the speed it had of the form chosen here (jax 0.10.2; 0.12 is alike):
    XLA's convolution .1 to .4, and .02 where the kernel's gradient runs over large images (64 to 64
    channels at 240x320), though forward alone it is .6 to 1.5; unrolled images for 3x3 of 64 and
    more channels .4 to .6; F(2, 3) with 64 tiles of F(4, 3) and more .6 to .9, with fewer up to
    1.3; 3x3 with stride 2 moved into the channels .6 to .8; a gradient by x that is a Winograd
    convolution itself, written by hand, .77 to .95. jax 0.12's oneDNN convolves three times as fast
    as its default, and multiplies no faster: .9 to 1 of these forms with or without it.
    Depthwise, XLA's has .01 to .1 forward and .02 to .25 with the gradients. Beyond 49 taps,
    unrolled images take seconds to compile, and XLA's convolution is the faster one.
    """
    batch, (high, wide) = x[0], setting.number(x, kernel)
    few_taps = math.prod(map(max, kernel[:2], setting.stride)) <= _MOST_TAPS
    if setting.groups > 1:
        depthwise = kernel[2] == 1 and kernel[3] == setting.groups
        return _by_tap if depthwise and few_taps else _convolved
    if kernel[:2] == (1, 1):
        return _product
    if setting.stride == (1, 1):
        down, across = setting.dilation
        number = -(-high // down), -(-wide // across)
        tile, _ = best_tile(batch * down * across, number, kernel, setting.precision)
        if tile:
            return functools.partial(_by_batch, tile)
    elif setting.dilation == (1, 1) and all(
        k >= 2 * s for k, s in zip(kernel[:2], setting.stride, strict=True)
    ):
        # A smaller kernel would be filled up with too many zeros.
        down, across = _taps(setting.stride, kernel)
        taps = (down, across, kernel[2] * math.prod(setting.stride), kernel[3])
        tile, _ = best_tile(batch, (high, wide), taps, setting.precision)
        if tile and kernel[2] >= _FEWEST_CHANNELS:
            return functools.partial(_by_depth, tile)
    apart = all(k <= s for k, s in zip(kernel[:2], setting.stride, strict=True))
    if apart and setting.dilation == (1, 1) and not few_taps:
        return _cut_apart
    unrolled = batch * high * wide * math.prod(kernel[:3])
    return _gathered if few_taps and unrolled <= _LARGEST else _convolved


def _taps(stride: _Pair, kernel: tuple[int, ...]) -> _Pair:
    """What the kernel's size becomes where a step is one pixel."""
    return -(-kernel[0] // stride[0]), -(-kernel[1] // stride[1])


def _convolved(setting: _Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's own."""
    return lax.conv_general_dilated(
        x,
        kernel,
        setting.stride,
        setting.ends,
        rhs_dilation=setting.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=setting.groups,
        precision=setting.precision,
    )


def _product(setting: _Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1 x 1: one product of the pixels with the kernel."""
    (high, wide), (down, across) = setting.number(x.shape, kernel.shape), setting.stride
    whole = _arrays.pad(x, setting.ends, (high * down, wide * across))
    seen = _arrays.phases(_arrays.phases(whole, down, 1)[0], across, 2)[0]
    # A product of four axes copies its operands in the gradient.
    out = jnp.dot(seen.reshape(-1, x.shape[3]), kernel[0, 0], precision=setting.precision)
    return out.reshape(x.shape[0], high, wide, kernel.shape[3])


def _seen(setting: _Setting, x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    """[B, H', W', C]: the pixels that each tap of the kernel sees, row by row."""
    (high, wide), (s, t) = setting.number(x.shape, kernel.shape), setting.stride
    down, across = (
        [i * d for i in range(k)] for k, d in zip(kernel.shape[:2], setting.dilation, strict=True)
    )
    size = (high + down[-1] // s) * s, (wide + across[-1] // t) * t
    whole = _arrays.pad(x, setting.ends, size)
    phases = [_arrays.phases(row, t, 2) for row in _arrays.phases(whole, s, 1)]
    return [
        phases[i % s][j % t][:, i // s : i // s + high, j // t : j // t + wide]
        for i in down
        for j in across
    ]


def _gathered(setting: _Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """All pixels that a result sees side by side, and one product with the kernel."""
    seen = jnp.concatenate(_seen(setting, x, kernel), -1)
    rows = seen.reshape(-1, math.prod(kernel.shape[:3]))
    out = jnp.dot(rows, kernel.reshape(rows.shape[1], -1), precision=setting.precision)
    return out.reshape(*seen.shape[:3], kernel.shape[3])


def _cut_apart(setting: _Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Windows that share no pixel: the image cut into them, and one product with the kernel."""
    (high, wide), (s, t) = setting.number(x.shape, kernel.shape), setting.stride
    whole = _arrays.pad(x, setting.ends, (high * s, wide * t))
    cells = whole.reshape(x.shape[0], high, s, wide, t, x.shape[3])
    seen = cells[:, :, : kernel.shape[0], :, : kernel.shape[1]].transpose(0, 1, 3, 2, 4, 5)
    rows = seen.reshape(-1, math.prod(kernel.shape[:3]))
    out = jnp.dot(rows, kernel.reshape(rows.shape[1], -1), precision=setting.precision)
    return out.reshape(x.shape[0], high, wide, kernel.shape[3])


def _by_tap(setting: _Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Depthwise: a sum of shifted images, since no channel sees another to be multiplied with."""
    taps = kernel.reshape(-1, 1, 1, 1, kernel.shape[3])
    seen = _seen(setting, x, kernel)
    return functools.reduce(jnp.add, map(jnp.multiply, seen, taps))


def _by_batch(tile: int, setting: _Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Winograd's. With a dilation, the pixels that see each other become an image of their own."""
    if setting.dilation == (1, 1):
        return winograd(tile, x, kernel, setting.ends, setting.precision)
    (high, wide), (down, across) = setting.number(x.shape, kernel.shape), setting.dilation
    rows, columns = (
        -(-n // d) + k - 1
        for n, d, k in ((high, down, kernel.shape[0]), (wide, across, kernel.shape[1]))
    )
    whole = _arrays.pad(x, setting.ends, (rows * down, columns * across))
    apart = whole.reshape(x.shape[0], rows, down, columns, across, x.shape[3])
    apart = apart.transpose(0, 2, 4, 1, 3, 5).reshape(-1, rows, columns, x.shape[3])
    out = winograd(tile, apart, kernel, ((0, 0), (0, 0)), setting.precision)
    _, rows, columns, depth = out.shape
    out = out.reshape(-1, down, across, rows, columns, depth).transpose(0, 3, 1, 4, 2, 5)
    return out.reshape(-1, rows * down, columns * across, depth)[:, :high, :wide]


def _by_depth(tile: int, setting: _Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Winograd's after a stride: the pixels of a step become channels of one."""
    (high, wide), channels = setting.number(x.shape, kernel.shape), x.shape[3]
    (s, t), (down, across) = setting.stride, _taps(setting.stride, kernel.shape)
    rows, columns = high + down - 1, wide + across - 1
    whole = _arrays.pad(x, setting.ends, (rows * s, columns * t))
    deep = whole.reshape(-1, rows, s, columns, t, channels).transpose(0, 1, 3, 2, 4, 5)
    more = (down * s - kernel.shape[0], across * t - kernel.shape[1])
    taps = jnp.pad(kernel, [(0, more[0]), (0, more[1]), (0, 0), (0, 0)])
    taps = taps.reshape(down, s, across, t, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    taps = taps.reshape(down, across, s * t * channels, -1)
    deep = deep.reshape(-1, rows, columns, s * t * channels)
    return winograd(tile, deep, taps, ((0, 0), (0, 0)), setting.precision)
