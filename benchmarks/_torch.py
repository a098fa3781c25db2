"""PyTorch as the peer: a function of images, forward and with its gradients, in both layouts.

What may be added: another way of running PyTorch that every comparison should try.
"""

from __future__ import annotations

import argparse
import functools
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import _timing
from jaxstruct import machine
from jaxstruct.training import memory

LAYOUTS = ("contiguous_format", "channels_last")


def begin(options: argparse.Namespace) -> list[jax.Device]:
    """The devices that the options name, behind the first line of a table: where it was made."""
    devices, about = _timing.begin(options)
    if not options.no_peer:
        about += f", {start()}"
    print(f"{about}, load {os.getloadavg()[0]:.1f}")
    return devices


def start() -> str:
    """Gives PyTorch the threads that JAX has; what was set up, for the first line of a table."""
    import torch

    threads = machine.cores()
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
    """ "forward", "gradients" of x and weights, and "both"; each waits.

    x and pulled, the gradient of the result, are channels last; weights as PyTorch has them.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def tensor(array: np.ndarray) -> Any:
        moved = torch.from_numpy(np.ascontiguousarray(array)).to(device, getattr(torch, dtype))
        return moved.contiguous(memory_format=getattr(torch, layout))

    leaves = [tensor(a).requires_grad_() for a in (np.moveaxis(x, -1, 1), *weights)]
    gradient = tensor(np.moveaxis(pulled, -1, 1))

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

    made = f(*leaves)

    def gradients() -> None:
        torch.autograd.grad(made, leaves, gradient, retain_graph=True)
        wait()

    return {"forward": forward, "gradients": gradients, "both": both}


def in_both_layouts(
    name: str,
    ours: Any,
    f: Callable[..., Any],
    x: np.ndarray,
    weights: Sequence[np.ndarray],
    pulled: np.ndarray,
    dtype: str,
    tolerance: float = 1e-5,
) -> dict[str, Callable[[], Any]]:
    """`calls` in each layout, their names followed by it, once they agree with ours.

    Raises SystemExit where a result differs from ours by more than rounding.
    """
    found: dict[str, Callable[[], Any]] = {}
    for layout in LAYOUTS:
        made = calls(f, x, weights, pulled, dtype, layout)
        agree(name, ours, made["forward"](), dtype, tolerance)
        found |= {f"{what} {layout}": call for what, call in made.items()}
    return found


def apart(make: Callable[..., dict[str, Callable[[], Any]]], *given: Any) -> dict[str, Any]:
    """The calls of make(*given), made and done by a process of its own; each returns its seconds.

    In one process with PyTorch's threads and memory, JAX takes up to twice as long as by itself.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=_serve, args=(there, make, given), daemon=True).start()
    there.close()

    def call(name: str) -> float:
        here.send(name)
        seconds: float = here.recv()
        return seconds

    try:
        names = here.recv()
    except EOFError:
        raise SystemExit("PyTorch's process ended; what it said stands above") from None
    return {name: functools.partial(call, name) for name in names}


def _serve(pipe: Any, make: Callable[..., dict[str, Callable[[], Any]]], given: Any) -> None:
    memory.keep_freed()
    start()
    calls = make(*given)
    pipe.send(list(calls))
    while True:
        try:
            call = calls[pipe.recv()]
        except EOFError:
            return
        since = time.perf_counter()
        call()
        pipe.send(time.perf_counter() - since)


def placed(model: Any, dtype: str) -> Any:
    """A module where PyTorch computes, channels last."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device, getattr(torch, dtype), memory_format=torch.channels_last)


def network(
    make: Callable[[], Any],
    loss: Callable[[Any, Any], Any],
    optimizer: Callable[[Any], Any],
    x: np.ndarray,
    dtype: str,
    *,
    inference: bool = False,
) -> dict[str, Callable[[], Any]]:
    """A training "step" and "inference", each in eager mode and compiled; each waits.

    x is channels last.
    """
    import torch

    found: dict[str, Callable[[], Any]] = {}
    for how in ("eager", "compiled"):
        model = placed(make(), dtype)
        chosen = optimizer(model.parameters())
        first = next(model.parameters())
        images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
        images = images.to(first.device, first.dtype, memory_format=torch.channels_last)
        value = lambda model=model, images=images: loss(model, images)
        predict = lambda model=model, images=images: model(images)
        if how == "compiled":
            value, predict = torch.compile(value), torch.compile(predict)

        def step(model: Any = model, value: Any = value, chosen: Any = chosen) -> None:
            model.train()
            chosen.zero_grad(set_to_none=True)
            value().backward()
            chosen.step()
            wait()

        def infer(model: Any = model, predict: Any = predict) -> None:
            model.eval()
            with torch.inference_mode():
                predict()
            wait()

        found[f"step {how}"] = step
        if inference:
            found[f"inference {how}"] = infer
    return found


def release() -> None:
    """Lets go of what compiled programs of this process hold: networks with their gradients."""
    if torch := sys.modules.get("torch"):
        torch._dynamo.reset()
    gc.collect()


def wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def agree(name: str, ours: Any, theirs: Any, dtype: str, tolerance: float = 1e-4) -> None:
    """Raises SystemExit where PyTorch's result, channels first, differs by more of its largest."""
    import torch

    if torch.cuda.is_available():
        tolerance = max(tolerance, 2e-3)  # both multiply in TF32
    result = np.asarray(ours, np.float32)
    expected = np.moveaxis(theirs.float().cpu().numpy(), 1, -1)
    error = np.abs(result - expected).max() / np.abs(expected).max()
    if error > {"float32": tolerance, "bfloat16": 2e-2}[dtype]:
        raise SystemExit(f"{name}: PyTorch's result differs by {error:.1e} of its largest")
