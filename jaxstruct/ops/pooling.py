"""Pooling over the windows of an image. What may be added: other functions of a window."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _bands, _checks
from jaxstruct.ops._cpu.pooling import compared
from jaxstruct.ops._settings import Windows


def max_pool(
    x: ArrayLike,
    window: int | tuple[int, int],
    *,
    stride: int | tuple[int, int],
    padding: str | int | tuple[int, int] = "VALID",
) -> jax.Array:
    """Max pooling: the largest value of each window.

        out[o] = max over t in 0 .. window - 1 of  x[stride o + t - low]

    along both axes; what is outside of the image counts as minus infinity. The gradient goes to the
    first of the largest values, row by row, as in PyTorch. Differentiable in both modes.

    A window with a NaN gives NaN, on a CPU with the gradient of its last one. A CPU compares values
    in pairs, because XLA's pooling has a gradient there that is ten times slower.

    Args:
        x: [H, W, C] or [B, H, W, C].
        window: an integer for both axes, or (down, across).
        stride: likewise.
        padding: `low`, an integer for both axes or (down, across), and as much at the end; "VALID"
            is 0; "SAME" is, for ceil(H / stride) rows, half of what they need, rounded down.

    Returns:
        [H', W', C] or [B, H', W', C], in the dtype of x.

    Raises:
        ValueError: another shape, a window that may see nothing of the image, or options out of
        their range. TypeError: x is not floating, or an option is of another type.

    Source: the equation above; which of equal values counts is torch.nn.functional.max_pool2d's.
    """
    x = _checks.images("x", x)
    size, step = _checks.pair("window", window), _checks.pair("stride", stride)
    images = x if x.ndim == 4 else x[None]
    down, across = _checks.padding(padding, images.shape[1:3], size, step)
    if any(max(ends) >= k for ends, k in zip((down, across), size, strict=True)):
        raise ValueError(f"padding is {padding!r}, expected less than the window of {window}")
    windows = Windows(size, step, (down, across))
    if min(windows.number(images)) < 1:
        raise ValueError(
            f"got window {window} and padding {padding!r} for x {x.shape}: nothing is left of the "
            "result, expected a smaller window"
        )
    out = _form(windows)(images)
    return out if x.ndim == 4 else out[0]


def adaptive_mean_pool(x: ArrayLike, size: int | tuple[int, int]) -> jax.Array:
    """The mean of each cell of a grid that covers the image, whatever its size.

        out[i] = mean of x[floor(i H / size)] ... x[ceil((i + 1) H / size) - 1]

    along both axes. Cells overlap by one where size does not divide H, and repeat where size is
    larger.

    Args:
        x: [H, W, C] or [B, H, W, C]. A NaN or infinity reaches the means of its own cells alone.
        size: of the result, an integer for both axes or (down, across).

    Returns:
        [size, size, C] or [B, size, size, C], in the dtype of x.

    Raises:
        ValueError: another shape, or size is below 1. TypeError: x is not floating, or size no
        integer.

    Source: torch.nn.functional.adaptive_avg_pool2d, in front of the linear layers of torchvision's
    VGG.
    """
    x = _checks.images("x", x)
    means = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, number in enumerate(_checks.pair("size", size), x.ndim - 3):
        means = _bands.multiply(_cells(x.shape[axis], number), means, axis)
    return means.astype(x.dtype)


@functools.lru_cache(maxsize=256)
def _form(windows: Windows) -> Callable[[jax.Array], jax.Array]:
    on_cpu = functools.partial(compared, windows)
    reduced = functools.partial(_reduced, windows)
    return jax.jit(lambda x: lax.platform_dependent(x, cpu=on_cpu, default=reduced))


def _reduced(windows: Windows, x: jax.Array) -> jax.Array:
    """XLA's own."""
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, *windows.size, 1),
        (1, *windows.stride, 1),
        ((0, 0), *windows.ends, (0, 0)),
    )


def _cells(n: int, m: int) -> np.ndarray:
    """[m, n]: the weights of each of m means."""
    i, place = np.arange(m)[:, None], np.arange(n)
    inside = (place >= i * n // m) & (place < -(-(i + 1) * n // m))
    return inside / inside.sum(1, keepdims=True)
