"""Max pooling and bilinear resizing against PyTorch's, forward and with the gradient.

python -m benchmarks.pooling            # needs torch
python -m benchmarks.pooling --no-peer  # ours alone

The layers are those of VGG16 and ResNet at 240x320, and FCN's maps of 21 classes. PyTorch is timed
with both layouts of its arrays and the faster one counts. Freed memory is kept by the process, as
experiments do, for both.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import _timing, _torch
from jaxstruct import ops


class Layer(NamedTuple):
    """A function of images, and the options of both libraries."""

    name: str
    shape: tuple[int, int, int, int]
    op: str
    options: dict[str, Any]
    torch_op: str
    torch_options: dict[str, Any]


def pool(name: str, shape: tuple[int, int, int, int], window: int, padding: int) -> Layer:
    """Max pooling with a stride of 2."""
    options = {"window": window, "stride": 2, "padding": padding}
    theirs = {"kernel_size": window, "stride": 2, "padding": padding}
    return Layer(f"max_pool {name}", shape, "max_pool", options, "max_pool2d", theirs)


def resize(name: str, shape: tuple[int, int, int, int], scale: int) -> Layer:
    """Bilinear resizing by a whole factor."""
    size = (shape[1] * scale, shape[2] * scale)
    theirs = {"size": size, "mode": "bilinear"}
    return Layer(
        f"resize_bilinear {name}", shape, "resize_bilinear", {"size": size}, "interpolate", theirs
    )


LAYERS = [
    pool("2x2, VGG's first", (2, 240, 320, 64), 2, 0),
    pool("2x2, VGG's third", (2, 60, 80, 256), 2, 0),
    pool("3x3 stride 2, ResNet's", (2, 120, 160, 64), 3, 1),
    pool("32x32 stride 2", (1, 128, 128, 16), 32, 0),
    resize("2x, 256 channels", (2, 30, 40, 256), 2),
    resize("8x, 21 classes", (1, 60, 80, 21), 8),
]


def main() -> None:
    """Measures and prints."""
    parser = _timing.parser("pooling", __doc__, batch_size="2 for VGG and ResNet, 1 for FCN")
    options = parser.parse_args()
    devices = _torch.begin(options)
    _timing.print_table([compare(layer, options, devices) for layer in LAYERS])


def compare(layer: Layer, options: argparse.Namespace, devices: list[jax.Device]) -> dict[str, Any]:
    """The row of one layer."""
    rng = np.random.default_rng(0)
    batch = (options.batch_size or layer.shape[0]) * len(devices)
    x = rng.normal(size=(batch, *layer.shape[1:])).astype(np.float32)
    f = functools.partial(getattr(ops, layer.op), **layer.options)
    pulled = rng.normal(size=jax.eval_shape(f, x).shape).astype(np.float32)
    mesh = jax.make_mesh((len(devices),), ("batch",), (AxisType.Auto,), devices=devices)
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    arrays = [jax.device_put(jnp.asarray(a, options.dtype), sharding) for a in (x, pulled)]
    forward = _timing.compiled(f, arrays[0])
    backward = _timing.compiled(_timing.with_gradients(f), *arrays)
    theirs: dict[str, Callable[[], Any]] = {}
    if not options.no_peer:
        from torch.nn import functional

        torch_f = functools.partial(getattr(functional, layer.torch_op), **layer.torch_options)
        theirs = _torch.in_both_layouts(
            layer.name, forward.call(), torch_f, x, [], pulled, options.dtype
        )
    calls = {"forward": forward.call, "both": backward.call}
    return {
        "layer": layer.name,
        **_timing.against(calls, theirs, options.repeats),
        "compiling both, s": backward.seconds,
        "memory of both, MiB": backward.mebibytes,
    }


if __name__ == "__main__":
    main()
