"""A generative adversarial network on MNIST (Goodfellow et al. 2014, figures 2 and 3, table 1).

python -m experiments.gan_mnist                    # the paper's networks, with Adam
python -m experiments.gan_mnist --loss minimax     # the generator's loss of equation 1
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments import _gan
from experiments._checks import COUNT, POSITIVE
from jaxstruct import data, figures
from jaxstruct.data import Examples, fit_image
from jaxstruct.metrics import parzen_log_likelihood
from jaxstruct.models import (
    GANDiscriminator,
    GANGenerator,
    Players,
    latent_lines,
    perceptron_players,
    uniform_initializer,
)
from jaxstruct.training import (
    AVERAGE,
    Claim,
    Experiment,
    Reference,
    Run,
    State,
    batches_in_order,
    main,
    make_prediction,
    on_devices_of,
    with_average,
)

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
    pieces: int = 5  # linear functions of which a unit of the discriminator is the maximum
    optimizer: Literal["adam", "sgd"] = "adam"  # paper: sgd with rising momentum and falling rate
    learning_rate: float = 2e-4  # of the optimizer
    initialization: Literal["lecun", "paper"] = "lecun"  # of kernels; paper: small and uniform
    epochs: float = 60  # passes of the discriminator through the 50,000 training images
    parzen_samples: int = 10_000  # samples that the Parzen window is put around

    def __post_init__(self) -> None:
        super().__post_init__()
        COUNT.check(self, "latent", "hidden", "maxout", "pieces", "parzen_samples")
        POSITIVE.check(self, "learning_rate")


SMOKE = Config(latent=8, hidden=32, maxout=16, pieces=2, epochs=4, evaluations=4, parzen_samples=50)
PAPER = Config(
    optimizer="sgd",
    learning_rate=0.1,
    initialization="paper",
    epochs=1000,  # the authors' configuration names no end
)


def experiment(config: Config) -> Experiment:
    images, test = data.load("mnist", "train"), data.load("mnist", "test")
    train, validation = images.hold_out(images.size // 6)  # 10,000, as in the authors' code
    return game(config, train, validation, test, claims=CLAIMS)


def game(
    config: Config,
    train: Examples,
    validation: Examples,
    test: Examples,
    claims: Sequence[Claim],
) -> Experiment:
    """The game for images uint8 [N, H, W, 1]; those of `validation` choose the Parzen window."""
    shape = train["image"].shape[1:]
    players = perceptron_players(*networks(config, math.prod(shape)), config.latent, shape)

    of_steps = optimizer(config, train.size)
    stage = _gan.stage(
        config,
        players,
        {"discriminator": of_steps, "generator": of_steps},
        train,
        test,
        steps_per_call=STEPS_PER_CALL,
        start=partial(from_the_mean, images=train["image"]),
    )
    return Experiment(
        config,
        [stage],
        score=partial(score, config, players, train, validation, test),
        figures=partial(draw, config, players, train),
        predict=partial(_gan.predict, players, partial(fit_image, shape=shape, dark=True)),
        claims=claims,
        model=dict(players.modules),
        data=[s.source for s in (test,) if s.source],
    )


def score(
    config: Config,
    players: Players,
    train: Examples,
    validation: Examples,
    test: Examples,
    states: Mapping[str, State],
) -> dict[str, float]:
    """The Parzen window's log-likelihood of samples, and of as many training images."""
    state = states["game"]
    z = players.noise(_gan.key_of(config, 2), config.parzen_samples)
    samples = _gan.generated(players, state, z)
    images = _pixels(train["image"][: config.parzen_samples])
    of_images = parzen(images, validation["image"], test["image"], state)
    flat = samples.reshape(len(samples), -1)
    of_samples = parzen(flat, validation["image"], test["image"], state)
    print(f"note: {CAVEAT}")
    return of_samples | {"parzen_of_images": of_images["parzen_log_likelihood"]}


def draw(config: Config, players: Players, train: Examples, run: Run) -> dict[str, Figure]:
    """Samples beside the nearest training images, interpolations, and the curves of the game."""
    assert run.state is not None
    samples = _gan.generated(players, run.state, players.noise(_gan.key_of(config, 0), 10, 10))
    ends = players.noise(_gan.key_of(config, 1), 2, 8).swapaxes(0, 1)
    lines = _gan.generated(players, run.state, latent_lines(ends, 15))
    return {
        "samples": _gan.beside_nearest(samples, train["image"]),
        "interpolation": figures.image_grid(lines, title="straight lines between two z"),
        **_gan.curves(run, config.batch_size * config.discriminator_steps),
    }


def networks(config: Config, size: int) -> tuple[GANGenerator, GANDiscriminator]:
    """The two players for images of so many pixels."""
    of_generator = of_judge = nn.initializers.lecun_normal()
    if config.initialization == "paper":
        of_generator, of_judge = uniform_initializer(0.05), uniform_initializer(0.005)
    generator = GANGenerator(config.hidden, size, kernel_init=of_generator)
    return generator, GANDiscriminator(config.maxout, config.pieces, kernel_init=of_judge)


def from_the_mean(state: State, images: np.ndarray) -> State:
    """The same game with a generator that begins at the mean of images uint8 [N, H, W, 1].

    From grey images in its place (biases of 0), the discriminator wins for 10,000 steps.
    """
    mean = np.clip(np.mean(images, 0, np.float64).ravel() / 255, 1e-7, 1 - 1e-7)
    bias = jnp.asarray(np.log(mean / (1 - mean)), jnp.float32)

    params = state.params["generator"]
    params = {**params, "output": {**params["output"], "bias": bias}}
    begun = state.replace(params={**state.params, "generator": params})
    return with_average(begun, _gan.of_generator) if AVERAGE in state.model_state else begun


def optimizer(config: Config, images: int) -> optax.GradientTransformation:
    """That of either player; sgd as the authors configured it, for so many training images."""
    if config.optimizer == "adam":
        return optax.adam(config.learning_rate, b1=0.5)
    epoch = images / config.batch_size  # steps
    # Divided by e in 250,000 steps: by 1.000004 at each.
    rate = optax.exponential_decay(config.learning_rate, 250_000, 1 / math.e, end_value=1e-6)
    momentum = optax.linear_schedule(0.5, 0.7, round(249 * epoch), round(epoch))
    return optax.inject_hyperparams(optax.sgd)(learning_rate=rate, momentum=momentum)


def parzen(
    samples: np.ndarray, validation: np.ndarray, test: np.ndarray, like: Any = None
) -> dict[str, float]:
    """The mean log-likelihood of test images under a Parzen window around samples [M, D].

    Images are uint8 [N, H, W, 1]. The first 1,000 validation images choose the window's sigma.
    Runs on the devices that the tree `like` is on, all without it.
    """

    def of_sigmas(sigmas: Any, images: np.ndarray) -> np.ndarray:
        """[N, S]: under the window of each sigma."""

        def predict(samples: Any, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
            x = batch["image"].reshape(len(batch["image"]), -1)
            found = [parzen_log_likelihood(samples, sigma, x) for sigma in sigmas]
            return {"log_likelihood": jnp.stack(found, axis=1)}

        batches = batches_in_order({"image": images}, 1000)
        found = make_prediction(predict)(on_devices_of(samples, like), batches)
        return found["log_likelihood"].astype(np.float64)

    means = of_sigmas(SIGMAS, validation[:VALIDATED]).mean(axis=0)
    sigma = float(SIGMAS[int(np.argmax(means))])
    values = of_sigmas([sigma], test)[:, 0]
    return {
        "parzen_log_likelihood": float(values.mean()),
        "parzen_standard_error": float(values.std() / math.sqrt(len(values))),
        "parzen_sigma": sigma,
    }


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
