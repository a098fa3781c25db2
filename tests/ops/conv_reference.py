"""PyTorch's recorded answers for convolutions and max pooling, and what is to equal them."""

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
    both = jax.jit(lambda pulled, *given: (f(*given), jax.vjp(f, *given)[1](pulled)))
    out, back = both(answer["pulled"], *given)
    np.testing.assert_array_equal(out, answer["out"])
    for name, gradient in zip(gradients, back, strict=True):
        np.testing.assert_array_equal(gradient, answer[f"{name}_gradient"])
