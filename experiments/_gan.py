"""What adversarial games share: losses, the stage of the game, its curves and its figures.

What may be added: a regularizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments._checks import BELOW_1, COUNT, NOT_NEGATIVE, SEED, check_choices
from jaxstruct import figures, losses
from jaxstruct.data import Examples
from jaxstruct.metrics import Mean, nearest_examples
from jaxstruct.models import Players
from jaxstruct.training import (
    Claim,
    Reference,
    Run,
    Stage,
    State,
    average_of,
    batches_in_order,
    begin_game,
    keep_average,
    make_evaluation,
    make_game_step,
    make_prediction,
    shuffled_batches,
    shuffled_reads,
    split_keys,
    steps_of_epochs,
    with_average,
)

EQUILIBRIUM = Reference(
    "value", "near", value=-math.log(4), source="Goodfellow et al. 2014, theorem 1"
)
"""The value function where G generates the data."""

JUDGED = 5000  # at most this many images of a set enter the value function
TOGETHER = 100  # images that are generated in one call
GENERATOR_LOSSES = {"minimax": losses.minimax_loss, "non_saturating": losses.non_saturating_loss}


def equilibrium(why: str = "") -> Claim:
    """The claim that a game ends at its equilibrium, and why it does not."""
    return Claim("the game ends at V = −log 4 (nats)", values=[EQUILIBRIUM], why=why)


@dataclass(frozen=True)
class Config:
    """What every game can be configured with."""

    loss: Literal["non_saturating", "minimax"] = "non_saturating"  # what the generator G minimises
    discriminator_steps: int = 1  # k: steps of the discriminator D for each step of G
    batch_size: int = 100  # real images in a step of D, and as many generated images
    epochs: float = 60  # passes of D through the training images
    evaluations: int = 50  # how often the value function is measured during training
    r1: float = 0.0  # weight of the R1 penalty on D's gradient at real images; 0: no penalty
    average: float = 0.0  # decay of the average of G's parameters, which makes samples; 0: none
    seed: int = 0  # of initialization, order, noise and dropout

    def __post_init__(self) -> None:
        check_choices(self)
        COUNT.check(self, "discriminator_steps", "batch_size", "evaluations")
        NOT_NEGATIVE.check(self, "epochs", "r1")
        BELOW_1.check(self, "average")
        SEED.check(self, "seed")


def key_of(config: Config, purpose: int) -> jax.Array:
    """The random key of a purpose after training; training and `predict` use other keys."""
    return jax.random.fold_in(jax.random.key(config.seed), 2**16 + purpose)


def moves(players: Players, loss: str, r1: float = 0.0) -> dict[str, Any]:
    """The losses of both players in the order of algorithm 1; `loss` names the generator's."""
    return {
        "discriminator": partial(discriminator_loss, players, r1),
        "generator": partial(generator_loss, players, GENERATOR_LOSSES[loss]),
    }


def discriminator_loss(
    players: Players, r1: float, params: Any, model_state: Any, batch: Any, keys: jax.Array
) -> tuple[dict[str, Mean], Any]:
    """The mean cross-entropy of b real and b generated images: half of -V.

    The R1 penalty (Mescheder et al. 2018, equation 9, gamma = r1) is halved as well.
    """
    noise, of_real, of_generated = split_keys(keys, 3)
    generated, model_state = players.sample(params["generator"], model_state, noise, True)
    judge = partial(players.judge, params["discriminator"])
    judge_real = lambda images: judge(model_state, images, of_real)
    terms = {}
    if r1:
        penalty, (real, after) = losses.r1_penalty(judge_real, batch["image"])
        terms["r1"] = Mean.of(r1 / 2 * penalty)
    else:
        real, after = judge_real(batch["image"])
    fake, after = judge(after, generated, of_generated)
    values = jnp.concatenate([losses.log_real(real), losses.log_generated(fake)])
    return {"discriminator": Mean.of(-values), **terms}, after


def generator_loss(
    players: Players, loss: Any, params: Any, model_state: Any, batch: Any, keys: jax.Array
) -> tuple[dict[str, Mean], Any]:
    """The mean of a loss of the discriminator's logits of b generated images."""
    noise, of_generated = split_keys(keys, 2)
    generated, model_state = players.sample(params["generator"], model_state, noise, True)
    fake, model_state = players.judge(params["discriminator"], model_state, generated, of_generated)
    return {"generator": Mean.of(loss(fake))}, model_state


def value(
    players: Players, played: bool, state: State, batch: Any, valid: Any, keys: jax.Array
) -> dict[str, Mean]:
    """The value function, D(x) and D(G(z)), one z for each image: what `make_evaluation` counts.

    Unless `played`, both networks are in evaluation mode: no dropout, batch norm's running
    statistics, the generator's averaged parameters. With `played` they are in training mode: each
    batch has its own statistics, with which a discriminator with batch norm is more confident.
    """
    noise, of_real, of_generated = split_keys(keys, 3) if played else (keys, None, None)
    model = (state.params["generator"], state.model_state) if played else generator(state)
    generated, _ = players.sample(*model, noise, played)
    judge = partial(players.judge, state.params["discriminator"], state.model_state)
    (real, _), (fake, _) = judge(batch["image"], of_real), judge(generated, of_generated)
    found = {
        "value": losses.log_real(real) + losses.log_generated(fake),
        "d_real": nn.sigmoid(real),
        "d_generated": nn.sigmoid(fake),
    }
    return {name: Mean.of(values, valid) for name, values in found.items()}


def as_played(
    players: Players, images: Examples, batch_size: int
) -> Callable[[State], dict[str, float]]:
    """An `evaluate` of `value` as played, in whole batches of the game's size."""
    batch_size = min(batch_size, images.size)
    whole = images.only("image").take(slice(min(JUDGED, images.size) // batch_size * batch_size))
    evaluate = make_evaluation(partial(value, players, True), batches_in_order(whole, batch_size))
    return lambda state: {f"played_{name}": found for name, found in evaluate(state).items()}


def of_generator(state: State) -> dict[str, Any]:
    """The part of the state whose mean is kept: parameters, and the statistics of batch norm."""
    return {"params": state.params["generator"], "model_state": state.model_state}


def generator(state: State) -> tuple[Any, Any]:
    """The generator's parameters and model state: their mean, where it is kept."""
    kept = average_of(state, of_generator)
    return kept["params"], kept["model_state"]


def stage(
    config: Config,
    players: Players,
    optimizers: Mapping[str, optax.GradientTransformation],
    train: Examples,
    test: Examples,
    *,
    steps_per_call: int = 1,
    reader: Any = None,
    start: Callable[[State], State] | None = None,
) -> Stage:
    """The game on training images, with the value function on these and on test images.

    For a set larger than memory, `reader` is what `shuffled_reads` takes, of `reader.size` images;
    `train` then holds the first of them. `start` is that of `Stage`.
    """
    train, test = train.only("image"), test.only("image")
    batch_size = config.batch_size * config.discriminator_steps
    size = reader.size if reader else train.size
    steps = steps_of_epochs(config.epochs, size, batch_size, steps_per_call=steps_per_call)
    evaluate_every = steps_per_call * max(1, round(steps // steps_per_call / config.evaluations))
    update = make_game_step(
        moves(players, config.loss, config.r1), optimizers, config.discriminator_steps
    )
    if config.average:
        update = keep_average(update, of_generator, config.average)
    count, some = partial(value, players, False), slice(JUDGED)
    of_train = make_evaluation(count, batches_in_order(train.take(some), 1000))
    of_test = make_evaluation(count, batches_in_order(test.take(some), 1000))

    def init(key: jax.Array, previous: State | None) -> State:
        init_key, state_key = jax.random.split(key)
        state = begin_game(state_key, *players.init(init_key), optimizers)
        return with_average(state, of_generator) if config.average else state

    def evaluate(state: State) -> dict[str, float]:
        seen = of_train(state)
        return of_test(state) | {f"train_{name}": seen[name] for name in ("value", "d_real")}

    return Stage(
        name="game",
        start=start,
        steps=steps,
        init=init,
        update=update,
        batches=shuffled_reads(reader, size, batch_size, like=train, seed=config.seed)
        if reader
        else shuffled_batches(train, batch_size, seed=config.seed),
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        save_every=evaluate_every * max(1, config.evaluations // 10),
        steps_per_call=steps_per_call,
    )


def curves(run: Run, batch_size: int) -> dict[str, Figure]:
    """The value function, and D(x) and D(G(z)), over the steps of the discriminator's training."""

    def line(name: str, of: str = "evaluation", scale: float = 1.0) -> Any:
        steps, values = run.curve(name, of=of)
        return steps * batch_size, scale * values

    ends = line("value")[0][[0, -1]]
    values = {
        "test images": line("value"),
        "training images": line("train_value"),
        "training batches, as played": line("discriminator", "train", -2.0),
        "-log 4": (ends, np.full(2, EQUILIBRIUM.value)),
    }
    judgements = {
        "D(x), test images": line("d_real"),
        "D(x), training images": line("train_d_real"),
        "D(G(z))": line("d_generated"),
        "1/2": (ends, np.full(2, 0.5)),
    }
    draw = partial(figures.curves, x_label="real images seen by the discriminator")
    dashed = [{"training images": "test images"}, {"D(x), training images": "D(x), test images"}]
    y_label = "probability of being real"
    return {
        "value_function": draw(values, y_label="V(D, G) (nats)", dashed=dashed[0]),
        "judgements": draw(judgements, y_label=y_label, dashed=dashed[1], y_limits=(0, 1)),
    }


def generated(players: Players, state: State, z: jax.Array) -> np.ndarray:
    """The images [..., H, W, C] that the generator makes of z [..., latent]."""
    flat = np.asarray(z).reshape(-1, z.shape[-1])
    batches = batches_in_order({"z": flat}, TOGETHER, one_shape=True)
    images = _generation(players)(generator(state), batches)["image"]
    return images.reshape(*z.shape[:-1], *images.shape[1:])


@lru_cache(maxsize=8)
def _generation(players: Players) -> Callable[..., dict[str, np.ndarray]]:
    def predict(model: Any, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        params, model_state = model
        return {"image": players.generate(params, model_state, batch["z"], False)[0]}

    return make_prediction(predict)


def beside_nearest(samples: np.ndarray, train: np.ndarray) -> Figure:
    """Samples [R, C, H, W, 1 or 3] beside the training images nearest to them, as in figure 2."""
    flat = samples.reshape(-1, *samples.shape[2:])
    neighbours = train[nearest_examples(flat, train)].reshape(samples.shape)
    nearest_of = f"nearest of {len(train):,} training images"
    return figures.side_by_side({"samples": samples, nearest_of: neighbours})


def predict(
    players: Players, fit: Callable[..., Any], key: jax.Array, state: State | None, image: Any
) -> tuple[dict[str, Any], Figure]:
    """100 samples, or what both players say of x, which `fit` makes of a user's image.

    D(x), and the sample nearest to x [H, W, C] in [0, 1].
    """
    assert state is not None
    if image is None:
        samples = generated(players, state, players.noise(key, 10, 10))
        return {"samples": 100}, figures.image_grid(samples)
    params, x = state.params["discriminator"], fit(image)
    logits, _ = players.judge(params, state.model_state, jnp.asarray(x[None]), None)
    samples = generated(players, state, players.noise(key, 1000))
    at = int(nearest_examples(x[None], samples)[0])
    record = {
        "real": float(nn.sigmoid(logits[0])),
        "nearest_sample": at,
        "distance": float(np.linalg.norm(x - samples[at])),
    }
    panels = {"image": x[None, None], "nearest of 1,000 samples": samples[at][None, None]}
    return record, figures.side_by_side(panels)
