"""Convolutional networks and their layers against PyTorch's and torchvision's.

python -m benchmarks.conv            # needs torch and torchvision
python -m benchmarks.conv --no-peer  # ours alone

Networks: VGG16 and ResNet-50 at 240x320, inference and a step of SGD with momentum; the
discriminator and the generator of DCGAN at 64x64, a step of Adam each, the generator's through the
discriminator. Layers: forward, and both gradients. PyTorch is timed in eager mode and compiled, its
arrays in channels_last (the layers in both layouts too), its optimisers fused; the fastest counts.
It has a process of its own, in turn with ours. Both keep freed memory, as experiments do.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks import _timing, _torch, _training
from jaxstruct import ops
from jaxstruct.models import dcgan, resnet, vgg

Calls = dict[str, Callable[[], Any]]


class Layer(NamedTuple):
    """A convolution of square kernels."""

    name: str
    shape: tuple[int, int, int, int]
    depth: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    dilation: int = 1


class Network(NamedTuple):
    """How both libraries make it, and what is asked of it."""

    name: str
    shape: tuple[int, ...]  # of one example
    batch: int
    ours: Callable[..., tuple[Calls, float, float]]
    torch: Callable[..., Calls]


VGG, RESNET, DISCRIMINATOR = "VGG16", "ResNet-50", "DCGAN discriminator"
LAYERS = [
    Layer(f"{VGG} 3x3, 3 to 64", (2, 240, 320, 3), 64),
    Layer(f"{VGG} 3x3, 64 to 64", (2, 240, 320, 64), 64),
    Layer(f"{VGG} 3x3, 128 to 128", (2, 120, 160, 128), 128),
    Layer(f"{VGG} 3x3, 256 to 256", (2, 60, 80, 256), 256),
    Layer(f"{VGG} 3x3, 512 to 512", (2, 30, 40, 512), 512),
    Layer(f"{VGG} 3x3, 512 to 512, last", (2, 15, 20, 512), 512),
    Layer(f"{RESNET} 7x7 stride 2, 3 to 64", (2, 240, 320, 3), 64, 7, 2, 3),
    Layer(f"{RESNET} 1x1, 64 to 256", (2, 60, 80, 64), 256, 1, 1, 0),
    Layer(f"{RESNET} 3x3, 64 to 64", (2, 60, 80, 64), 64),
    Layer(f"{RESNET} 3x3 stride 2, 128 to 128", (2, 60, 80, 128), 128, 3, 2),
    Layer(f"{RESNET} 3x3, 128 to 128", (2, 30, 40, 128), 128),
    Layer(f"{RESNET} 3x3, 512 to 512", (2, 8, 10, 512), 512),
    Layer("DeepLab 3x3 rate 2, 512 to 512", (1, 41, 41, 512), 512, 3, 1, 2, 2),
    Layer("DeepLab 3x3 rate 12, 512 to 1024", (2, 30, 40, 512), 1024, 3, 1, 12, 12),
    Layer("DeepLab 3x3 rate 24, 512 to 1024", (2, 30, 40, 512), 1024, 3, 1, 24, 24),
    Layer(f"{DISCRIMINATOR} 4x4 stride 2, 3 to 64", (64, 64, 64, 3), 64, 4, 2),
    Layer(f"{DISCRIMINATOR} 4x4 stride 2, 64 to 128", (64, 32, 32, 64), 128, 4, 2),
    Layer(f"{DISCRIMINATOR} 4x4 stride 2, 128 to 256", (64, 16, 16, 128), 256, 4, 2),
    Layer(f"{DISCRIMINATOR} 4x4 stride 2, 256 to 512", (64, 8, 8, 256), 512, 4, 2),
    Layer("21x21, 1 to 1", (1, 128, 128, 1), 1, 21, 1, 10),
    Layer("41x41, 1 to 1", (1, 128, 128, 1), 1, 41, 1, 20),
    Layer("patches of 16x16, 3 to 384", (2, 224, 224, 3), 384, 16, 16, 0),
]
CLASSES = 1000
LATENT, FEATURES, KERNEL = 100, 64, 4  # DCGAN as PyTorch's examples have it: half the width


def main() -> None:
    """Measures and prints."""
    parser = _timing.parser("conv", __doc__, batch_size="64 for DCGAN, 1 for DeepLab, else 2")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--no-networks", action="store_true", help="leave out whole networks")
    parser.add_argument("--no-layers", action="store_true", help="leave out single layers")
    options = parser.parse_args()
    devices = _torch.begin(options)
    networks, layers = _timing.chosen(
        parser,
        options.only,
        [] if options.no_networks else NETWORKS,
        [] if options.no_layers else LAYERS,
    )
    for rows in (
        [row for network in networks for row in whole(network, options, devices)],
        [compare(layer, options, devices) for layer in layers],
    ):
        if rows:
            _timing.print_table(rows)


def compare(layer: Layer, options: argparse.Namespace, devices: list[jax.Device]) -> dict[str, Any]:
    """The row of one layer."""
    rng = np.random.default_rng(0)
    batch = (options.batch_size or layer.shape[0]) * len(devices)
    x = np.maximum(rng.normal(size=(batch, *layer.shape[1:])), 0).astype(np.float32)
    shape = (layer.kernel, layer.kernel, layer.shape[3], layer.depth)
    kernel = rng.normal(size=shape).astype(np.float32) / np.sqrt(np.prod(shape[:3]))
    f = functools.partial(
        ops.conv, stride=layer.stride, padding=layer.padding, dilation=layer.dilation
    )
    pulled = rng.normal(size=jax.eval_shape(f, x, kernel).shape).astype(np.float32)
    arrays = [
        _training.placed(jnp.asarray(a, options.dtype), devices, shared)
        for a, shared in ((x, True), (kernel, False), (pulled, True))
    ]
    forward = _timing.compiled(f, *arrays[:2])
    backward = _timing.compiled(_timing.gradients(f), *arrays)
    theirs: Calls = {}
    if not options.no_peer:
        result = np.asarray(forward.call(), np.float32)
        theirs = _torch.apart(_torch_layer, layer, result, x, kernel, pulled, options.dtype)
    calls = {"forward": forward.call, "gradients": backward.call}
    row = {"layer": layer.name, **_timing.against(calls, theirs, options.repeats)}
    operations = 2 * kernel[..., 0].size * pulled.size / len(devices)
    return row | {
        "as a direct convolution, forward": _timing.share_of_peak(
            operations, row["ours forward, ms"] / 1e3, devices
        ),
        "compiling gradients, s": backward.seconds,
        "memory of gradients, MiB": backward.mebibytes,
    }


def _torch_layer(
    layer: Layer, ours: Any, x: np.ndarray, kernel: np.ndarray, pulled: np.ndarray, dtype: str
) -> Calls:
    from torch.nn.functional import conv2d

    f = functools.partial(
        conv2d, stride=layer.stride, padding=layer.padding, dilation=layer.dilation
    )
    weight = kernel.transpose(3, 2, 0, 1)
    return _torch.in_both_layouts(layer.name, ours, f, x, [weight], pulled, dtype, 1e-4)


def whole(
    network: Network, options: argparse.Namespace, devices: list[jax.Device]
) -> list[dict[str, Any]]:
    """A row for each thing that is asked of a network."""
    batch = (options.batch_size or network.batch) * len(devices)
    rng = np.random.default_rng(0)
    given = rng.normal(size=(batch, *network.shape)).astype(np.float32)
    ours, seconds, mebibytes = network.ours(given, options, devices)
    theirs = {} if options.no_peer else _torch.apart(network.torch, given, options)
    measured = _timing.against(ours, theirs, options.repeats)
    return [
        {
            "network": f"{network.name}, {what}",
            "ours, ms": measured[f"ours {what}, ms"],
            "torch, ms": measured[f"torch {what}, ms"],
            "torch / ours": measured[f"torch / ours, {what}"],
            "compiling all, s": seconds,
            "memory of the step, MiB": mebibytes,
        }
        for what in ours
    ]


def _trained(*given: Any) -> tuple[Calls, float, float]:
    """The calls of `_training.programs`, what compiled both, and the memory of the step."""
    made = _training.programs(*given)
    calls = {what: program.call for what, program in made.items()}
    return calls, sum(program.seconds for program in made.values()), made["step"].mebibytes


def _classifier(
    make: Callable[..., nn.Module],
    given: np.ndarray,
    options: argparse.Namespace,
    devices: list[jax.Device],
) -> tuple[Calls, float, float]:
    model = make(dtype=jnp.dtype(options.dtype))
    images = _training.placed(given, devices, True)
    labels = jnp.arange(len(given)) % CLASSES
    variables = _training.placed(jax.jit(model.init)(jax.random.key(0), given[:1]), devices, False)

    def loss(params: Any, others: Any, images: jax.Array, key: jax.Array) -> Any:
        logits, others = model.apply(
            {"params": params, **others},
            images,
            train=True,
            rngs={"dropout": key},
            mutable=list(others),
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), others

    optimizer = optax.sgd(1e-3, momentum=0.9)
    return _trained(loss, variables, optimizer, images, model.apply)


def _torch_classifier(name: str, given: np.ndarray, options: argparse.Namespace) -> Calls:
    import torch
    import torchvision

    labels = torch.arange(len(given)) % CLASSES
    made = lambda: getattr(torchvision.models, name)()
    sgd = lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, fused=True)
    loss = lambda model, x: torch.nn.functional.cross_entropy(model(x).float(), labels.to(x.device))
    return _torch.network(made, loss, sgd, given, options.dtype, inference=True)


def _discriminator(
    given: np.ndarray, options: argparse.Namespace, devices: list[jax.Device]
) -> tuple[Calls, float, float]:
    model = dcgan.DCGANDiscriminator(FEATURES, kernel_size=KERNEL, dtype=jnp.dtype(options.dtype))
    images = _training.placed(given, devices, True)
    variables = _training.placed(jax.jit(model.init)(jax.random.key(0), given), devices, False)
    real = jnp.arange(len(given)) % 2

    def loss(params: Any, others: Any, images: jax.Array, _: jax.Array) -> Any:
        (logits, _), others = model.apply(
            {"params": params, **others}, images, train=True, mutable=list(others)
        )
        return optax.sigmoid_binary_cross_entropy(logits, real).mean(), others

    return _trained(loss, variables, optax.adam(2e-4, 0.5), images, None)


def _generator(
    given: np.ndarray, options: argparse.Namespace, devices: list[jax.Device]
) -> tuple[Calls, float, float]:
    dtype = jnp.dtype(options.dtype)
    model = dcgan.DCGANGenerator(64, FEATURES, kernel_size=KERNEL, dtype=dtype)
    judge = dcgan.DCGANDiscriminator(FEATURES, kernel_size=KERNEL, dtype=dtype)
    z = _training.placed(given, devices, True)
    drawn, variables = jax.jit(model.init_with_output)(jax.random.key(0), given)
    variables = _training.placed(variables, devices, False)
    judging = _training.placed(jax.jit(judge.init)(jax.random.key(1), drawn), devices, False)

    def loss(params: Any, others: Any, z: jax.Array, _: jax.Array) -> Any:
        made, others = model.apply(
            {"params": params, **others}, z, train=True, mutable=list(others)
        )
        logits = judge.apply(judging, made, train=True, mutable=["batch_stats"])[0][0]
        return optax.sigmoid_binary_cross_entropy(logits, jnp.ones(len(z))).mean(), others

    return _trained(loss, variables, optax.adam(2e-4, 0.5), z, None)


def _torch_gan(which: str, given: np.ndarray, options: argparse.Namespace) -> Calls:
    import torch
    from torch import nn

    f = FEATURES

    def discriminator() -> Any:
        layers: list[Any] = [nn.Conv2d(3, f, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
        for i in (1, 2, 4):
            layers += [nn.Conv2d(f * i, 2 * f * i, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(2 * f * i), nn.LeakyReLU(0.2, True)]
        return nn.Sequential(*layers, nn.Conv2d(8 * f, 1, 4, 1, 0, bias=False), nn.Flatten(0))

    def generator() -> Any:
        layers: list[Any] = [nn.ConvTranspose2d(LATENT, 8 * f, 4, 1, 0, bias=False)]
        for i in (8, 4, 2):
            layers += [nn.BatchNorm2d(f * i), nn.ReLU(True)]
            layers += [nn.ConvTranspose2d(f * i, f * i // 2, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(f), nn.ReLU(True)]
        return nn.Sequential(*layers, nn.ConvTranspose2d(f, 3, 4, 2, 1, bias=False), nn.Tanh())

    adam = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999), fused=True)
    entropy = nn.functional.binary_cross_entropy_with_logits
    if which == "discriminator":
        real = (torch.arange(len(given)) % 2).float()
        loss = lambda model, x: entropy(model(x).float(), real.to(x.device))
        return _torch.network(discriminator, loss, adam, given, options.dtype)
    judge = _torch.placed(discriminator(), options.dtype).requires_grad_(False)
    ones = torch.ones(len(given))
    loss = lambda model, z: entropy(judge(model(z)).float(), ones.to(z.device))
    return _torch.network(generator, loss, adam, given[:, None, None], options.dtype)


NETWORKS = [
    Network(
        VGG,
        (240, 320, 3),
        2,
        functools.partial(_classifier, vgg.VGGClassifier),
        functools.partial(_torch_classifier, "vgg16"),
    ),
    Network(
        RESNET,
        (240, 320, 3),
        2,
        functools.partial(_classifier, resnet.ResNetClassifier),
        functools.partial(_torch_classifier, "resnet50"),
    ),
    Network(
        DISCRIMINATOR,
        (64, 64, 3),
        64,
        _discriminator,
        functools.partial(_torch_gan, "discriminator"),
    ),
    Network(
        "DCGAN generator", (LATENT,), 64, _generator, functools.partial(_torch_gan, "generator")
    ),
]


if __name__ == "__main__":
    main()
