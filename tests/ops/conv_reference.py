"""What convolutions and max pooling are to equal: PyTorch's recorded answers, and a plain sum."""

from functools import partial

import jax
import numpy as np

from tests.ops import recording


def recorded(op):
    """The cases of an op: (options, {name: array of float32}) each."""
    return [
        (options, {name: array.astype(np.float32) for name, array in case.items()})
        for options, case in recording.recorded("ops_conv.npz", op)
    ]


def name(case):
    (options, arrays), join = case, lambda v: str(v).replace(" ", "")
    size = "x".join(map(str, arrays.get("weight", arrays["x"]).shape))
    return ",".join([size, *(join(value) for value in options.values())])


def equal(f, answer, *, gradients=("x", "weight")):
    """Asserts that f of the named arrays, and its gradients by them, are the recorded bits."""
    given = [answer[name] for name in gradients]
    out, *back = jax.jit(partial(_both, f))(answer["pulled"], *given)
    np.testing.assert_array_equal(out, answer["out"])
    for name, gradient in zip(gradients, back, strict=True):
        np.testing.assert_array_equal(gradient, answer[f"{name}_gradient"])


def slow(x, kernel, stride=(1, 1), ends=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    """By the sum in conv's docstring, in float64: the values, and what gives both gradients.

    x is [B, H, W, C]; `ends` is how much is put around it.
    """
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    whole = np.pad(x, ((0, 0), *ends, (0, 0)))
    sizes = zip(whole.shape[1:3], kernel.shape[:2], stride, dilation, strict=True)
    number = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in sizes]
    apart = whole.reshape(*whole.shape[:3], groups, -1)
    taps = kernel.reshape(*kernel.shape[:3], groups, -1)
    out = np.zeros((x.shape[0], *number, *taps.shape[3:]))

    def seen(t):
        axes = zip(t, number, stride, dilation, strict=True)
        return (slice(None), *(slice(i * d, i * d + (n - 1) * s + 1, s) for i, n, s, d in axes))

    for t in np.ndindex(kernel.shape[:2]):
        out += np.einsum("bhwgc,cgd->bhwgd", apart[seen(t)], taps[t])

    def back(pulled):
        pulled = np.asarray(pulled, np.float64).reshape(out.shape)
        by_x, by_taps = np.zeros_like(apart), np.zeros_like(taps)
        for t in np.ndindex(kernel.shape[:2]):
            by_x[seen(t)] += np.einsum("bhwgd,cgd->bhwgc", pulled, taps[t])
            by_taps[t] = np.einsum("bhwgc,bhwgd->cgd", apart[seen(t)], pulled)
        (top, _), (left, _) = ends
        by_x = by_x.reshape(whole.shape)[:, top : top + x.shape[1], left : left + x.shape[2]]
        return by_x, by_taps.reshape(kernel.shape)

    return out.reshape(*out.shape[:3], -1), back


def slow_up(x, kernel, stride, low, size):
    """By the sum in upconv's docstring, in float64; x is [H, W, C], `size` that of the result."""
    out = np.zeros((*size, kernel.shape[3]))
    for q in np.ndindex(x.shape[:2]):
        for t in np.ndindex(kernel.shape[:2]):
            o = [s * a + b - cut for s, a, b, cut in zip(stride, q, t, low, strict=True)]
            if all(0 <= i < n for i, n in zip(o, size, strict=True)):
                out[*o] += x[q].astype(np.float64) @ kernel[::-1, ::-1][t]
    return out


def quick(f):
    """jit without LLVM's optimisation: Winograd's takes seconds to compile, half of them there.

    What is added up, and in which dtype, is the same.
    """
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})


def largest_error(f, x, kernel, **options):
    """Of the values and both gradients of f, from `slow` with the options."""
    expected, back = slow(x, kernel, **options)
    pulled = np.random.default_rng(99).normal(size=expected.shape).astype(x.dtype)
    found = quick(partial(_both, f))(pulled, x, kernel)
    assert all(array.dtype == x.dtype for array in found)
    return _largest(found, (expected, *back(pulled)))


def largest_derivative_error(f, x, kernel, **options):
    """Of forward mode, and of the derivatives of the gradient in both modes, in float64.

    f is bilinear, so that along (dx, dk) its derivative is f(dx, k) + f(x, dk), and the gradient's
    by x is that of f(., dk).
    """
    rng = np.random.default_rng(99)
    given, way = (x, kernel), tuple(rng.normal(size=array.shape) for array in (x, kernel))
    one, back_x = slow(x, way[1], **options)
    two, back_kernel = slow(way[0], kernel, **options)
    pulled = rng.normal(size=one.shape)

    @quick
    def derivatives(given, way):
        gradient = lambda *given: jax.vjp(f, *given)[1](pulled)
        along = lambda *given: sum(
            (g * d).sum() for g, d in zip(gradient(*given), way, strict=True)
        )
        forward = jax.jvp(f, given, way)[1]
        return forward, *jax.grad(along, (0, 1))(*given), *jax.jvp(gradient, given, way)[1]

    second = back_x(pulled)[0], back_kernel(pulled)[1]
    true = one + two, *second, *second
    return _largest(derivatives(given, way), true)


def _both(f, pulled, *given):
    """The values and the gradients."""
    out, back = jax.vjp(f, *given)
    return out, *back(pulled)


def _largest(ours, true):
    """The largest error of each pair, over its largest value; NaN if there is one."""
    assert [array.shape for array in ours] == [array.shape for array in true]
    pairs = zip((np.asarray(array, np.float64) for array in ours), true, strict=True)
    return np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs])
