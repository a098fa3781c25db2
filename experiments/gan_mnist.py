"""A generative adversarial network on MNIST (Goodfellow et al. 2014, figures 2 and 3, table 1).

python -m experiments.gan_mnist                    # the paper's networks, with Adam
python -m experiments.gan_mnist --loss minimax     # the generator's loss of equation 1
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments import _gan
from experiments._checks import at_least
from jaxstruct import data, figures
from jaxstruct.data import Examples
from jaxstruct.metrics import parzen_log_likelihood
from jaxstruct.models import GANDiscriminator, GANGenerator, uniform_initializer
from jaxstruct.training import Claim, Experiment, Reference, Run, State, fit_image, main

STEPS_PER_CALL = 10  # no convolutions: so many steps run in one call
SIGMAS = np.geomspace(0.1, 1, 10)  # of which validation images choose, as in the authors' code
VALIDATED = 1000  # images that choose, likewise

CAVEAT = (
    "a Parzen window says little about samples (Theis, van den Oord & Bethge 2016); "
    "parzen_of_images is what as many training images get in their place"
)
PARZEN = Reference(
    "parzen_log_likelihood",
    "higher",
    value=225.0,
    spread=2.0,
    source="Goodfellow et al. 2014, table 1",
)
CLAIMS = [
    Claim(
        "log-likelihood by a Parzen window (nats)",
        values=[PARZEN],
        why="60 passes with Adam; the game has not ended",
    ),
    _gan.equilibrium("D(x) and D(G(z)) still move towards 1/2"),
]


@dataclass(frozen=True)
class Config(_gan.Config):
    """The defaults: the paper's networks, trained for three quarters of an hour on a core."""

    latent: int = 100  # dimensions of z
    hidden: int = 1200  # units of the generator's two hidden layers
    maxout: int = 240  # units of the discriminator's two hidden layers
    pieces: int = 5  # linear functions of which each of these units is the largest
    optimizer: Literal["adam", "sgd"] = "adam"  # paper: sgd, whose momentum rises, with a decay
    learning_rate: float = 2e-4  # of the optimizer
    initialization: Literal["lecun", "paper"] = "lecun"  # of kernels; paper: small, uniform
    epochs: float = 60  # passes of the discriminator through the 50,000 training images
    parzen_samples: int = 10_000  # around which the Parzen window lies


SMOKE = Config(latent=8, hidden=32, maxout=16, pieces=2, epochs=4, evaluations=4, parzen_samples=50)
PAPER = Config(
    optimizer="sgd",
    learning_rate=0.1,
    initialization="paper",
    epochs=1000,  # the authors' configuration names no end
)


def experiment(config: Config) -> Experiment:
    images, test = data.load("mnist", "train"), data.load("mnist", "test")
    held_out = images.size // 6  # the last 10,000, as in the authors' code
    return game(
        config,
        images.take(slice(-held_out)),
        images.take(slice(-held_out, None)),
        test,
        claims=CLAIMS,
    )


def game(
    config: Config,
    train: Examples,
    validation: Examples,
    test: Examples,
    claims: Sequence[Claim],
) -> Experiment:
    """The game for images uint8 [N, H, W, 1]; those of `validation` choose the Parzen window."""
    at_least(config, batch_size=1, parzen_samples=1)
    shape = train["image"].shape[1:]
    players = _gan.perceptrons(*networks(config, train["image"]), config.latent, shape)

    def score(states: Any) -> dict[str, float]:
        z = _gan.noise(players, _gan.key_of(config, 2), config.parzen_samples)
        samples = _gan.generated(players, states["game"], z)
        instead = _pixels(train["image"][: config.parzen_samples])
        of_images = parzen(instead, validation["image"], test["image"])
        of_samples = parzen(samples.reshape(len(samples), -1), validation["image"], test["image"])
        print(f"note: {CAVEAT}")
        return of_samples | {"parzen_of_images": of_images["parzen_log_likelihood"]}

    def sample(state: State, key: jax.Array) -> np.ndarray:
        return _gan.generated(players, state, _gan.noise(players, key, 10, 10))

    def draw(run: Run) -> dict[str, Figure]:
        assert run.state is not None
        return {
            "samples": _gan.beside_nearest(
                sample(run.state, _gan.key_of(config, 0)), train["image"]
            ),
            "interpolation": _gan.interpolations(players, run.state, _gan.key_of(config, 1)),
            **_gan.curves(run, config.batch_size * config.discriminator_steps),
        }

    def predict(key: jax.Array, state: State | None, image: Any) -> tuple[dict, Figure]:
        assert state is not None
        if image is None:
            return {"samples": 100}, figures.image_grid(sample(state, key))
        return _gan.judged(players, state, key, fit_image(image, shape, dark=True))

    of_steps = optimizer(config, train.size)
    stage = _gan.stage(
        config,
        players,
        {"discriminator": of_steps, "generator": of_steps},
        train,
        test,
        steps_per_call=STEPS_PER_CALL,
    )
    return Experiment(
        config,
        [stage],
        score=score,
        figures=draw,
        predict=predict,
        claims=claims,
        data=[s.source for s in (test,) if s.source],
    )


def networks(config: Config, images: np.ndarray) -> tuple[GANGenerator, GANDiscriminator]:
    """The two players for images uint8 [N, H, W, 1], whose mean the generator begins at.

    From grey images in its place (biases of 0), the discriminator wins for 10,000 steps.
    """
    mean = np.clip(np.mean(images, 0, np.float64).ravel() / 255, 1e-7, 1 - 1e-7)
    bias = jnp.asarray(np.log(mean / (1 - mean)), jnp.float32)
    of_generator = of_judge = nn.initializers.lecun_normal()
    if config.initialization == "paper":
        of_generator, of_judge = uniform_initializer(0.05), uniform_initializer(0.005)
    generator = GANGenerator(
        config.hidden,
        len(bias),
        kernel_init=of_generator,
        output_bias_init=lambda key, shape, dtype: bias.astype(dtype),
    )
    return generator, GANDiscriminator(config.maxout, config.pieces, kernel_init=of_judge)


def optimizer(config: Config, images: int) -> optax.GradientTransformation:
    """That of either player; sgd as the authors configured it, for so many training images."""
    if config.optimizer not in ("adam", "sgd"):
        raise ValueError(f"optimizer is {config.optimizer!r}, expected adam or sgd")
    if config.optimizer == "adam":
        return optax.adam(config.learning_rate, b1=0.5)
    epoch = images / config.batch_size  # steps
    # Divided by e in 250,000 steps: by 1.000004 at each.
    rate = optax.exponential_decay(config.learning_rate, 250_000, 1 / math.e, end_value=1e-6)
    momentum = optax.linear_schedule(0.5, 0.7, round(249 * epoch), round(epoch))
    return optax.inject_hyperparams(optax.sgd)(learning_rate=rate, momentum=momentum)


def parzen(samples: np.ndarray, validation: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """The mean log-likelihood of test images under a Parzen window around samples [M, D].

    Images are uint8 [N, H, W, 1]. The first 1,000 validation images choose the window's sigma.
    """
    tuning = _pixels(validation[:VALIDATED])
    means = [jnp.mean(parzen_log_likelihood(samples, sigma, tuning)) for sigma in SIGMAS]
    sigma = float(SIGMAS[int(np.argmax(means))])
    values = np.asarray(parzen_log_likelihood(samples, sigma, _pixels(test)), np.float64)
    return {
        "parzen_log_likelihood": float(values.mean()),
        "parzen_standard_error": float(values.std() / math.sqrt(len(values))),
        "parzen_sigma": sigma,
    }


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
