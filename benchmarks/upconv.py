"""Upconvolution against PyTorch's ConvTranspose2d and linen's ConvTranspose, with both gradients.

python -m benchmarks.upconv            # needs torch
python -m benchmarks.upconv --no-peer  # ours and linen's alone

The layers are the four of DCGAN's generator of 64x64 images (k 4, stride 2), and FCN's upsampling
of 21 classes by 2 and by 8. PyTorch is timed with both layouts of its arrays and the faster one
counts. linen's layer is the same sum as one convolution over an input filled up with zeros; on a
CPU, its gradient of the kernel takes seconds, so it is timed three times and not ten.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import _timing, _torch
from jaxstruct import ops
from jaxstruct.training import parallel


class Layer(NamedTuple):
    """An upconvolution whose result is `stride` times larger."""

    name: str
    size: int
    channels: int
    depth: int
    kernel: int
    stride: int
    batch: int


GENERATOR = "DCGAN"
LAYERS = [
    Layer(f"{GENERATOR} 4 to 8, 1024 to 512", 4, 1024, 512, 4, 2, 64),
    Layer(f"{GENERATOR} 8 to 16, 512 to 256", 8, 512, 256, 4, 2, 64),
    Layer(f"{GENERATOR} 16 to 32, 256 to 128", 16, 256, 128, 4, 2, 64),
    Layer(f"{GENERATOR} 32 to 64, 128 to 3", 32, 128, 3, 4, 2, 64),
    Layer("FCN 2x, 36 to 72, 21 classes", 36, 21, 21, 4, 2, 1),
    Layer("FCN 8x, 70 to 560, 21 classes", 70, 21, 21, 16, 8, 1),
]
SLOW_REPEATS = 3
SHARED = PartitionSpec("batch")


def main() -> None:
    """Measures and prints."""
    parser = _timing.parser("upconv", __doc__, batch_size="64 for DCGAN, 1 for FCN")
    parser.add_argument("--only", default="", help="layers whose name has this in it")
    parser.add_argument("--no-linen", action="store_true", help="leave out linen's ConvTranspose")
    options = parser.parse_args()
    devices = parallel.choose(options.devices)
    about = f"{_timing.about(devices)}, {options.dtype}"
    if not options.no_peer:
        about += f", {_torch.start()}"
    print(f"{about}, load {os.getloadavg()[0]:.1f}")
    (layers,) = _timing.chosen(parser, options.only, LAYERS)
    rows = [compare(layer, options, devices) for layer in layers]
    _timing.print_table(rows)
    if not options.no_peer:
        sums(rows)


def sums(rows: list[dict[str, Any]]) -> None:
    """Prints the ratio over all layers of the generator."""
    rows = [row for row in rows if GENERATOR in row["layer"]]
    for what in ("forward", "both"):
        theirs, ours = (sum(row[f"{who} {what}, ms"] for row in rows) for who in ("torch", "ours"))
        if rows:
            print(f"the generator's layers together, {what}: torch / ours {theirs / ours:.2f}")


def arguments(layer: Layer, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs after a ReLU, a kernel as DCGAN draws it, and a gradient; float32, channels last."""
    rng = np.random.default_rng(0)
    n, k, larger = layer.size, layer.kernel, layer.size * layer.stride
    x = np.maximum(rng.normal(size=(batch, n, n, layer.channels)), 0)
    kernel = 0.02 * rng.normal(size=(k, k, layer.channels, layer.depth))
    pulled = rng.normal(size=(batch, larger, larger, layer.depth))
    return x.astype(np.float32), kernel.astype(np.float32), pulled.astype(np.float32)


def compare(layer: Layer, options: argparse.Namespace, devices: list[jax.Device]) -> dict[str, Any]:
    """The row of one layer."""
    given = arguments(layer, (options.batch_size or layer.batch) * len(devices))
    mesh = jax.make_mesh((len(devices),), ("batch",), (AxisType.Auto,), devices=devices)
    arrays = [
        jax.device_put(jnp.asarray(a, options.dtype), NamedSharding(mesh, spec))
        for a, spec in zip(given, (SHARED, PartitionSpec(), SHARED), strict=True)
    ]
    f = functools.partial(ops.upconv, stride=layer.stride, padding="SAME")
    forward = _timing.compiled(f, *arrays[:2])
    backward = _timing.compiled(_timing.with_gradients(f), *arrays)
    row: dict[str, Any] = {"layer": layer.name}
    theirs: dict[str, Callable[[], Any]] = {}
    if not options.no_peer:
        from torch.nn.functional import conv_transpose2d

        padding = (layer.kernel - layer.stride) // 2
        torch_f = functools.partial(conv_transpose2d, stride=layer.stride, padding=padding)
        x, kernel, pulled = given
        weight = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        theirs = _torch.in_both_layouts(
            layer.name, forward.call(), torch_f, x, [weight], pulled, options.dtype
        )
    row |= _timing.against(
        {"forward": forward.call, "both": backward.call}, theirs, options.repeats
    )
    # What has to be multiplied, forward and for two gradients, zeros left out.
    products = 6 * given[0].size * given[1][:, :, 0].size
    slower: Any = "-"
    if not options.no_linen:
        calls = {
            "ours": _timing.compiled(_timing.gradients(f), *arrays).call,
            "linen": _timing.compiled(
                _timing.gradients(functools.partial(linens, layer)), *arrays
            ).call,
        }
        seconds = _timing.interleaved(calls, SLOW_REPEATS)
        slower = seconds["linen"] / seconds["ours"]
    return row | {
        "rate of both": _timing.share_of_peak(
            products / len(devices), row["ours both, ms"] / 1e3, devices
        ),
        "linen / ours, gradients": slower,
        "compiling both, s": backward.seconds,
        "memory of both, MiB": backward.mebibytes,
    }


def linens(layer: Layer, x: jax.Array, kernel: jax.Array) -> Any:
    """linen's ConvTranspose with the same kernel."""
    k, s = layer.kernel, layer.stride
    module = nn.ConvTranspose(layer.depth, (k, k), (s, s), use_bias=False)
    return module.apply({"params": {"kernel": kernel}}, x)


if __name__ == "__main__":
    main()
