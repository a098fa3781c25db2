"""Denoising autoencoders on MNIST: what noise makes of the filters (Vincent et al. 2008, 2010).

The same autoencoder, from the same random weights, with parts of its input masked, with Gaussian
and with salt-and-pepper noise.

python -m experiments.denoising_mnist
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments import _autoencoder
from experiments._autoencoder import Corruption
from experiments._checks import COUNT, NOT_NEGATIVE, POSITIVE, SEED, SHARE, check_filled
from jaxstruct import data, figures, ops
from jaxstruct.models import Autoencoder
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
    model = Autoencoder(
        int(np.prod(shape)),
        (config.hidden,),
        code=nn.sigmoid,
        tied=True,
        kernel_init=_autoencoder.SIGMOID_KERNEL,
    )
    coder = _autoencoder.cross_entropy(model)
    corruptions: dict[str, Corruption] = {}
    for fraction in config.masking:
        corruptions[f"masking={fraction:g}"] = functools.partial(
            ops.masking_noise, fraction=fraction
        )
    for sigma in config.gaussian:
        corruptions[f"gaussian={sigma:g}"] = functools.partial(ops.gaussian_noise, sigma=sigma)
    for fraction in config.salt_and_pepper:
        corruptions[f"salt_and_pepper={fraction:g}"] = functools.partial(
            ops.salt_and_pepper_noise, fraction=fraction
        )

    def member(corrupt: Corruption) -> Experiment:
        denoised = _autoencoder.error_of(coder, test, corrupt=corrupt)

        def score(states: Mapping[str, State]) -> dict[str, float]:
            return {"denoising_error": denoised(states["train"])["error"]}

        def draw(run: Run) -> dict[str, Figure]:
            return {
                "learning_curve": _autoencoder.learning_curves({"": run}),
                "filters": figures.image_grid(filters(run, range(100), shape), gap=1),
            }

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
        predict = functools.partial(_autoencoder.predict, coder, test)
        return Experiment(config, [stage], score=score, figures=draw, predict=predict, model=model)

    def study_figures(runs: Mapping[str, Run]) -> dict[str, Figure]:
        masked = {
            f"{100 * fraction:g} % masked": f"masking={fraction:g}" for fraction in config.masking
        }
        followed = largest(runs[list(masked.values())[-1]], shape, 2) if masked else []
        x = test.spread(10)["image"] / np.float32(255)
        rows: dict[str, np.ndarray] = {"test image": x}
        for name, corrupt in corruptions.items():
            keys = jax.random.split(jax.random.key(config.seed), len(x))
            noisy = np.asarray(jax.vmap(corrupt)(keys, _autoencoder.flat(x))).reshape(x.shape)
            state = runs[name].state
            assert state is not None
            rows[name] = noisy
            rows[f"denoised ({name})"] = coder.reconstruct(state, noisy)
        drawn = {
            "learning_curves": _autoencoder.learning_curves(runs),
            "denoised": figures.image_grid(np.stack([*rows.values()]), row_labels=[*rows], gap=1),
        }
        if masked:
            drawn["filters"] = figures.side_by_side(
                {title: filters(runs[name], range(25), shape) for title, name in masked.items()},
                gap=1,
            )
            drawn["neurons"] = figures.image_grid(
                np.stack([filters(runs[name], followed, shape)[0] for name in masked.values()], 1),
                row_labels=[f"neuron {letter}" for letter in "AB"[: len(followed)]],
                column_labels=[*masked],
                gap=1,
            )
        others = [name for name in runs if name not in masked.values()]
        if others:
            drawn["filters_of_other_noise"] = figures.side_by_side(
                {name: filters(runs[name], range(64), shape) for name in others}, gap=1
            )
        return drawn

    members = {name: member(corrupt) for name, corrupt in corruptions.items()}
    return Study(config, members, study_figures, CLAIMS)


def filters(run: Run, units: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """The weights of units as images [rows, columns, H, W, C], as square a grid as they fill."""
    kernel = np.asarray(_params(run)["encoder"]["layer1"]["kernel"]).T
    chosen = kernel[[unit for unit in units if unit < len(kernel)]]
    columns = int(np.ceil(np.sqrt(len(chosen)))) if len(chosen) > 3 else len(chosen)
    whole = chosen[: len(chosen) // columns * columns]
    return figures.signed_images(whole.reshape(-1, columns, *shape))


def largest(run: Run, shape: tuple[int, ...], count: int) -> list[int]:
    """The units with the largest strokes: whose filters are the strongest when they are blurred."""
    from scipy.ndimage import uniform_filter

    kernel = np.asarray(_params(run)["encoder"]["layer1"]["kernel"]).reshape(*shape[:2], -1)
    strength = np.square(uniform_filter(kernel, (7, 7, 0))).sum(axis=(0, 1))
    return [int(unit) for unit in np.argsort(-strength)[:count]]


def _params(run: Run) -> Any:
    assert run.state is not None
    return run.state.params


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
