"""What the experiments with autoencoders share: the stage that trains one, its error, its pictures.

What may be added: another objective, as a function of a prediction and its target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from jaxstruct import figures, losses
from jaxstruct.data import Examples, fit_image
from jaxstruct.metrics import Mean
from jaxstruct.models import Autoencoder, Perceptron
from jaxstruct.training import (
    Run,
    Stage,
    State,
    batches_in_order,
    make_evaluation,
    make_step,
    shuffled_batches,
    steps_of_epochs,
)

Corruption = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, x [D]) -> x [D] with noise."""

SIGMOID_KERNEL = nn.initializers.variance_scaling(16.0, "fan_avg", "uniform")
"""For layers of sigmoids, uniform in +- 4 sqrt(6 / (inputs + units)): Glorot & Bengio 2010."""

STEPS_PER_CALL = 20  # no convolutions: so many steps run in one call


class Coder(NamedTuple):
    """An autoencoder of vectors x [..., D] in [0, 1], and what it is trained with.

    `loss(prediction, x) -> [...]`; `output(prediction)` is the reconstruction. `mean() -> [D]`, if
    any, is measured when training starts, and kept in the state as model_state["mean"]: the mean is
    taken from the input, and added to the prediction.
    """

    model: Autoencoder
    loss: Callable[[Any, Any], Any]
    output: Callable[[Any], Any]
    mean: Callable[[], np.ndarray] | None = None

    def encode(self, params: Any, model_state: Any, x: Any) -> Any:
        """The code of x."""
        centered = x - jnp.broadcast_to(model_state["mean"], x.shape) if self.mean else x
        return self.model.apply({"params": params}, centered, method="encode")

    def predict(self, params: Any, model_state: Any, x: Any) -> Any:
        """The prediction, which `loss` and `output` take."""
        code = self.encode(params, model_state, x)
        prediction: Any = self.model.apply({"params": params}, code, method="decode")
        if self.mean is None:
            return prediction
        return prediction + jnp.broadcast_to(model_state["mean"], x.shape)

    def reconstruct(self, state: State, images: np.ndarray) -> np.ndarray:
        """The reconstructions of images [..., H, W, C] in [0, 1]."""
        x = images.reshape(-1, self.model.size)
        prediction = self.predict(state.params, state.model_state, x)
        return np.asarray(self.output(prediction)).reshape(images.shape)


def squared(model: Autoencoder, mean: Callable[[], np.ndarray] | None = None) -> Coder:
    """Linear predictions, squared error."""
    return Coder(model, losses.squared_error, jax.nn.identity, mean)


def squared_sigmoid(model: Autoencoder) -> Coder:
    """Predictions through a sigmoid, squared error."""
    return Coder(model, lambda p, x: losses.squared_error(nn.sigmoid(p), x), nn.sigmoid)


def cross_entropy(model: Autoencoder) -> Coder:
    """Logits, cross-entropy."""
    return Coder(model, lambda p, x: -losses.bernoulli_log_likelihood(p, x), nn.sigmoid)


def one_sigmoid_layer(inputs: int, units: int) -> Coder:
    """Sigmoid units, tied weights, cross-entropy, as Vincent et al. 2008 train each layer."""
    start = SIGMOID_KERNEL
    model = Autoencoder(inputs, (units,), code=nn.sigmoid, tied=True, kernel_init=start)
    return cross_entropy(model)


def stage(
    name: str,
    coder: Coder,
    schedule: Callable[[int], optax.GradientTransformation],
    train: Examples,
    test: Examples,
    *,
    batch_size: int,
    epochs: float,
    seed: int,
    evaluations: int = 10,
    corrupt: Corruption | None = None,
    below: Perceptron | None = None,
) -> Stage:
    """Trains an autoencoder to reconstruct images uint8 [N,H,W,C]; schedule(steps) optimises.

    `corrupt` adds noise to the training input, not to the target and not to the `test` images.
    `below` are the layers that the stages before have trained, one each: their output replaces the
    image, and their parameters stay as they are, in `model_state`.
    """
    steps = steps_of_epochs(epochs, train.size, batch_size, steps_per_call=STEPS_PER_CALL)
    optimizer = schedule(steps)
    return Stage(
        name=name,
        steps=steps,
        init=partial(init, coder, optimizer),
        update=make_step(partial(loss, coder, below, corrupt), optimizer),
        batches=shuffled_batches(train.only("image"), batch_size, seed=seed),
        evaluate=error_of(coder, test, below),
        start=partial(with_mean, coder.mean) if coder.mean else None,
        evaluate_every=STEPS_PER_CALL * max(1, round(steps // STEPS_PER_CALL / evaluations)),
        steps_per_call=STEPS_PER_CALL,
    )


def init(
    coder: Coder, optimizer: optax.GradientTransformation, key: jax.Array, previous: State | None
) -> State:
    """The state before the first step; its model state holds the layers trained before."""
    params_key, state_key = jax.random.split(key)
    params = coder.model.init(params_key, jnp.zeros((1, coder.model.size)))["params"]
    model_state = encoder_of(previous)
    if coder.mean:
        model_state["mean"] = jnp.zeros(coder.model.size)
    return State.create(state_key, params, optimizer.init(params), model_state)


def with_mean(mean: Callable[[], np.ndarray], state: State) -> State:
    """The state with the mean of the training images, which is measured here."""
    model_state = {**state.model_state, "mean": jnp.asarray(mean(), jnp.float32)}
    return state.replace(model_state=model_state)


def loss(
    coder: Coder,
    below: Perceptron | None,
    corrupt: Corruption | None,
    params: Any,
    model_state: Any,
    batch: Any,
    keys: jax.Array,
) -> tuple[dict[str, Mean], Any]:
    """The loss of the prediction from noisy input against clean input."""
    x = _input(below, model_state, batch["image"])
    noisy = x if corrupt is None else jax.vmap(corrupt)(keys, x)
    prediction = coder.predict(params, model_state, noisy)
    return {"reconstruction": Mean.of(coder.loss(prediction, x))}, model_state


def encoder_of(state: State | None) -> dict[str, Any]:
    """The encoders' layers {layer1: ...} that this stage and those before have trained, or none."""
    if state is None:
        return {}
    layer = f"layer{len(state.model_state) + 1}"
    return {**state.model_state, layer: state.params["encoder"]["layer1"]}


def error_of(
    coder: Coder,
    images: Examples,
    below: Perceptron | None = None,
    corrupt: Corruption | None = None,
) -> Callable[[State], dict[str, float]]:
    """An `evaluate` of the mean squared error of reconstructions, per component in [0, 1].

    The same noise corrupts an image every time.
    """
    count = partial(_error, coder, below, corrupt)
    return make_evaluation(count, batches_in_order(images.only("image"), 1000))


def _error(
    coder: Coder,
    below: Perceptron | None,
    corrupt: Corruption | None,
    state: State,
    batch: Any,
    valid: Any,
    keys: jax.Array,
) -> dict[str, Mean]:
    x = _input(below, state.model_state, batch["image"])
    noisy = x if corrupt is None else jax.vmap(corrupt)(keys, x)
    output = coder.output(coder.predict(state.params, state.model_state, noisy))
    return {"error": Mean.of(losses.squared_error(output, x) / x.shape[-1], valid)}


def predict(
    coder: Coder, test: Examples, key: jax.Array, state: State | None, image: Any
) -> tuple[dict, Figure]:
    """The reconstruction of a user's image, or of ten random test images, and its error."""
    assert state is not None
    x = image_or_some(key, image, test)
    reconstruction = coder.reconstruct(state, x)
    error = np.mean((reconstruction - x) ** 2, axis=(1, 2, 3))
    record = {"error": float(error.mean()), "units": "mean squared error per pixel in [0, 1]"}
    if image is None:
        rows = ["test image", "reconstruction"]
        return record, figures.image_grid(np.stack([x, reconstruction]), row_labels=rows, gap=1)
    code = coder.encode(state.params, state.model_state, flat(x))
    record["code"] = np.asarray(code[0]).tolist()
    return record, figures.side_by_side({"image": x[None], "reconstruction": reconstruction[None]})


def image_or_some(key: jax.Array, image: Any, test: Examples) -> np.ndarray:
    """[N,H,W,C] in [0, 1]: a user's image as MNIST has digits, or ten random test images."""
    if image is not None:
        return fit_image(image, test["image"].shape[1:], dark=True)[None]
    chosen = jax.random.choice(key, test.size, (min(10, test.size),), replace=False)
    return test["image"][np.asarray(chosen)] / np.float32(255)


def learning_curves(runs: Mapping[str, Run], metric: str = "error", **options: Any) -> Figure:
    """A metric of the test images over training, a line a run."""
    lines = {name: run.curve(metric) for name, run in runs.items()}
    y_label = "squared error per pixel of test images"
    return figures.curves(lines, **{"x_label": "steps", "y_label": y_label, **options})


def params_of(run: Run) -> Any:
    """The parameters at the end of a run of one stage."""
    assert run.state is not None
    return run.state.params


def flat(images: Any) -> Any:
    """[N, ...] as [N, D]."""
    return images.reshape(len(images), math.prod(images.shape[1:]))


def adam(rate: float) -> Callable[[int], optax.GradientTransformation]:
    """Adam whose rate falls to 0 along half a cosine."""
    return lambda steps: optax.adam(optax.cosine_decay_schedule(rate, steps))


def _input(below: Perceptron | None, layers: Any, images: Any) -> Any:
    """What an autoencoder reconstructs [N, D]: pixels, or the output of the layers below."""
    x = flat(images)
    return x if below is None else below.apply({"params": layers}, x)
