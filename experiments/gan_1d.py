"""The adversarial game in one dimension, where D* is known (Goodfellow et al. 2014, figure 1).

Police and thief: the data are the brightnesses of single pixels, a mixture of two Gaussians; the
discriminator learns to tell them from generated ones, and the generator learns from that.

python -m experiments.gan_1d
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments import _gan
from experiments._checks import COUNT, NOT_NEGATIVE, POSITIVE, SEED, check_choices
from jaxstruct import figures, losses
from jaxstruct.data import Examples, Source
from jaxstruct.models import (
    GANDiscriminator,
    GANGenerator,
    Players,
    perceptron_players,
    uniform_initializer,
)
from jaxstruct.training import (
    Claim,
    Experiment,
    Reference,
    Run,
    Stage,
    State,
    begin_game,
    main,
    make_game_step,
    shuffled_batches,
)

STEPS_PER_CALL = 10  # no convolutions: so many steps run in one call
EDGES = np.linspace(0, 1, 201)  # of the cells in which densities are compared
MIXTURE = ((0.4, NormalDist(0.3, 0.07)), (0.6, NormalDist(0.68, 0.09)))  # shares and components
DRAWN = 100_000  # data
WIDTH = 8.0  # of what D sees of (0, 1): as wide as its layers' first bends lie apart


@dataclass(frozen=True)
class Config:
    """The defaults: three minutes on two cores."""

    loss: Literal["non_saturating", "minimax"] = "non_saturating"  # what the generator G minimises
    discriminator_steps: int = 5  # k: steps of the discriminator D for each step of G
    hidden: int = 64  # units of the hidden layers
    pieces: int = 5  # linear functions of which a unit of D is the maximum
    batch_size: int = 200  # data in a step of D, and as many generated values
    learning_rate: float = 1e-3  # of Adam at the beginning of a stage; the rate falls to 0
    early_steps: int = 40  # steps of the game until panel a, rounded to tens
    police_steps: int = 4000  # steps of D alone until panel b, rounded to tens
    thief_steps: int = 10  # steps of G alone until panel c, rounded to tens
    steps: int = 3000  # steps of the game until panel d, rounded to tens
    seed: int = 0  # of initialization, order and noise

    def __post_init__(self) -> None:
        check_choices(self)
        COUNT.check(self, "discriminator_steps", "hidden", "pieces", "batch_size")
        POSITIVE.check(self, "learning_rate")
        NOT_NEGATIVE.check(self, "early_steps", "police_steps", "thief_steps", "steps")
        SEED.check(self, "seed")


SMOKE = Config(hidden=8, batch_size=50, early_steps=40, police_steps=100, thief_steps=10, steps=200)

FIGURE = "Goodfellow et al. 2014, figure 1"


def lowest(metric: str, *stages: str) -> list[Reference]:
    return [Reference(metric, "lower", stage=stage) for stage in stages]


CLAIMS = [
    _gan.equilibrium(),
    Claim(
        "D moving alone comes closer to D*",
        orders=[lowest("distance_to_optimum", "police", "early")],
        source=FIGURE,
    ),
    Claim(
        "after the game G's density is closer to the data's",
        orders=[lowest("divergence", "game", "early")],
        source=FIGURE,
    ),
]
TITLES = {
    "early": "(a) early in the game",
    "police": "(b) D moves, not G",
    "thief": "(c) G moves, not D",
    "game": "(d) after the game",
}
"""Of the stages, in their order: the panels of figure 1."""


class Cells(NamedTuple):
    """The game at one moment, in cells of (0, 1).

    `data` and `generated` [N] are the shares of each cell, `logits` [N] those of D in its middle.
    """

    data: np.ndarray
    generated: np.ndarray
    logits: np.ndarray

    @property
    def judged(self) -> np.ndarray:
        """D, in each cell."""
        return np.asarray(jax.nn.sigmoid(self.logits))

    @property
    def optimal(self) -> np.ndarray:
        """D* against this generator, in each cell."""
        return np.asarray(losses.optimal_discriminator(self.data, self.generated))

    def metrics(self) -> dict[str, float]:
        """How far G is from the data and D from D*, and the value function, in nats.

        `divergence` is Jensen and Shannon's; `below_optimum` is V(D*, G) - V(D, G), zero or above;
        `distance_to_optimum` the mean of |D - D*| over data and generated.
        """
        p, q = self.data, self.generated
        middle = (p + q) / 2
        divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
        value = p @ np.asarray(losses.log_real(self.logits))
        value += q @ np.asarray(losses.log_generated(self.logits))
        return {
            "divergence": divergence,
            "value": value,
            "below_optimum": 2 * divergence - np.log(4) - value,
            "distance_to_optimum": middle @ np.abs(self.judged - self.optimal),
        }


def experiment(config: Config) -> Experiment:
    players = players_of(config)
    drawn = Examples({"image": draws(DRAWN)}, Source("mixture", "1.0.0", "train", "package", DRAWN))
    of = partial(phase, config, players, drawn)
    return Experiment(
        config,
        [
            of("early", config.early_steps, "discriminator", "generator"),
            of("police", config.police_steps, "discriminator"),
            of("thief", config.thief_steps, "generator"),
            of("game", config.steps, "discriminator", "generator"),
        ],
        figures=partial(draw, players),
        predict=partial(predict, players),
        claims=CLAIMS,
        model=dict(players.modules),
    )


def phase(
    config: Config, players: Players, drawn: Examples, name: str, steps: int, *movers: str
) -> Stage:
    """The stage in which these players move, of so many steps, from where the stage before ended.

    If both move, the discriminator moves `discriminator_steps` times in each step.
    """
    steps = STEPS_PER_CALL * max(1, round(steps / STEPS_PER_CALL))
    moves = _gan.moves(players, config.loss)
    rounds = config.discriminator_steps if len(movers) == 2 else 1
    updates = {"discriminator": rounds * steps, "generator": steps}
    optimizers = {mover: falling_adam(config.learning_rate, updates[mover]) for mover in movers}
    return Stage(
        name=name,
        steps=steps,
        init=partial(init, players, optimizers),
        update=make_game_step({mover: moves[mover] for mover in movers}, optimizers, rounds),
        batches=shuffled_batches(drawn, config.batch_size * rounds, seed=config.seed),
        evaluate=lambda state: cells(players, state).metrics(),
        evaluate_every=STEPS_PER_CALL * max(1, steps // STEPS_PER_CALL // 20),
        steps_per_call=STEPS_PER_CALL,
    )


def init(
    players: Players,
    optimizers: Mapping[str, optax.GradientTransformation],
    key: jax.Array,
    previous: State | None,
) -> State:
    """The state before a phase: the players of the phase before, with optimizers of its own."""
    init_key, state_key = jax.random.split(key)
    params, model_state = players.init(init_key)
    params = previous.params if previous else params
    return begin_game(state_key, params, model_state, optimizers)


def draw(players: Players, run: Run) -> dict[str, Figure]:
    """The panels of figure 1, and the value function beside its largest value by any D."""
    steps, value = run.curve("value", stage="game")
    _, missing = run.curve("below_optimum", stage="game")
    return {
        "game": panels({TITLES[name]: cells(players, run.states[name]) for name in TITLES}),
        "value_function": figures.curves(
            {
                "V(D, G)": (steps, value),
                "V(D*, G) = 2 JSD - log 4": (steps, value + missing),
                "-log 4": (steps[[0, -1]], np.full(2, -np.log(4))),
            },
            x_label="steps of the game, from panel c on",
            y_label="nats",
        ),
    }


def predict(
    players: Players, key: jax.Array, state: State | None, image: Any
) -> tuple[dict, Figure]:
    """1,000 generated values, or what D says of so many draws, the pixels of a user's image."""
    assert state is not None
    now = cells(players, state)
    if image is None:
        x = _gan.generated(players, state, players.noise(key, 1000))
        return {"samples": x.ravel().tolist()}, panels({"now": now})
    grey = image @ np.array([0.299, 0.587, 0.114]) / 255
    shares = np.histogram(np.clip(grey, 0, 1), EDGES)[0] / grey.size
    record = {"real": float(shares @ now.judged), "optimal": float(shares @ now.optimal)}
    return record, panels({"pixels as generated": now._replace(generated=shares)})


def players_of(config: Config) -> Players:
    """The paper's perceptrons without dropout; D sees x stretched to WIDTH around 0.

    As x is, densities differ over a tenth of what D's first layer can tell apart.
    """
    bends = uniform_initializer(1)  # of the biases: with zeros, all of a layer would bend at 0
    players = perceptron_players(
        GANGenerator(config.hidden, 1, bias_init=bends),
        GANDiscriminator(
            config.hidden, config.pieces, input_dropout=0, hidden_dropout=0, bias_init=bends
        ),
        latent=1,
        shape=(1, 1, 1),
    )

    def judge(params: Any, model_state: Any, x: jax.Array, keys: Any) -> Any:
        return players.judge(params, model_state, WIDTH * (x - 0.5), keys)

    return players._replace(judge=judge)


def falling_adam(rate: float, steps: int) -> optax.GradientTransformation:
    """Adam with DCGAN's momentum, whose learning rate falls to 0 in so many steps."""
    return optax.adam(optax.cosine_decay_schedule(rate, steps), b1=0.5)


def draws(n: int) -> np.ndarray:
    """So many data, [N, 1, 1, 1] float32: one for each equal share of the mixture."""
    x = np.linspace(0, 1, 10_001)
    below = _below(x)
    u = (np.arange(n) + 0.5) / n
    return np.interp(u, below, x).astype(np.float32).reshape(n, 1, 1, 1)


def cells(players: Players, state: State) -> Cells:
    """The game as it is: exact shares of the data, those of G from its values along z."""
    z = jnp.linspace(-math.sqrt(3), math.sqrt(3), 4001)[:, None]
    middles = jnp.asarray((EDGES[1:] + EDGES[:-1]) / 2, jnp.float32)
    logits, _ = players.judge(
        state.params["discriminator"], state.model_state, middles.reshape(-1, 1, 1, 1), None
    )
    model = _gan.generator(state)
    parts = (z[i : i + 1000] for i in range(0, len(z), 1000))
    x = np.concatenate([np.ravel(players.generate(*model, part, False)[0]) for part in parts])
    return Cells(np.diff(_below(EDGES)), pushed_forward(x, EDGES), np.asarray(logits))


def pushed_forward(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The shares of cells [N] between edges [N + 1] that G gives them, from x = G(z).

    x [M] are of equally probable steps of z; between two, G is taken as linear. All lie between
    the first and the last edge.
    """
    low, high = np.minimum(x[1:], x[:-1]), np.maximum(x[1:], x[:-1])
    width = np.maximum(high - low, 1e-9)
    below = np.mean(np.clip((edges[:, None] - low[None]) / width[None], 0, 1), axis=1)
    below[0], below[-1] = 0, 1
    return np.diff(below)


def panels(moments: Mapping[str, Cells]) -> Figure:
    """Densities and discriminators at some moments, as in figure 1."""
    x = (EDGES[1:] + EDGES[:-1]) / 2
    per_tenth = 0.1 / (EDGES[1] - EDGES[0])
    drawn = {
        title: {
            "data": (x, per_tenth * now.data),
            "generated": (x, per_tenth * now.generated),
            "D": (x, now.judged),
            "D* = data / (data + generated)": (x, now.optimal),
        }
        for title, now in moments.items()
    }
    return figures.curve_panels(
        drawn,
        x_label="x",
        y_label="density per 0.1; D: probability",
        dashed={"D* = data / (data + generated)": "D"},
        y_limits=(0, 1),
    )


def _below(x: np.ndarray) -> np.ndarray:
    """The share of the mixture below x, within (0, 1)."""
    raw = np.array([sum(share * part.cdf(v) for share, part in MIXTURE) for v in x])
    return (raw - raw[0]) / (raw[-1] - raw[0])


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) of shares."""
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / q[some])))


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
