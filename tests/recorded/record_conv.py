"""Records PyTorch's answers for convolutions and max pooling: python tests/recorded/record_conv.py

Needs torch, which the tests do not. Writes ops_conv.npz beside this file: for each case its op, its
options as JSON, the arguments, the values and the gradients. All numbers are whole, so that their
sums are exact in any order, or NaN; arrays are channels last, kernels in PyTorch's layout.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch

# k, stride, padding, output padding
UPCONV = [
    *(
        (k, s, p, more)
        for k in range(1, 6)
        for s in range(1, 5)
        for p in range(min(k, 3))
        for more in range(min(s, 2) if p == 1 else 1)
    ),
    (16, 8, 4, 0),
    ((3, 5), (2, 3), (1, 2), (1, 0)),
    (8, 4, 2, 3),
]
# k, rate, stride, padding
ATROUS = [
    *((k, r, s, p) for k in (1, 2, 3) for r in (1, 2, 3) for s in (1, 2) for p in (0, 3)),
    ((3, 2), (2, 4), (1, 2), (2, 0)),
    (3, 12, 1, 12),
]
# window, stride, padding
POOL = [
    *((k, s, p) for k in (1, 2, 3, 4) for s in (1, 2, 3) for p in range(k // 2 + 1)),
    ((3, 2), (2, 1), (1, 0)),
    ((2, 5), (3, 2), (1, 2)),
    (2, 5, 0),
]
# k, stride, padding, dilation, groups; size
CONV = [
    *((k, s, k // 2, 1, 1, (5, 4)) for k in (1, 2, 3) for s in (1, 2, 3)),
    *((k, s, 1, d, 2, (7, 6)) for k in (1, 3) for s in (1, 2) for d in (1, 2)),
    *((k, 1, 1, 1, 1, (1, 1)) for k in (1, 2, 3)),
    (1, 1, 0, 1, 1, (1, 1)),
    (5, 1, 2, 1, 1, (5, 4)),
    (5, 2, 2, 1, 1, (5, 4)),
    (2, 5, 0, 1, 1, (8, 7)),
    (7, 2, 3, 1, 1, (9, 8)),
    (3, 4, 1, 1, 1, (9, 8)),
    (4, 1, 2, 1, 1, (8, 6)),
    (4, 2, 1, 1, 1, (8, 6)),
    (4, 2, 1, 1, 3, (8, 6)),
    ((3, 2), (1, 2), (2, 0), (2, 3), 1, (5, 8)),
    ((1, 4), (2, 1), (0, 2), 1, 2, (5, 4)),
]
# Of each of the forms that upconv chooses from, and more of the commonest. None is enough for
# Winograd's algorithm, which is not exact.
CHANNELS = [(3, 2)] * 6 + [(1, 4), (40, 1)]
SIZE = (5, 4)


def whole(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    """Whole numbers from -4 to 4."""
    return torch.from_numpy(rng.integers(-4, 5, shape).astype(np.float32))


def last(tensor: torch.Tensor) -> np.ndarray:
    """[1, C, H, W] as [H, W, C], in the smallest integers that hold it."""
    array = np.moveaxis(tensor.detach().numpy()[0], 0, -1)
    if np.isnan(array).any():
        return array.astype(np.float16)
    return array.astype(np.min_scalar_type(-int(np.abs(array).max()) - 1))


def drawn(op: str, case: tuple, i: int, rng: np.random.Generator) -> tuple:
    """(options, PyTorch's function of the arguments, arguments) of the i-th case."""
    channels, depth = CHANNELS[i % len(CHANNELS)]
    kernel = np.broadcast_to(case[0], 2)
    if op == "upconv":
        options = dict(zip(("stride", "padding", "output_padding"), case[1:], strict=True))
        given = [whole(rng, 1, channels, *SIZE), whole(rng, channels, depth, *kernel)]
        return options, partial(torch.nn.functional.conv_transpose2d, **options), given
    if op == "atrous_conv":
        options = dict(zip(("rate", "stride", "padding"), case[1:], strict=True))
        size = [n + 2 * int(r) for n, r in zip(SIZE, np.broadcast_to(case[1], 2), strict=True)]
        given = [whole(rng, 1, channels, *size), whole(rng, depth, channels, *kernel)]
        theirs = {"dilation" if n == "rate" else n: v for n, v in options.items()}
        return options, partial(torch.nn.functional.conv2d, **theirs), given
    if op == "max_pool":
        options = dict(zip(("window", "stride", "padding"), case, strict=True))
        x = whole(rng, 1, 3, 7, 9)
        if i % 2:
            x[torch.from_numpy(rng.uniform(size=x.shape) < 0.05)] = torch.nan
        theirs = {"kernel_size" if n == "window" else n: v for n, v in options.items()}
        return options, partial(torch.nn.functional.max_pool2d, **theirs), [x]
    *values, size = case[1:]
    options = dict(zip(("stride", "padding", "dilation", "groups"), values, strict=True))
    groups = options["groups"]
    x = whole(rng, 1, groups * channels, *size)
    weight = whole(rng, groups * depth, channels, *kernel)
    return options, partial(torch.nn.functional.conv2d, **options), [x, weight]


def main() -> None:
    """Asks PyTorch and writes the file."""
    rng = np.random.default_rng(0)
    recorded: dict[str, np.ndarray] = {"versions": np.array(f"torch {torch.__version__}")}
    ops = {"upconv": UPCONV, "atrous_conv": ATROUS, "max_pool": POOL, "conv": CONV}
    cases = [(op, case) for op, some in ops.items() for case in some]
    for i, (op, case) in enumerate(cases):
        options, f, given = drawn(op, case, i, rng)
        given = [array.requires_grad_() for array in given]
        out = f(*given)
        pulled = whole(rng, *out.shape)
        out.backward(pulled)
        recorded |= {
            f"{i}/op": np.array(op),
            f"{i}/options": np.array(json.dumps(options)),
            f"{i}/x": last(given[0]),
            f"{i}/out": last(out),
            f"{i}/pulled": last(pulled),
            f"{i}/x_gradient": last(given[0].grad),
        }
        for weight in given[1:]:
            recorded[f"{i}/weight"] = weight.detach().numpy().astype(np.int8)
            recorded[f"{i}/weight_gradient"] = weight.grad.numpy().astype(np.int16)
    np.savez_compressed(Path(__file__).with_name("ops_conv.npz"), **recorded)
    print(f"{len(cases)} cases, {recorded['versions']}")


if __name__ == "__main__":
    main()
