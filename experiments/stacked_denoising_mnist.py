"""Stacked denoising autoencoders on MNIST: does layer-wise pretraining help (Vincent et al. 2010)?

The same classifier from random weights, from autoencoders and from denoising autoencoders.

python -m experiments.stacked_denoising_mnist --seeds 3
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments import _autoencoder
from experiments._checks import COUNT, NOT_NEGATIVE, POSITIVE, SEED, SHARE
from jaxstruct import data, figures, ops
from jaxstruct.data import Examples
from jaxstruct.metrics import Mean
from jaxstruct.models import Perceptron
from jaxstruct.training import (
    Claim,
    Experiment,
    Reference,
    Run,
    Stage,
    State,
    Study,
    batches_in_order,
    main,
    make_evaluation,
    make_step,
    shuffled_batches,
    steps_of_epochs,
)

VALIDATION = 10_000
"""The last training images: choices are made by them, and they are not trained on."""

TABLE = "Vincent et al. 2010, table 3"
RANDOM = Reference("test_error", "lower", member="start=random")
SAE = Reference(
    "test_error",
    "lower",
    member="start=autoencoder",
    value=1.40,
    spread=0.23,
    source=f"{TABLE}, SAE-3 with its 95 % interval",
)
SDAE = Reference(
    "test_error",
    "lower",
    member="start=denoising",
    value=1.28,
    spread=0.22,
    source=f"{TABLE}, SDAE-3 with its 95 % interval",
)
CLAIMS = [
    Claim(
        "pretraining helps, with noise more",
        orders=[[SDAE, SAE, RANDOM]],
        source=TABLE,
        why="Adam, 15 passes a layer",
    ),
    Claim(
        "test error of three layers (%)",
        values=[SDAE, SAE],
        why="Adam, 15 passes each layer and 15 the whole; the paper has plain descent",
    ),
]


@dataclass(frozen=True)
class Config:
    """The defaults: three hidden layers, as SDAE-3, with Adam where the paper has plain descent."""

    hidden: tuple[int, ...] = (1000, 1000, 1000)  # units of each layer
    corruption: float = 0.25  # fraction of a layer's inputs that is masked
    batch_size: int = 100  # images a step
    pretraining_epochs: float = 15  # passes through the training images for each layer
    pretraining_rate: float = 1e-3  # of Adam on the cross-entropy
    epochs: float = 15  # passes while the whole network is trained
    learning_rate: float = 1e-3  # of Adam at first; the rate falls to 0
    seed: int = 0  # of initialization, order and noise

    def __post_init__(self) -> None:
        COUNT.check(self, "hidden", "batch_size")
        SHARE.check(self, "corruption")
        NOT_NEGATIVE.check(self, "pretraining_epochs", "epochs")
        POSITIVE.check(self, "pretraining_rate", "learning_rate")
        SEED.check(self, "seed")


SMOKE = Config(hidden=(30, 20), batch_size=20, pretraining_epochs=1, epochs=2)


def experiment(config: Config) -> Study:
    whole, test = data.load("mnist", "train"), data.load("mnist", "test")
    train, valid = whole.hold_out(min(VALIDATION, whole.size // 6))
    classifier = Perceptron(
        (*config.hidden, 10), nn.sigmoid, kernel_init=_autoencoder.SIGMOID_KERNEL
    )
    count = functools.partial(errors, classifier)
    of_test = make_evaluation(count, batches_in_order(test, 1000))
    of_valid = make_evaluation(count, batches_in_order(valid, 1000))
    evaluate = lambda state: {
        "test_error": of_test(state)["error"],
        "validation_error": of_valid(state)["error"],
    }
    corruptions = {"random": None, "autoencoder": 0.0, "denoising": config.corruption}
    members = {}
    for start, corruption in corruptions.items():
        stages = [fine_tuning(config, classifier, train, evaluate)]
        if corruption is not None:
            layers = range(1, len(config.hidden) + 1)
            stages[:0] = [pretraining(config, train, test, i, corruption) for i in layers]
        members[f"start={start}"] = Experiment(
            config,
            stages,
            figures=functools.partial(draw, train["image"].shape[1:]),
            predict=functools.partial(predict, classifier, test),
            model=classifier,
        )
    return Study(config, members, study_figures, CLAIMS)


def classify(classifier: Perceptron, params: Any, images: Any) -> Any:
    """Logits [N, 10]. With a softmax in one program, XLA of jax 0.10 takes 20 times as long."""
    return classifier.apply({"params": params}, _autoencoder.flat(images))


def pretraining(
    config: Config, train: Examples, test: Examples, layer: int, corruption: float
) -> Stage:
    """The stage that trains a layer, counted from 1, as an autoencoder of what is below it."""
    inputs = (math.prod(train["image"].shape[1:]), *config.hidden)[layer - 1]
    below = config.hidden[: layer - 1]
    return _autoencoder.stage(
        f"layer{layer}",
        _autoencoder.one_sigmoid_layer(inputs, config.hidden[layer - 1]),
        lambda steps: optax.adam(config.pretraining_rate),
        train,
        test,
        batch_size=config.batch_size,
        epochs=config.pretraining_epochs,
        seed=config.seed,
        corrupt=functools.partial(ops.masking_noise, fraction=corruption),
        below=Perceptron(below, nn.sigmoid, nn.sigmoid) if below else None,
    )


def fine_tuning(
    config: Config,
    classifier: Perceptron,
    train: Examples,
    evaluate: Callable[[State], dict[str, float]],
) -> Stage:
    """The stage that trains the whole classifier, from the layers that are trained before it."""
    per_call = _autoencoder.STEPS_PER_CALL
    steps = steps_of_epochs(config.epochs, train.size, config.batch_size, steps_per_call=per_call)
    optimizer = optax.adam(optax.linear_schedule(config.learning_rate, 0.0, steps))
    inputs = math.prod(train["image"].shape[1:])
    return Stage(
        name="classifier",
        steps=steps,
        init=functools.partial(init, classifier, optimizer, inputs),
        update=make_step(functools.partial(loss, classifier), optimizer),
        batches=shuffled_batches(train, config.batch_size, seed=config.seed),
        evaluate=evaluate,
        evaluate_every=per_call * max(1, round(steps // per_call / max(config.epochs, 1))),
        steps_per_call=per_call,
    )


def init(
    classifier: Perceptron,
    optimizer: optax.GradientTransformation,
    inputs: int,
    key: jax.Array,
    previous: State | None,
) -> State:
    """The classifier's state before its first step, with the layers that are trained before it."""
    params_key, state_key = jax.random.split(key)
    params = classifier.init(params_key, jnp.zeros((1, inputs)))["params"]
    params = {**params, **_autoencoder.encoder_of(previous)}
    return State.create(state_key, params, optimizer.init(params))


def loss(
    classifier: Perceptron, params: Any, model_state: Any, batch: Any, keys: jax.Array
) -> tuple[dict[str, Mean], Any]:
    """The cross-entropy of the labels."""
    logits = classify(classifier, params, batch["image"])
    values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return {"cross_entropy": Mean.of(values)}, model_state


def errors(
    classifier: Perceptron, state: State, batch: Any, valid: Any, keys: jax.Array
) -> dict[str, Mean]:
    """The images that are misclassified, in percent."""
    found = jnp.argmax(classify(classifier, state.params, batch["image"]), axis=-1)
    return {"error": Mean.of(100.0 * (found != batch["label"]), valid)}


def draw(shape: tuple[int, ...], run: Run) -> dict[str, Figure]:
    """The errors of a run, and the first layer's filters [H, W, C] at the ends of its stages."""
    filters = {
        stage: first_filters(params, shape)
        for stage, state in run.states.items()
        if (params := first_layer(stage, state)) is not None
    }
    return {"errors": error_curves({"": run}), "filters": figures.side_by_side(filters, gap=1)}


def predict(
    classifier: Perceptron, test: Examples, key: jax.Array, state: State | None, image: Any
) -> tuple[dict, Figure]:
    """The digits of a user's image, or of ten random test images, with their probabilities."""
    assert state is not None
    x = _autoencoder.image_or_some(key, image, test)
    found = np.asarray(nn.softmax(classify(classifier, state.params, x)), np.float64)
    digits = [int(p.argmax()) for p in found]
    texts = [f"{digit}: {100 * p.max():.0f} %" for digit, p in zip(digits, found, strict=True)]
    record = {"digits": digits, "probabilities": found.round(6).tolist()}
    return record, figures.image_grid(x[None], column_labels=texts, gap=1)


def study_figures(runs: Mapping[str, Run]) -> dict[str, Figure]:
    """The errors of all starts while the classifier is trained."""
    return {"errors": error_curves(runs)}


def error_curves(runs: Mapping[str, Run]) -> Figure:
    """The classifier's error of test images over its training, a line a run."""
    lines = {name: run.curve("test_error", stage="classifier") for name, run in runs.items()}
    least = min(values.min() for _, values in lines.values())
    return figures.curves(
        lines,
        x_label="steps of training the whole network",
        y_label="test images misclassified (%)",
        y_limits=(0, max(4 * least, 1)),
    )


def first_layer(stage: str, state: State) -> Any:
    """The first layer's kernel [D, units] where the stage has trained it, else None."""
    if stage == "classifier":
        return state.params["layer1"]["kernel"]
    return state.params["encoder"]["layer1"]["kernel"] if stage == "layer1" else None


def first_filters(kernel: Any, shape: tuple[int, ...], count: int = 100) -> np.ndarray:
    """The first units' weights as images [rows, columns, H, W, C] for `image_grid`."""
    columns = int(np.sqrt(min(count, kernel.shape[1])))
    filters = np.asarray(kernel).T[: columns * columns].reshape(columns, columns, *shape)
    return figures.signed_images(filters)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
