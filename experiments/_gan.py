"""What adversarial games share: players, losses, the stage of the game, its curves and its figures.

What may be added: other players, as functions of images, and what keeps their game stable.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments._checks import BELOW_1, COUNT, NOT_NEGATIVE, SEED, check
from jaxstruct import figures, losses
from jaxstruct.data import Examples
from jaxstruct.metrics import Mean
from jaxstruct.models import gan_noise
from jaxstruct.training import (
    Claim,
    Reference,
    Run,
    Stage,
    State,
    batches_in_order,
    make_evaluation,
    make_game_step,
    make_prediction,
    shuffled_batches,
    shuffled_reads,
)

Update = Callable[[State, Any], tuple[State, Any]]
Optimizers = Mapping[str, optax.GradientTransformation]  # by player
EQUILIBRIUM = Reference(
    "value", "near", value=-math.log(4), source="Goodfellow et al. 2014, theorem 1"
)
"""The value function where G generates the data."""


def equilibrium(why: str = "") -> Claim:
    """The claim that a game comes to it, and why ours does not."""
    return Claim("the game ends at V = −log 4 (nats)", values=[EQUILIBRIUM], why=why)


JUDGED = 5000  # at most so many images of a set are in the value function
TOGETHER = 100  # images that are generated in one call


@dataclass(frozen=True)
class Config:
    """What every game can be configured with."""

    loss: Literal["non_saturating", "minimax"] = "non_saturating"  # of the generator
    discriminator_steps: int = 1  # k: steps of the discriminator for each one of the generator
    batch_size: int = 100  # real images a step of the discriminator, and as many generated ones
    epochs: float = 60  # passes of the discriminator through the training images
    evaluations: int = 50  # how often the value function is measured during training
    r1: float = 0.0  # weight of D's squared gradient at real images, pixels in [0, 1]; 0: none
    average: float = 0.0  # decay of the mean of G's parameters that is judged and drawn; 0: none
    seed: int = 0  # of initialization, order, noise and dropout

    def __post_init__(self) -> None:
        check(
            self,
            discriminator_steps=COUNT,
            batch_size=COUNT,
            epochs=NOT_NEGATIVE,
            evaluations=COUNT,
            r1=NOT_NEGATIVE,
            average=BELOW_1,
            seed=SEED,
        )


def key_of(config: Config, purpose: int) -> jax.Array:
    """The key of something that is drawn of a finished run: none of training's, nor of a sample."""
    return jax.random.fold_in(jax.random.key(config.seed), 2**16 + purpose)


class Players(NamedTuple):
    """Generator and discriminator as functions of parameters and a model state that is passed on.

    Images are [b, H, W, C] in [0, 1], real or generated.

    - `init(key) -> ({player: params}, model_state)`.
    - `draw(key) -> z`: the noise of one image.
    - `generate(params, model_state, z [b, ...], train) -> (images, model_state)`.
    - `judge(params, model_state, images, keys) -> (logits [b], model_state)`: with keys [b], one
      per image, it trains, and draws from them; without, they are None.
    - `modules`: (player, module) pairs; the parameters are theirs.
    """

    init: Callable[[jax.Array], tuple[dict[str, Any], Any]]
    draw: Callable[[jax.Array], jax.Array]
    generate: Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, Any]]
    judge: Callable[[Any, Any, jax.Array, jax.Array | None], tuple[jax.Array, Any]]
    modules: tuple[tuple[str, nn.Module], ...] = ()


class Reader(Protocol):
    """Images of a set that no memory holds, uint8 [M, H, W, C] by "image"; called in threads."""

    @property
    def size(self) -> int: ...

    def __call__(self, indices: np.ndarray) -> dict[str, Any]: ...


def perceptrons(
    generator: nn.Module, discriminator: nn.Module, latent: int, shape: tuple[int, ...]
) -> Players:
    """Multilayer perceptrons for images of a shape (H, W, C), with a dropout mask an image."""

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key)
        params = {
            "discriminator": discriminator.init(keys[0], jnp.zeros((1, math.prod(shape))))[
                "params"
            ],
            "generator": generator.init(keys[1], jnp.zeros((1, latent)))["params"],
        }
        return params, {}

    def generate(params: Any, model_state: Any, z: jax.Array, train: bool) -> Any:
        x: Any = generator.apply({"params": params}, z)
        return x.reshape(*z.shape[:-1], *shape), model_state

    def judge(params: Any, model_state: Any, images: jax.Array, keys: Any) -> Any:
        x = images.reshape(len(images), -1)
        if keys is None:
            return discriminator.apply({"params": params}, x), model_state

        def one(x: jax.Array, key: jax.Array) -> Any:
            return discriminator.apply({"params": params}, x, train=True, rngs={"dropout": key})

        return jax.vmap(one)(x, keys), model_state

    modules = ("discriminator", discriminator), ("generator", generator)
    return Players(init, partial(gan_noise, latent=latent), generate, judge, modules)


def moves(players: Players, loss: str, r1: float = 0.0) -> dict[str, Any]:
    """The loss of each player: the discriminator's first, as they move in algorithm 1.

    The discriminator's batch has 2 b images: the b real ones of the batch and b generated ones. It
    minimises the mean of their cross-entropies, minus half of the value function; the generator,
    of b other ones, the mean of `loss`. With r1, the discriminator pays half of
    r1 / 2 E |grad D(x)|^2 at real images, of its logits (Mescheder et al. 2018, equation 9).
    """
    of_generators = {
        "minimax": losses.minimax_loss,
        "non_saturating": losses.non_saturating_loss,
    }
    of_generator = of_generators[loss]

    def made(params: Any, model_state: Any, keys: jax.Array) -> Any:
        return players.generate(
            params["generator"], model_state, jax.vmap(players.draw)(keys), True
        )

    def discriminator(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
        noise, of_real, of_generated = _split(keys, 3)
        generated, model_state = made(params, model_state, noise)
        judge = partial(players.judge, params["discriminator"])

        def judge_real(images: jax.Array) -> Any:
            logits, after = judge(model_state, images, of_real)
            return logits.sum(), (logits, after)

        terms = {}
        if r1:
            slopes, (real, after) = jax.grad(judge_real, has_aux=True)(batch["image"])
            terms["r1"] = Mean.of(r1 / 4 * jnp.sum(slopes**2, axis=(1, 2, 3)))
        else:
            _, (real, after) = judge_real(batch["image"])
        fake, after = judge(after, generated, of_generated)
        values = jnp.concatenate([losses.log_real(real), losses.log_generated(fake)])
        return {"discriminator": Mean.of(-values), **terms}, after

    def generator(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
        noise, of_generated = _split(keys, 2)
        generated, model_state = made(params, model_state, noise)
        fake, model_state = players.judge(
            params["discriminator"], model_state, generated, of_generated
        )
        return {"generator": Mean.of(of_generator(fake))}, model_state

    return {"discriminator": discriminator, "generator": generator}


def value(
    players: Players, *, played: bool = False
) -> Callable[[State, Any, Any, jax.Array], dict[str, Mean]]:
    """The value function, D(x) and D(G(z)) for `make_evaluation`: one z for each image.

    Of the players at rest: without dropout, and with batch norm's running statistics, which real
    and generated images share. `played`: of the players as in training, where each batch has its
    own statistics and D, with batch norm, is surer.
    """

    def count(state: State, batch: Any, valid: Any, keys: jax.Array) -> dict[str, Mean]:
        noise, of_real, of_generated = _split(keys, 3) if played else (keys, None, None)
        model = (state.params["generator"], state.model_state) if played else generator(state)
        generated, _ = players.generate(*model, jax.vmap(players.draw)(noise), played)
        judge = partial(players.judge, state.params["discriminator"], state.model_state)
        (real, _), (fake, _) = judge(batch["image"], of_real), judge(generated, of_generated)
        found = {
            "value": losses.log_real(real) + losses.log_generated(fake),
            "d_real": nn.sigmoid(real),
            "d_generated": nn.sigmoid(fake),
        }
        return {name: Mean.of(values, valid) for name, values in found.items()}

    return count


def as_played(
    players: Players, images: Examples, batch_size: int
) -> Callable[[State], dict[str, float]]:
    """An `evaluate` of `value` as played, in whole batches of the game's size."""
    batch_size = min(batch_size, images.size)
    whole = images.only("image").take(slice(min(JUDGED, images.size) // batch_size * batch_size))
    evaluate = make_evaluation(value(players, played=True), batches_in_order(whole, batch_size))
    return lambda state: {f"played_{name}": found for name, found in evaluate(state).items()}


def begin(key: jax.Array, params: Any, model_state: Any, optimizers: Optimizers) -> State:
    """The state in which a game begins."""
    opt_state = {player: optimizers[player].init(params[player]) for player in optimizers}
    return State.create(key, params, opt_state, model_state)


def keep_average(update: Update, decay: float) -> Update:
    """The update that also keeps the mean of the generator, in model_state["average"].

    Of parameters and of batch norm's statistics, which an optimiser's `average_parameters` would
    not see.
    """

    def kept(state: State, batch: Any) -> Any:
        after, terms = update(state, batch)
        mean = optax.incremental_update(
            _own(after.params, after.model_state), state.model_state["average"], 1 - decay
        )
        return after.replace(model_state={**after.model_state, "average": mean}), terms

    return kept


def generator(state: State) -> tuple[Any, Any]:
    """The generator's parameters and model state: their mean, where it is kept."""
    kept = state.model_state.get("average") or _own(state.params, state.model_state)
    return kept["params"], kept["model_state"]


def _own(params: Any, model_state: Any) -> dict[str, Any]:
    return {
        "params": params["generator"],
        "model_state": {k: v for k, v in model_state.items() if k != "average"},
    }


def stage(
    config: Config,
    players: Players,
    optimizers: Optimizers,
    train: Examples,
    test: Examples,
    *,
    steps_per_call: int = 1,
    reader: Reader | None = None,
    start: Callable[[State], State] | None = None,
) -> Stage:
    """The game on training images, with the value function on these and on test images.

    A `reader` gives images in place of `train`, which are the first of them; `start` is the
    stage's.
    """
    train, test = train.only("image"), test.only("image")
    batch = config.batch_size * config.discriminator_steps
    size = reader.size if reader else train.size
    calls = max(1, round(config.epochs * size / batch / steps_per_call))
    evaluate_every = steps_per_call * max(1, round(calls / config.evaluations))
    judged = slice(JUDGED)
    of_train = make_evaluation(value(players), batches_in_order(train.take(judged), 1000))
    of_test = make_evaluation(value(players), batches_in_order(test.take(judged), 1000))

    def init(key: jax.Array, previous: State | None) -> State:
        init_key, state_key = jax.random.split(key)
        params, model_state = players.init(init_key)
        if config.average:  # a copy: the same buffer could not be donated twice
            mean = jax.tree.map(jnp.copy, _own(params, model_state))
            model_state = {**model_state, "average": mean}
        return begin(state_key, params, model_state, optimizers)

    of_players = moves(players, config.loss, config.r1)
    update = make_game_step(of_players, optimizers, config.discriminator_steps)

    def evaluate(state: State) -> dict[str, float]:
        seen = of_train(state)
        return of_test(state) | {f"train_{name}": seen[name] for name in ("value", "d_real")}

    return Stage(
        name="game",
        start=start,
        steps=calls * steps_per_call,
        init=init,
        update=keep_average(update, config.average) if config.average else update,
        batches=shuffled_reads(reader, size, batch, like=train, seed=config.seed)
        if reader
        else shuffled_batches(train, batch, seed=config.seed),
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

    seen, _ = line("value")
    level = seen[[0, -1]]
    of_value = {
        "test images": line("value"),
        "training images": line("train_value"),
        "training batches, as played": line("discriminator", "train", -2.0),
        "-log 4": (level, np.full(2, EQUILIBRIUM.value)),
    }
    of_judge = {
        "D(x), test images": line("d_real"),
        "D(x), training images": line("train_d_real"),
        "D(G(z))": line("d_generated"),
        "1/2": (level, np.full(2, 0.5)),
    }
    x_label = "real images seen by the discriminator"
    dashed = {"training images": "test images", "D(x), training images": "D(x), test images"}
    return {
        "value_function": figures.curves(
            of_value,
            x_label=x_label,
            y_label="V(D, G) (nats)",
            dashed={k: v for k, v in dashed.items() if k in of_value},
        ),
        "judgements": figures.curves(
            of_judge,
            x_label=x_label,
            y_label="probability of being real",
            dashed={k: v for k, v in dashed.items() if k in of_judge},
            y_limits=(0, 1),
        ),
    }


def noise(players: Players, key: jax.Array, *shape: int) -> jax.Array:
    """So many z's, [*shape, latent]."""
    drawn = jax.vmap(players.draw)(jax.random.split(key, math.prod(shape)))
    return drawn.reshape(*shape, *drawn.shape[1:])


def generated(players: Players, state: State, z: jax.Array) -> np.ndarray:
    """The images [..., H, W, C] that the generator makes of z [..., latent]."""
    flat = np.asarray(z).reshape(-1, z.shape[-1])
    batches = batches_in_order({"z": flat}, TOGETHER, one_shape=True)
    images = _generation(players)(generator(state), batches)["image"]
    return images.reshape(*z.shape[:-1], *images.shape[1:])


@functools.lru_cache(maxsize=8)
def _generation(players: Players) -> Callable[..., dict[str, np.ndarray]]:
    def predict(model: Any, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        params, model_state = model
        return {"image": players.generate(params, model_state, batch["z"], False)[0]}

    return make_prediction(predict)


def beside_nearest(samples: np.ndarray, train: np.ndarray) -> Figure:
    """Samples [R, C, H, W, 1 or 3] beside the training images nearest to them, as in figure 2."""
    flat = samples.reshape(-1, *samples.shape[2:])
    neighbours = train[nearest(flat, train)].reshape(samples.shape)
    nearest_of = f"nearest of {len(train):,} training images"
    return figures.side_by_side({"samples": samples, nearest_of: neighbours})


def judged(
    players: Players, state: State, key: jax.Array, x: np.ndarray
) -> tuple[dict[str, Any], Figure]:
    """What both players say of an image [H, W, C] in [0, 1]: D(x), and the sample nearest to it."""
    logits, _ = players.judge(
        state.params["discriminator"], state.model_state, jnp.asarray(x[None]), None
    )
    samples = generated(players, state, noise(players, key, 1000))
    at = int(nearest(x[None], samples)[0])
    record = {
        "real": float(jax.nn.sigmoid(logits[0])),
        "nearest_sample": at,
        "distance": float(np.linalg.norm(x - samples[at])),
    }
    panels = {"image": x[None, None], "nearest of 1,000 samples": samples[at][None, None]}
    return record, figures.side_by_side(panels)


def interpolations(players: Players, state: State, key: jax.Array, rows: int = 8) -> Figure:
    """What is generated along straight lines between two z's, as in figure 3."""
    ends = noise(players, key, 2, rows)
    z = jnp.linspace(ends[0], ends[1], 15, axis=1)
    return figures.image_grid(generated(players, state, z), title="straight lines between two z")


def nearest(images: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Which of the examples [N, ...] is nearest to each image [M, ...]: int [M], by squares.

    Both floating in [0, 1], or uint8.
    """
    x = _flat(images)
    smallest, found = np.full(len(x), np.inf, np.float32), np.zeros(len(x), int)
    for first in range(0, len(examples), 5000):
        y = _flat(examples[first : first + 5000])
        squares = np.sum(y**2, 1)[None] - 2 * x @ y.T  # and |x|^2, the same for all
        at = np.argmin(squares, 1)
        least = squares[np.arange(len(x)), at]
        nearer = least < smallest
        smallest[nearer], found[nearer] = least[nearer], first + at[nearer]
    return found


def _flat(images: np.ndarray) -> np.ndarray:
    x = images.reshape(len(images), -1)
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x


def _split(keys: jax.Array, parts: int) -> jax.Array:
    """Keys [parts, b] from keys [b], one an example."""
    return jax.vmap(lambda key: jax.random.split(key, parts), out_axes=1)(keys)
