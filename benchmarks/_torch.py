"""PyTorch as the peer: a function of images, forward and with its gradients, in both layouts.

What may be added: another way of running PyTorch that every comparison should try.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LAYOUTS = ("contiguous_format", "channels_last")


def start() -> str:
    """Gives PyTorch the threads that JAX has; what was set up, for the first line of a table."""
    import torch

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    return f"torch {torch.__version__}, {threads} threads"


def calls(
    f: Callable[..., Any],
    x: np.ndarray,
    weights: Sequence[np.ndarray],
    pulled: np.ndarray,
    dtype: str,
    layout: str,
) -> dict[str, Callable[[], Any]]:
    """ "forward" and "both", which has the gradients of x and weights too; each waits.

    x and pulled, the gradient of the result, are channels last; weights as PyTorch has them.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def tensor(array: np.ndarray) -> Any:
        moved = torch.from_numpy(np.ascontiguousarray(array)).to(device, getattr(torch, dtype))
        return moved.contiguous(memory_format=getattr(torch, layout))

    leaves = [tensor(a).requires_grad_() for a in (np.moveaxis(x, -1, 1), *weights)]
    gradient = tensor(np.moveaxis(pulled, -1, 1))

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> Any:
        with torch.no_grad():
            out = f(*leaves)
        wait()
        return out

    def both() -> None:
        for leaf in leaves:
            leaf.grad = None
        f(*leaves).backward(gradient)
        wait()

    return {"forward": forward, "both": both}


def in_both_layouts(
    name: str,
    ours: Any,
    f: Callable[..., Any],
    x: np.ndarray,
    weights: Sequence[np.ndarray],
    pulled: np.ndarray,
    dtype: str,
) -> dict[str, Callable[[], Any]]:
    """`calls` in each layout, named "forward LAYOUT" and "both LAYOUT", once they agree with ours.

    Raises SystemExit where a result differs from ours by more than rounding.
    """
    found: dict[str, Callable[[], Any]] = {}
    for layout in LAYOUTS:
        made = calls(f, x, weights, pulled, dtype, layout)
        _agree(name, ours, made["forward"](), dtype)
        found |= {f"{what} {layout}": call for what, call in made.items()}
    return found


def _agree(name: str, ours: Any, theirs: Any, dtype: str) -> None:
    result = np.asarray(ours, np.float32)
    expected = np.moveaxis(theirs.float().cpu().numpy(), 1, -1)
    error = np.abs(result - expected).max() / np.abs(expected).max()
    if error > {"float32": 1e-5, "bfloat16": 2e-2}[dtype]:
        raise SystemExit(f"{name}: PyTorch's result differs by {error:.1e} of its largest")
