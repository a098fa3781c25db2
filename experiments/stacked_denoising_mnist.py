"""Stacked denoising autoencoders on MNIST: does layer-wise pretraining help (Vincent et al. 2010)?

The same classifier from random weights, from autoencoders and from denoising autoencoders.

python -m experiments.stacked_denoising_mnist --seeds 3
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments import _autoencoder
from experiments._checks import at_least
from jaxstruct import data, figures, ops
from jaxstruct.metrics import Mean
from jaxstruct.models import Autoencoder, Perceptron
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
)

Start = Literal["random", "autoencoder", "denoising"]
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
    learning_rate: float = 1e-3  # of Adam at first; it falls to 0
    seed: int = 0  # of initialization, order and noise


SMOKE = Config(hidden=(30, 20), batch_size=20, pretraining_epochs=1, epochs=2)


def experiment(config: Config) -> Study:
    at_least(config, hidden=1, batch_size=1, pretraining_epochs=0, epochs=0)
    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    held_out = min(VALIDATION, train.size // 6)
    train, valid = train.take(slice(-held_out)), train.take(slice(-held_out, None))
    shape = train["image"].shape[1:]
    widths = (int(np.prod(shape)), *config.hidden)
    start_from = _autoencoder.SIGMOID_KERNEL
    classifier = Perceptron((*config.hidden, 10), nn.sigmoid, kernel_init=start_from)

    def classify(params: Any, images: Any) -> Any:
        """Logits [N, 10]. With a softmax in one program, XLA of jax 0.10 takes 20 times as long."""
        return classifier.apply({"params": params}, _autoencoder.flat(images))

    def pretraining(layer: int, corruption: float) -> Stage:
        below = config.hidden[: layer - 1]
        return _autoencoder.stage(
            f"layer{layer}",
            _autoencoder.cross_entropy(
                Autoencoder(
                    widths[layer - 1],
                    (widths[layer],),
                    code=nn.sigmoid,
                    tied=True,
                    kernel_init=start_from,
                )
            ),
            lambda steps: optax.adam(config.pretraining_rate),
            train,
            test,
            batch_size=config.batch_size,
            epochs=config.pretraining_epochs,
            seed=config.seed,
            corrupt=functools.partial(ops.masking_noise, fraction=corruption),
            below=Perceptron(below, nn.sigmoid, nn.sigmoid) if below else None,
        )

    def errors(state: State, batch: Any, valid: Any, keys: jax.Array) -> dict[str, Mean]:
        found = jnp.argmax(classify(state.params, batch["image"]), axis=-1)
        return {"error": Mean.of(100.0 * (found != batch["label"]), valid)}

    of_valid, of_test = (
        make_evaluation(errors, batches_in_order(part, 1000)) for part in (valid, test)
    )

    def evaluate(state: State) -> dict[str, float]:
        return {
            "test_error": of_test(state)["error"],
            "validation_error": of_valid(state)["error"],
        }

    def fine_tuning() -> Stage:
        per_call = _autoencoder.STEPS_PER_CALL
        calls = max(1, round(config.epochs * train.size / config.batch_size / per_call))
        steps = calls * per_call
        optimizer = optax.adam(optax.linear_schedule(config.learning_rate, 0.0, steps))

        def init(key: jax.Array, previous: State | None) -> State:
            params_key, state_key = jax.random.split(key)
            params = classifier.init(params_key, jnp.zeros((1, widths[0])))["params"]
            params = {**params, **_autoencoder.encoder_of(previous)}
            return State.create(state_key, params, optimizer.init(params))

        def loss(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
            logits = classify(params, batch["image"])
            values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return {"cross_entropy": Mean.of(values)}, model_state

        return Stage(
            name="classifier",
            steps=steps,
            init=init,
            update=make_step(loss, optimizer),
            batches=shuffled_batches(train, config.batch_size, seed=config.seed),
            evaluate=evaluate,
            evaluate_every=per_call * max(1, round(calls / max(config.epochs, 1))),
            steps_per_call=per_call,
        )

    def draw(run: Run) -> dict[str, Figure]:
        drawn = {"errors": error_curves({"": run})}
        filters = {
            stage: first_filters(params, shape)
            for stage, state in run.states.items()
            if (params := first_layer(stage, state)) is not None
        }
        return drawn | {"filters": figures.side_by_side(filters, gap=1)}

    def predict(key: jax.Array, state: State | None, image: Any) -> tuple[dict, Figure]:
        assert state is not None
        if image is None:
            chosen = jax.random.choice(key, test.size, (min(10, test.size),), replace=False)
            x = _autoencoder.unit(test["image"][np.asarray(chosen)])
        else:
            x = data.fit_image(image, shape, dark=True)[None]
        found = np.asarray(nn.softmax(classify(state.params, x)), np.float64)
        digits = [int(p.argmax()) for p in found]
        texts = [f"{digit}: {100 * p.max():.0f} %" for digit, p in zip(digits, found, strict=True)]
        record = {"digits": digits, "probabilities": found.round(6).tolist()}
        return record, figures.image_grid(x[None], column_labels=texts, gap=1)

    def member(start: Start) -> Experiment:
        stages = [fine_tuning()]
        if start != "random":
            corruption = config.corruption if start == "denoising" else 0.0
            stages[:0] = [pretraining(i, corruption) for i in range(1, len(widths))]
        return Experiment(
            config,
            stages,
            figures=draw,
            predict=predict,
            model=classifier,
        )

    starts: tuple[Start, ...] = ("random", "autoencoder", "denoising")
    members = {f"start={start}": member(start) for start in starts}
    return Study(config, members, study_figures, CLAIMS)


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
