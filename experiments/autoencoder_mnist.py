"""Autoencoders on MNIST: undercomplete, overcomplete, linear beside PCA, nonlinear.

The linear ones span the subspace of the principal components (Baldi & Hornik 1989), the nonlinear
ones make smaller errors with as many numbers (Hinton & Salakhutdinov 2006), and one whose code is
wider than the image copies what it is given, be it a digit or not.

python -m experiments.autoencoder_mnist
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn
from matplotlib.figure import Figure

from experiments import _autoencoder
from experiments._autoencoder import Coder
from experiments._checks import COUNT, NOT_NEGATIVE, POSITIVE, SEED, check_filled
from jaxstruct import data, figures
from jaxstruct.data import Examples
from jaxstruct.models import Autoencoder
from jaxstruct.training import Claim, Experiment, Reference, Run, State, Study, main

PCA_ERRORS = {2: 0.0556695, 10: 0.0340738, 32: 0.0168282, 64: 0.0090468}
"""Test error per pixel of PCA fitted on the 60,000 training images, by components."""


def coder_reference(kind: str, code: int, metric: str = "error", **paper: Any) -> Reference:
    return Reference(metric, "lower", member=f"{kind}={code}", **paper)


CLAIMS = [
    Claim(
        "linear codes of 2 to 64 numbers end with PCA's error",
        values=[coder_reference("linear", code, value=error) for code, error in PCA_ERRORS.items()],
        source="Baldi & Hornik 1989; the numbers are those of PCA of the same images",
    ),
    Claim(
        "nonlinear codes of equal size have smaller errors",
        orders=[
            [coder_reference("nonlinear", code), coder_reference("linear", code)]
            for code in PCA_ERRORS
        ],
        source="Hinton & Salakhutdinov 2006, figure 2",
    ),
    Claim(
        "overcomplete codes copy images that are no digits",
        orders=[
            [
                coder_reference("overcomplete", 2048, "shuffled_error"),
                coder_reference("overcomplete", 1024, "shuffled_error"),
                coder_reference("linear", 64, "shuffled_error"),
            ]
        ],
    ),
]


@dataclass(frozen=True)
class Config:
    """The defaults: minutes an autoencoder on two cores."""

    codes: tuple[int, ...] = (2, 10, 32, 64)  # dimensions of the undercomplete codes
    overcomplete: tuple[int, ...] = (1024, 2048)  # dimensions of codes wider than the image
    hidden: tuple[int, ...] = (512, 256)  # the nonlinear encoder's layers in front of the code
    batch_size: int = 100  # images a step
    epochs: float = 20  # passes through the training images
    learning_rate: float = 1e-3  # of Adam at first; the rate falls to 0
    linear_batch_size: int = 1000  # images a step of the linear autoencoders
    linear_epochs: float = 100  # passes of the linear autoencoders
    linear_learning_rate: float = 1e-2  # of Adam at first, for the linear autoencoders
    seed: int = 0  # of initialization and order

    def __post_init__(self) -> None:
        check_filled(self, "codes")
        COUNT.check(self, "codes", "overcomplete", "hidden", "batch_size", "linear_batch_size")
        NOT_NEGATIVE.check(self, "epochs", "linear_epochs")
        POSITIVE.check(self, "learning_rate", "linear_learning_rate")
        SEED.check(self, "seed")


SMOKE = Config(
    codes=(2, 5),
    overcomplete=(800,),
    hidden=(16,),
    epochs=3,
    batch_size=50,
    linear_batch_size=200,
    linear_epochs=20,
)


class Pca(NamedTuple):
    """The principal components of the training images."""

    mean: np.ndarray  # [D]
    components: np.ndarray  # [D, D], a column each, the largest variance first

    def error(self, x: np.ndarray, count: int) -> float:
        """The mean squared error per pixel of x [N, D] that `count` components leave."""
        rest = (x.astype(np.float64) - self.mean) @ self.components[:, count:]
        return float(np.mean(np.sum(rest**2, axis=1)) / x.shape[1])


def experiment(config: Config) -> Study:
    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    shuffled = shuffle_pixels(test)
    pca = functools.cache(functools.partial(principal_components, train))
    coders = coders_of(config, train)
    members = {}
    for name, coder in coders.items():
        linear = name.startswith("linear")
        stage = _autoencoder.stage(
            "train",
            coder,
            _autoencoder.adam(config.linear_learning_rate if linear else config.learning_rate),
            train,
            test,
            batch_size=config.linear_batch_size if linear else config.batch_size,
            epochs=config.linear_epochs if linear else config.epochs,
            seed=config.seed,
        )
        of_shuffled = _autoencoder.error_of(coder, shuffled)
        members[name] = Experiment(
            config,
            [stage],
            score=functools.partial(score, of_shuffled, test, pca if linear else None),
            figures=lambda run: {"learning_curve": _autoencoder.learning_curves({"": run})},
            predict=functools.partial(_autoencoder.predict, coder, test),
            model=coder.model,
        )
    draw = functools.partial(study_figures, config, coders, test, shuffled, pca)
    return Study(config, members, draw, CLAIMS)


def coders_of(config: Config, train: Examples) -> dict[str, Coder]:
    """The autoencoders by the names of their members."""
    size = math.prod(train["image"].shape[1:])
    mean = lambda: pixels(train).mean(axis=0).astype(np.float32)
    start = nn.initializers.orthogonal()
    coders: dict[str, Coder] = {}
    for code in config.codes:
        linear = Autoencoder(size, (code,), kernel_init=start)
        nonlinear = Autoencoder(size, (*config.hidden, code))
        coders[f"linear={code}"] = _autoencoder.squared(linear, mean)
        coders[f"nonlinear={code}"] = _autoencoder.squared_sigmoid(nonlinear)
    for code in config.overcomplete:
        wide = Autoencoder(size, (code,), code=nn.relu)
        coders[f"overcomplete={code}"] = _autoencoder.squared(wide)
    return coders


def principal_components(train: Examples) -> Pca:
    """Those of all images, in float64."""
    x = pixels(train).astype(np.float64)
    variances, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    return Pca(x.mean(axis=0), vectors[:, np.argsort(-variances)])


def score(
    of_shuffled: Callable[[State], dict[str, float]],
    test: Examples,
    pca: Callable[[], Pca] | None,
    states: Mapping[str, State],
) -> dict[str, float]:
    """The error of shuffled pixels and, of a linear code, how far it is from PCA."""
    state = states["train"]
    found = {"shuffled_error": of_shuffled(state)["error"]}
    if pca:
        angles = principal_angles(state.params, pca())
        found["pca_error"] = pca().error(pixels(test), len(angles))
        found["largest_angle"] = float(angles.max())
    return found


def study_figures(
    config: Config,
    coders: Mapping[str, Coder],
    test: Examples,
    shuffled: Examples,
    pca: Callable[[], Pca],
    runs: Mapping[str, Run],
) -> dict[str, Figure]:
    """Errors, angles, curves, reconstructions and codes of all members."""
    curves: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        kind, code = name.split("=")
        curves.setdefault(kind, {})[code] = run.curve("error")
    angles = {
        f"{code} dimensions": (np.arange(1, code + 1), principal_angles(params, pca()))
        for code in config.codes
        if (params := _autoencoder.params_of(runs[f"linear={code}"]))
    }
    errors = {
        "principal components": [pca().error(pixels(test), code) for code in config.codes],
        "linear": [runs[f"linear={code}"].metrics["error"] for code in config.codes],
        "nonlinear": [runs[f"nonlinear={code}"].metrics["error"] for code in config.codes],
    }
    drawn = {
        "errors": figures.curves(
            {name: (config.codes, values) for name, values in errors.items()},
            x_label="dimensions of the code",
            y_label="squared error per pixel of test images",
            dashed={"linear": "nonlinear"},
            log_x=True,
        ),
        "principal_angles": figures.curves(
            angles,
            x_label="angle, from the smallest",
            y_label="degrees between linear code and principal components",
        ),
        "learning_curves": figures.curve_panels(
            curves,
            x_label="steps",
            y_label="squared error per pixel of test images",
            share_y=False,
        ),
        "reconstructions": reconstructions(coders, runs, test, "test image"),
        "copies": reconstructions(coders, runs, shuffled, "shuffled pixels"),
    }
    if 2 in config.codes:
        drawn["codes"] = figures.scatter_panels(
            {
                "linear": codes(coders["linear=2"], runs["linear=2"], test),
                "nonlinear": codes(coders["nonlinear=2"], runs["nonlinear=2"], test),
            },
            x_label="first dimension of the code",
            y_label="second",
        )
    return drawn


def reconstructions(
    coders: Mapping[str, Coder], runs: Mapping[str, Run], images: Examples, title: str
) -> Figure:
    """Twelve images, and their reconstructions by each autoencoder below."""
    x = images.only("image").spread(12)["image"] / np.float32(255)
    rows = {title: x}
    for name, coder in coders.items():
        state = runs[name].state
        assert state is not None
        rows[name] = coder.reconstruct(state, x)
    return figures.image_grid(np.stack([*rows.values()]), row_labels=[*rows], gap=1)


def shuffle_pixels(images: Examples) -> Examples:
    """The images with their middle 20x20 pixels in another order, the same one for all.

    Each pixel's grey values are those of digits, where digits have ink at all; what makes them
    digits is gone.
    """
    stored = images["image"]

    def shuffled() -> np.ndarray:
        whole = np.array(stored)
        middle = whole[:, 4:24, 4:24]
        order = np.random.default_rng(0).permutation(400)
        whole[:, 4:24, 4:24] = middle.reshape(len(whole), 400)[:, order].reshape(middle.shape)
        return whole

    later: Any = data.Later(stored.shape, stored.dtype, shuffled)
    return Examples({"image": later}, images.source)


def principal_angles(params: Any, pca: Pca) -> np.ndarray:
    """The angles [code] in degrees between what a linear decoder spans and as many components."""
    from scipy.linalg import subspace_angles

    span = np.asarray(params["decoder"]["layer1"]["kernel"], np.float64).T
    return np.rad2deg(subspace_angles(span, pca.components[:, : span.shape[1]]))[::-1]


def codes(coder: Coder, run: Run, images: Examples) -> dict[str, np.ndarray]:
    """The two-dimensional codes of at most 5,000 images, by their labels."""
    assert run.state is not None
    shown = images.take(slice(5000))
    points = np.asarray(coder.encode(run.state.params, run.state.model_state, pixels(shown)))
    return {str(label): points[shown["label"] == label] for label in np.unique(shown["label"])}


def pixels(images: Examples) -> np.ndarray:
    """[N, D] float32 in [0, 1]."""
    return _autoencoder.flat(images["image"]) / np.float32(255)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
