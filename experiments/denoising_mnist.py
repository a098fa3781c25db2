"""Denoising autoencoders on MNIST: what noise makes of the filters (Vincent et al. 2008, 2010).

The same autoencoder, from the same random weights, with parts of its input masked, with Gaussian
and with salt-and-pepper noise.

python -m experiments.denoising_mnist
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments import _autoencoder
from experiments._autoencoder import Coder, Corruption
from experiments._checks import COUNT, NOT_NEGATIVE, POSITIVE, SEED, SHARE, check_filled
from jaxstruct import data, figures, ops
from jaxstruct.data import Examples
from jaxstruct.training import Claim, Experiment, Run, State, Study, main


@dataclass(frozen=True)
class Config:
    """The defaults: minutes an autoencoder on two cores."""

    masking: tuple[float, ...] = (0.0, 0.1, 0.2, 0.5)  # fractions of the pixels set to 0
    gaussian: tuple[float, ...] = (0.5,)  # standard deviations of Gaussian noise on the pixels
    salt_and_pepper: tuple[float, ...] = (0.25,)  # fractions of the pixels set to 0 or 1
    hidden: int = 500  # units; the decoder has the encoder's weights
    batch_size: int = 20  # images a step
    epochs: float = 30  # passes through the training images
    learning_rate: float = 0.1  # of stochastic gradient descent on the cross-entropy
    seed: int = 0  # of initialization, order and noise

    def __post_init__(self) -> None:
        SHARE.check(self, "masking", "salt_and_pepper")
        NOT_NEGATIVE.check(self, "gaussian", "epochs")
        COUNT.check(self, "hidden", "batch_size")
        POSITIVE.check(self, "learning_rate")
        SEED.check(self, "seed")
        if not self.gaussian and not self.salt_and_pepper:
            check_filled(self, "masking")


CLAIMS = [
    Claim(
        "filters grow into strokes with the noise",
        figure="neurons",
        source="Vincent et al. 2008, figure 3",
    )
]
SMOKE = Config(masking=(0.0, 0.5), gaussian=(), salt_and_pepper=(0.25,), hidden=30, epochs=2)


def experiment(config: Config) -> Study:
    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    shape = train["image"].shape[1:]
    coder = _autoencoder.one_sigmoid_layer(math.prod(shape), config.hidden)
    corruptions = corruptions_of(config)
    members = {}
    for name, corrupt in corruptions.items():
        stage = _autoencoder.stage(
            "train",
            coder,
            lambda steps: optax.sgd(config.learning_rate),
            train,
            test,
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            corrupt=corrupt,
        )
        members[name] = Experiment(
            config,
            [stage],
            score=partial(score, _autoencoder.error_of(coder, test, corrupt=corrupt)),
            figures=partial(draw, shape),
            predict=partial(_autoencoder.predict, coder, test),
            model=coder.model,
        )
    draw_study = partial(study_figures, config, coder, corruptions, test)
    return Study(config, members, draw_study, CLAIMS)


def corruptions_of(config: Config) -> dict[str, Corruption]:
    """The kinds of noise by the names of their members."""
    kinds: list[tuple[str, str, Any, Sequence[float]]] = [
        ("masking", "fraction", ops.masking_noise, config.masking),
        ("gaussian", "sigma", ops.gaussian_noise, config.gaussian),
        ("salt_and_pepper", "fraction", ops.salt_and_pepper_noise, config.salt_and_pepper),
    ]
    return {
        f"{kind}={level:g}": partial(noise, **{option: level})
        for kind, option, noise, levels in kinds
        for level in levels
    }


def score(
    error: Callable[[State], dict[str, float]], states: Mapping[str, State]
) -> dict[str, float]:
    """The error of reconstructions from test images with noise."""
    return {"denoising_error": error(states["train"])["error"]}


def draw(shape: tuple[int, ...], run: Run) -> dict[str, Figure]:
    """The learning curve and a hundred filters."""
    return {
        "learning_curve": _autoencoder.learning_curves({"": run}),
        "filters": figures.image_grid(filters(run, range(100), shape), gap=1),
    }


def study_figures(
    config: Config,
    coder: Coder,
    corruptions: Mapping[str, Corruption],
    test: Examples,
    runs: Mapping[str, Run],
) -> dict[str, Figure]:
    """Curves, denoised images, and the filters of all members."""
    shape = test["image"].shape[1:]
    masked = {f"{100 * level:g} % masked": f"masking={level:g}" for level in config.masking}
    drawn = {
        "learning_curves": _autoencoder.learning_curves(runs),
        "denoised": denoised(config, coder, corruptions, test, runs),
    }
    if masked:
        strongest = largest(runs[list(masked.values())[-1]], shape, 2)
        drawn["filters"] = figures.side_by_side(
            {title: filters(runs[name], range(25), shape) for title, name in masked.items()},
            gap=1,
        )
        drawn["neurons"] = figures.image_grid(
            np.stack([filters(runs[name], strongest, shape)[0] for name in masked.values()], 1),
            row_labels=[f"neuron {letter}" for letter in "AB"[: len(strongest)]],
            column_labels=[*masked],
            gap=1,
        )
    others = [name for name in runs if name not in masked.values()]
    if others:
        drawn["filters_of_other_noise"] = figures.side_by_side(
            {name: filters(runs[name], range(64), shape) for name in others}, gap=1
        )
    return drawn


def denoised(
    config: Config,
    coder: Coder,
    corruptions: Mapping[str, Corruption],
    test: Examples,
    runs: Mapping[str, Run],
) -> Figure:
    """Ten test images and, for each kind of noise, the noisy and the denoised images."""
    x = test.spread(10)["image"] / np.float32(255)
    keys = jax.random.split(jax.random.key(config.seed), len(x))
    rows: dict[str, np.ndarray] = {"test image": x}
    for name, corrupt in corruptions.items():
        noisy = np.asarray(jax.vmap(corrupt)(keys, _autoencoder.flat(x))).reshape(x.shape)
        state = runs[name].state
        assert state is not None
        rows[name] = noisy
        rows[f"denoised ({name})"] = coder.reconstruct(state, noisy)
    return figures.image_grid(np.stack([*rows.values()]), row_labels=[*rows], gap=1)


def filters(run: Run, units: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """The weights of units as images [rows, columns, H, W, C], as square a grid as they fill."""
    kernel = np.asarray(_autoencoder.params_of(run)["encoder"]["layer1"]["kernel"]).T
    chosen = kernel[[unit for unit in units if unit < len(kernel)]]
    columns = int(np.ceil(np.sqrt(len(chosen)))) if len(chosen) > 3 else len(chosen)
    whole = chosen[: len(chosen) // columns * columns]
    return figures.signed_images(whole.reshape(-1, columns, *shape))


def largest(run: Run, shape: tuple[int, ...], count: int) -> list[int]:
    """The units with the largest strokes: whose filters are the strongest when they are blurred."""
    from scipy.ndimage import uniform_filter

    kernel = np.asarray(_autoencoder.params_of(run)["encoder"]["layer1"]["kernel"]).reshape(
        *shape[:2], -1
    )
    strength = np.square(uniform_filter(kernel, (7, 7, 0))).sum(axis=(0, 1))
    return [int(unit) for unit in np.argsort(-strength)[:count]]


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
