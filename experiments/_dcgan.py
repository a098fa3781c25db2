"""What the DCGAN experiments share: the game in parts, what D has learned, latent arithmetic.

What may be added: other figures of what the generator has learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments import _fid, _gan
from experiments._checks import BELOW_1, COUNT, NOT_NEGATIVE, POSITIVE, at_least
from jaxstruct import data, figures, models
from jaxstruct.data.names import free_path
from jaxstruct.training import (
    AXIS,
    Claim,
    Experiment,
    Reference,
    Run,
    RunError,
    State,
    batches_in_order,
    in_parts,
    make_prediction,
)


@dataclass(frozen=True)
class Config(_gan.Config):
    """The paper's choices, but for width and length."""

    latent: int = 100  # dimensions of z, uniform in [-1, 1]
    features: int = 64  # channels of the discriminator's first layer (the paper: 128)
    batch_size: int = 64  # real images in a step, and as many generated images (the paper: 128)
    learning_rate: float = 2e-4  # of Adam
    momentum: float = 0.5  # beta1 of Adam
    normalization: Literal["batch", "spectral", "none"] = "batch"  # of the discriminator
    parts: int = 5  # stages, each as long as all before it; a figure shows samples of their ends
    fid_images: int = 10_000  # at most so many real and generated images in fid_lite0; 0: no FID
    svm_C: float = 3e-4  # weight of the squared hinge loss of the SVMs on D's features

    def __post_init__(self) -> None:
        super().__post_init__()
        COUNT.check(self, "latent", "features", "parts")
        POSITIVE.check(self, "learning_rate", "svm_C")
        BELOW_1.check(self, "momentum")
        (at_least(2) if self.fid_images else NOT_NEGATIVE).check(self, "fid_images")


SOUGHT, MOVED = 2000, 500  # samples in which classes are sought, and that are moved towards each
PAPER: dict[str, Any] = {"features": 128, "batch_size": 128}  # where the defaults are others

DIRECTIONS = Claim(
    "moving z towards a class gives that class (share)",
    orders=[[Reference("attribute_share", "higher"), Reference("chance_share", "higher")]],
)


@dataclass(frozen=True)
class Arithmetic:
    """Images of A - B + C, means of latent vectors, and of noise around the sum (figure 7)."""

    a: tuple[int, ...]  # samples of figures/samples.png, counted row by row from 0
    b: tuple[int, ...]  # samples whose mean is subtracted
    c: tuple[int, ...]  # samples whose mean is added
    output: Path | None = None  # a PNG file, which is replaced [arithmetic.png, or a free name]
    noise_seed: int = 0  # of the noise around the sum


Scores = Callable[[np.ndarray], np.ndarray]  # of images [N, size, size, 3]: [N, classes]


class Game(NamedTuple):
    """What is played, with which images, and the three classes whose sum is drawn, if any."""

    config: Config
    players: models.Players
    train: data.Examples
    test: data.Examples
    sum_of: Sequence[str] | None = None

    def noise(self, purpose: int, *shape: int) -> jax.Array:
        """z [*shape, latent] of a purpose after training."""
        return self.players.noise(_gan.key_of(self.config, purpose), *shape)

    def samples(self, state: State, z: jax.Array) -> np.ndarray:
        """Images [..., size, size, 3] in [0, 1] of z [..., latent]."""
        return _gan.generated(self.players, state, z)


def players(config: Config, size: int) -> models.Players:
    """Generator and discriminator of RGB images of so many pixels, with batch norm in training."""
    return models.dcgan_players(
        size, config.features, config.latent, normalization=config.normalization, axis_name=AXIS
    )


def features(players: models.Players) -> Callable[[State, np.ndarray], np.ndarray]:
    """The discriminator's features: (state, images uint8 or in [0, 1]) -> [N, D] float32."""
    discriminator: Any = dict(players.modules)["discriminator"]

    def predict(variables: Any, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        _, maps = discriminator.apply(variables, 2 * batch["image"] - 1)
        return {"features": models.dcgan_features(maps)}

    predicted, name = make_prediction(predict), "discriminator"

    def extract(state: State, images: np.ndarray) -> np.ndarray:
        variables = {"params": state.params[name], "batch_stats": state.model_state[name]}
        batches = batches_in_order({"image": images}, 500, one_shape=True)
        return predicted(variables, batches)["features"]

    return extract


def class_scores(game: Game, state: State) -> Scores:
    """By a linear SVM a class, on the discriminator's features divided by their deviations."""
    extract, train = features(game.players), game.train
    x = extract(state, train["image"])
    deviation = x.std(axis=0)
    scale = 1 / np.where(deviation > 1e-5 * deviation.max(), deviation, 1)  # below: rounding
    x *= scale
    chunks = [x[i : i + 10_000] for i in range(0, len(x), 10_000)]
    svm = models.fit_linear_svm(
        chunks, train["label"], classes=len(train.classes), C=game.config.svm_C, tolerance=1e-3
    )
    return lambda images: np.asarray(svm.scores(scale * extract(state, images)))


def attributes(game: Game, state: State, scores: Scores, *, top: int = 50) -> jax.Array:
    """z [K, top, latent]: of SOUGHT samples, those that each class's SVM sets above the others'."""
    z = game.noise(2, SOUGHT)
    return models.class_vectors(z, scores(game.samples(state, z)), top)


def moved(game: Game, state: State, scores: Scores) -> dict[str, float]:
    """How often moving z towards a class gives that class, and how often chance does.

    A sample's class is the one with the highest score; the shares are means over the classes.
    """
    directions = models.class_directions(attributes(game, state, scores))
    z, shares = game.noise(3, MOVED), []
    for k, direction in enumerate(directions):
        images = game.samples(state, z + jnp.broadcast_to(direction, z.shape))
        shares.append(float(np.mean(scores(images).argmax(axis=1) == k)))
    return {"attribute_share": float(np.mean(shares)), "chance_share": 1 / len(directions)}


def experiment(
    config: Config,
    train: data.Examples,
    test: data.Examples,
    *,
    sum_of: Sequence[str] | None,
    reader: Any = None,
    claims: Sequence[Claim] = (),
) -> Experiment:
    """The game for images uint8 [N, size, size, 3].

    `sum_of` are the classes A, B and C whose A - B + C is drawn; without it, labels are not used.
    A `reader` reads training images that no memory holds, of which `train` holds the first ones.
    """
    game = Game(config, players(config, train["image"].shape[1]), train, test, sum_of)
    fitted: list[tuple[State, Scores]] = []

    def scores_of(state: State) -> Scores:
        """The SVMs are fitted once, for the metrics and the figures of one state."""
        if not fitted or fitted[0][0] is not state:
            fitted[:] = [(state, class_scores(game, state))]
        return fitted[0][1]

    optimizer = optax.adam(config.learning_rate, b1=config.momentum)
    optimizers = {"discriminator": optimizer, "generator": optimizer}
    whole = _gan.stage(config, game.players, optimizers, train, test, reader=reader)
    return Experiment(
        config,
        in_parts(whole, config.parts),
        score=partial(score, game, scores_of),
        figures=partial(draw, game, scores_of),
        predict=partial(_gan.predict, game.players, partial(fit, train["image"].shape[1])),
        claims=claims,
        commands={"arithmetic": (Arithmetic, partial(add, game))},
        model=dict(game.players.modules),
    )


def score(
    game: Game, scores_of: Callable[[State], Scores], states: Mapping[str, State]
) -> dict[str, float]:
    """What is measured after training, of the last state."""
    state = [*states.values()][-1]
    found = {}
    if game.sum_of:
        scores = scores_of(state)
        right = scores(game.test["image"]).argmax(axis=1) == game.test["label"]
        found = {"svm_accuracy": 100 * float(np.mean(right)), **moved(game, state, scores)}
    found |= _gan.as_played(game.players, game.test, game.config.batch_size)(state)
    if count := game.config.fid_images:
        generate = lambda: game.samples(state, game.noise(5, count))
        found |= _fid.fid_lite0(game.train["image"][:count], generate, state)
    return found


def draw(game: Game, scores_of: Callable[[State], Scores], run: Run) -> dict[str, Figure]:
    """The samples, how they came, what is nearest to them, and where z leads."""
    states, z = [*run.states.values()], chosen(game)
    state, samples = states[-1], game.samples(states[-1], z)
    over_training = {
        f"{count:,} images": game.samples(then, z[:4, :4])
        for count, then in zip(seen(game.config, run), states, strict=True)
    }
    by_class = {}
    if game.sum_of:
        best = attributes(game, state, scores_of(state))
        groups = [best[game.train.classes.index(name)][:3] for name in game.sum_of]
        by_class["attributes"] = towards(game, state, best)
        by_class["arithmetic"] = sum_figure(game, state, game.sum_of, groups, game.config.seed)
    walk = game.samples(state, models.latent_lines(game.noise(1, 6, 3), 6))
    return {
        "samples": figures.image_grid(samples, title="samples 0, 1, 2 ... row by row"),
        "nearest": _gan.beside_nearest(samples[:6, :6], game.train["image"]),
        "over_training": figures.side_by_side(over_training),
        "walk": figures.image_grid(walk, title="straight lines between three z"),
        **by_class,
        **_gan.curves(run, game.config.batch_size * game.config.discriminator_steps),
    }


def fit(size: int, image: Any) -> np.ndarray:
    """The middle square of a user's image as [size, size, 3] in [0, 1]."""
    return data.middle_square(image, size).astype(np.float32) / 255


def chosen(game: Game) -> jax.Array:
    """The z [10, 10, latent] of figures/samples.png, which `Arithmetic` counts."""
    return game.noise(0, 10, 10)


def seen(config: Config, run: Run) -> list[int]:
    """Real images that the discriminator had seen at the end of each stage."""
    ends = np.cumsum([int(state.step) for state in run.states.values()])
    return (ends * config.batch_size * config.discriminator_steps).tolist()


def add(game: Game, given: Arithmetic, run: Run) -> None:
    """The command: draws the samples, their means, and what the sum of the means gives."""
    z = chosen(game).reshape(-1, game.config.latent)
    groups = {"A": given.a, "B": given.b, "C": given.c}
    for name, indices in groups.items():
        if not indices or not all(0 <= i < len(z) for i in indices):
            raise RunError(
                f"--{name.lower()} is {indices}, expected some of the samples 0 to {len(z) - 1} of "
                f"{run.workdir / 'figures' / 'samples.png'}"
            )
    chosen_z = [z[jnp.array(i)] for i in groups.values()]
    figure = sum_figure(game, [*run.states.values()][-1], [*groups], chosen_z, given.noise_seed)
    target = given.output or free_path(Path("arithmetic.png"))
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    print(target)


def towards(game: Game, state: State, best: jax.Array) -> Figure:
    """Samples, and the samples of their z moved towards each class, whose best z are given."""
    z, directions = game.noise(4, 8), models.class_directions(best)
    steps = jnp.concatenate([jnp.zeros((1, z.shape[1])), directions])
    grid = z[:, None] + jnp.broadcast_to(steps[None], (len(z), *steps.shape))
    titles = ["sample", *(f"+ {name}" for name in game.train.classes)]
    return figures.image_grid(game.samples(state, grid), column_labels=titles, gap=1)


def sum_figure(
    game: Game, state: State, names: Sequence[str], groups: Sequence[jax.Array], seed: int
) -> Figure:
    """Three groups z [n, latent] with the image of each one's mean below, and A - B + C."""
    most = max(map(len, groups))
    panels = {}
    for name, z in zip(names, groups, strict=True):
        rows = jnp.concatenate([z, jnp.repeat(z[-1:], most - len(z), axis=0), z.mean(0)[None]])
        images = game.samples(state, rows)
        images[len(z) : most] = 1.0
        panels[name] = images[:, None]
    panels["sum"] = game.samples(state, models.latent_sum(jax.random.key(seed), *groups))
    title = "{} - {} + {}: samples, and the image of their mean below".format(*names)
    return figures.side_by_side(panels, title=title, gap=1)
