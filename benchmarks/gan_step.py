"""A step of DCGAN's game at 64x64 against PyTorch's, and what a GAN on MNIST spends beside it.

python -m benchmarks.gan_step            # needs torch
python -m benchmarks.gan_step --no-peer  # ours and linen's alone

A step: the discriminator's, on real and on generated images, then the generator's, each with Adam,
as in training; 64 features, kernels of 5x5. linen's is the same step with `nn.ConvTranspose` in the
generator, which on a CPU takes so long that it is timed twice. PyTorch has a process of its own, in
turn with ours; it is timed in eager mode and compiled, channels last, its Adam fused, and the
fastest counts. The GAN on MNIST is trained on noise, with logging and checkpoints as any training.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks import _timing, _torch
from experiments import _dcgan, _gan, gan_mnist
from jaxstruct.data import Examples
from jaxstruct.models import dcgan, dcgan_players
from jaxstruct.training import AXIS, Stage, parallel, run

SIZE, FEATURES, LATENT, BATCH = 64, 64, 100, 64
SLOW_REPEATS = 2
MNIST_STEPS = 400


def main() -> None:
    """Measures and prints."""
    parser = _timing.parser("gan_step", __doc__, batch_size=str(BATCH))
    parser.add_argument("--no-linen", action="store_true", help="leave out linen's ConvTranspose")
    parser.add_argument("--no-mnist", action="store_true", help="leave out the GAN on MNIST")
    options = parser.parse_args()
    devices = _torch.begin(options)
    _timing.print_table(steps(options, devices))
    if not options.no_mnist:
        print(outside(devices))


def steps(options: argparse.Namespace, devices: list[jax.Device]) -> list[dict[str, Any]]:
    """A row for each way to compute a step."""
    batch = (options.batch_size or BATCH) * len(devices)
    images = np.random.default_rng(0).integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)
    calls: dict[str, Callable[[], Any]] = {"ours": ours(images, options, devices)}
    seconds = {name: _timing.first_call(call) for name, call in calls.items()}
    if not options.no_peer:
        calls |= _torch.apart(theirs, images, options.dtype)
    measured = _timing.interleaved(calls, options.repeats)
    if not options.no_linen:
        with linens():
            call = ours(images, options, devices)
            seconds["ours, nn.ConvTranspose"] = _timing.first_call(call)
        again = {"ours, nn.ConvTranspose": call}
        measured |= _timing.interleaved(again, min(SLOW_REPEATS, options.repeats))
    best = min((s for name, s in measured.items() if name.startswith("torch")), default=None)
    return [
        {
            "step": name,
            "ms": 1e3 * s,
            "torch's best / this": best / s if best else "-",
            "first call, s": seconds.get(name, "-"),
        }
        for name, s in measured.items()
    ]


def ours(
    images: np.ndarray, options: argparse.Namespace, devices: list[jax.Device]
) -> Callable[[], Any]:
    """A step that waits for its result."""
    config = _dcgan.Config(features=FEATURES, latent=LATENT, batch_size=len(images))
    play = dcgan_players(SIZE, FEATURES, LATENT, axis_name=AXIS, dtype=jnp.dtype(options.dtype))
    adam = optax.adam(config.learning_rate, b1=config.momentum)
    optimizers = {"discriminator": adam, "generator": adam}
    stage: Stage = _gan.stage(
        config, play, optimizers, Examples({"image": images}), Examples({"image": images})
    )
    step = parallel.Call(stage.update, devices)
    state = [parallel.stack(stage.init(jax.random.key(0), None), devices)]
    x = images.astype(np.float32) / 255
    batch = jax.device_put(parallel.share({"image": x}, devices))

    def call() -> None:
        state[0], terms = step(state[0], batch)
        jax.block_until_ready((state[0], terms))

    return call


@contextlib.contextmanager
def linens() -> Iterator[None]:
    """Generators made here convolve upwards by linen's layer, which has the same parameters."""

    def layer(features: int, size: int, stride: int, **options: Any) -> nn.ConvTranspose:
        return nn.ConvTranspose(features, (size, size), (stride, stride), **options)

    with mock.patch.object(dcgan, "UpConv", layer):
        yield


def theirs(images: np.ndarray, dtype: str) -> dict[str, Callable[[], Any]]:
    """PyTorch's step, eager and compiled."""
    import torch
    from torch import nn

    f = FEATURES
    entropy = nn.functional.binary_cross_entropy_with_logits
    up = functools.partial(nn.ConvTranspose2d, kernel_size=5, stride=2, padding=2, output_padding=1)
    down = functools.partial(nn.Conv2d, kernel_size=5, stride=2, padding=2)

    def discriminator() -> Any:
        layers: list[Any] = [down(3, f), nn.LeakyReLU(0.2, True)]
        for i in (1, 2, 4):
            layers += [down(f * i, 2 * f * i, bias=False), nn.BatchNorm2d(2 * f * i)]
            layers += [nn.LeakyReLU(0.2, True)]
        return nn.Sequential(*layers, nn.Conv2d(8 * f, 1, 4), nn.Flatten(0))

    def generator() -> Any:
        layers: list[Any] = [nn.ConvTranspose2d(LATENT, 8 * f, 4, bias=False)]
        for i in (8, 4, 2):
            layers += [nn.BatchNorm2d(f * i), nn.ReLU(True), up(f * i, f * i // 2, bias=False)]
        return nn.Sequential(*layers, nn.BatchNorm2d(f), nn.ReLU(True), up(f, 3), nn.Tanh())

    found: dict[str, Callable[[], Any]] = {}
    for how in ("eager", "compiled"):
        g, d = (_torch.placed(make(), dtype) for make in (generator, discriminator))
        first = next(g.parameters())
        real = torch.from_numpy(np.moveaxis(images, -1, 1).astype(np.float32) / 127.5 - 1)
        real = real.to(first.device, first.dtype, memory_format=torch.channels_last)
        adam = functools.partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999), fused=True)
        optimizers = adam(g.parameters()), adam(d.parameters())
        one, none = (torch.full((len(images),), v, device=first.device) for v in (1.0, 0.0))
        noise = lambda like=first: torch.rand(
            len(images), LATENT, 1, 1, device=like.device, dtype=like.dtype
        )

        def judge(d: Any, real: Any, made: Any, one: Any = one, none: Any = none) -> Any:
            return (entropy(d(real).float(), one) + entropy(d(made).float(), none)) / 2

        def fool(g: Any, d: Any, z: Any, one: Any = one) -> Any:
            return entropy(d(g(z)).float(), one)

        if how == "compiled":
            judge, fool = torch.compile(judge), torch.compile(fool)

        def step(
            g: Any = g,
            d: Any = d,
            real: Any = real,
            noise: Any = noise,
            judge: Any = judge,
            fool: Any = fool,
            optimizers: Any = optimizers,
        ) -> None:
            of_g, of_d = optimizers
            with torch.no_grad():
                made = g(2 * noise() - 1)
            of_d.zero_grad(set_to_none=True)
            judge(d, real, made).backward()
            of_d.step()
            of_g.zero_grad(set_to_none=True)
            d.requires_grad_(False)
            fool(g, d, 2 * noise() - 1).backward()
            d.requires_grad_(True)
            of_g.step()
            _torch.wait()

        found[f"torch {how}"] = step
    return found


def outside(devices: list[jax.Device]) -> str:
    """How much of a training of the GAN on MNIST is spent outside of its compiled calls."""
    images = np.random.default_rng(0).integers(0, 256, (10_000, 28, 28, 1), np.uint8)
    examples = Examples({"image": images})
    config = gan_mnist.Config(epochs=MNIST_STEPS * 100 / len(images), evaluations=1)
    made = gan_mnist.game(config, examples, examples, examples, claims=[])
    stages = [dataclasses.replace(stage, evaluate=None) for stage in made.stages]
    alone = dataclasses.replace(made, stages=stages, score=None, figures=None, claims=[])
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        run(alone, folder, devices=devices)
        cost = json.loads((Path(folder) / "metrics.json").read_text("utf-8"))["cost"][
            "training_seconds"
        ]
    working = cost["total"] - cost["compiling"]
    return (
        f"GAN on MNIST, {MNIST_STEPS} steps of 100 images: {1 - cost['device'] / working:.1%} of "
        f"the time outside of compiled calls, of which {cost['saving'] / working:.1%} saving"
    )


if __name__ == "__main__":
    main()
