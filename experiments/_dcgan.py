"""What the DCGAN experiments share: the players, the game in parts, latent walks and arithmetic.

What may be added: other figures of what the generator has learned.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from PIL import Image

from experiments import _fid, _gan
from experiments._checks import BELOW_1, COUNT, NOT_NEGATIVE, POSITIVE, at_least, check
from jaxstruct import data, figures, ops
from jaxstruct.data import Examples
from jaxstruct.data.names import free_path
from jaxstruct.models import DCGANDiscriminator, DCGANGenerator, fit_linear_svm
from jaxstruct.training import (
    AXIS,
    Batches,
    Claim,
    Experiment,
    Reference,
    Run,
    RunError,
    Stage,
    State,
    batches_in_order,
    make_prediction,
)

JITTER = 0.25
"""The paper's uniform noise around a sum of latent vectors, for the images around the middle."""


@dataclass(frozen=True)
class Config(_gan.Config):
    """The paper's choices, but for width and length."""

    latent: int = 100  # dimensions of z, uniform in [-1, 1]
    features: int = 64  # channels of the discriminator's first layer (the paper: 128)
    batch_size: int = 64  # real images a step, and as many generated ones (the paper: 128)
    learning_rate: float = 2e-4  # of Adam
    momentum: float = 0.5  # beta1 of Adam
    normalization: Literal["batch", "spectral", "none"] = "batch"  # of the discriminator
    parts: int = 5  # stages, each as long as all before it: their ends show how samples come
    fid_images: int = 10_000  # real and generated ones each, at most, in fid_lite0; 0: none
    svm_C: float = 3e-4  # weight of the squared hinge loss on the discriminator's features

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            latent=COUNT,
            features=COUNT,
            learning_rate=POSITIVE,
            momentum=BELOW_1,
            parts=COUNT,
            fid_images=at_least(2) if self.fid_images else NOT_NEGATIVE,
            svm_C=POSITIVE,
        )


PAPER: dict[str, Any] = {"features": 128, "batch_size": 128}
"""The paper's choices, where the defaults are others."""


DIRECTIONS = Claim(
    "moving z towards a class gives that class (share)",
    orders=[[Reference("attribute_share", "higher"), Reference("chance_share", "higher")]],
)


@dataclass(frozen=True)
class Arithmetic:
    """Mean latent vectors of samples: A - B + C, and noise around it (figure 7)."""

    a: tuple[int, ...]  # samples of figures/samples.png, row by row from 0
    b: tuple[int, ...]  # samples whose mean is taken away
    c: tuple[int, ...]  # samples whose mean is added
    output: Path | None = None  # a PNG, which may be there [arithmetic.png, -2 where that is]
    noise_seed: int = 0  # of the noise around the sum


def players(config: Config, size: int, dtype: Any = None) -> _gan.Players:
    """Generator and discriminator of RGB images of so many pixels, with batch norm in training."""
    generator = DCGANGenerator(size, config.features, axis_name=AXIS, dtype=dtype)
    discriminator = DCGANDiscriminator(
        config.features, normalization=config.normalization, axis_name=AXIS, dtype=dtype
    )

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key)
        variables = {
            "discriminator": discriminator.init(keys[0], jnp.zeros((1, size, size, 3))),
            "generator": generator.init(keys[1], jnp.zeros((1, config.latent))),
        }
        params = {player: v["params"] for player, v in variables.items()}
        return params, {player: v.get("batch_stats", {}) for player, v in variables.items()}

    def applied(model: Any, player: str, params: Any, model_state: Any, x: Any, train: bool) -> Any:
        variables = {"params": params, "batch_stats": model_state[player]}
        if not train:
            return model.apply(variables, x), model_state
        out, moved = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return out, {**model_state, player: moved.get("batch_stats", {})}

    def generate(params: Any, model_state: Any, z: jax.Array, train: bool) -> Any:
        images, model_state = applied(generator, "generator", params, model_state, z, train)
        return (images + 1) / 2, model_state

    def judge(params: Any, model_state: Any, images: jax.Array, keys: Any) -> Any:
        (logits, _), model_state = applied(
            discriminator, "discriminator", params, model_state, 2 * images - 1, keys is not None
        )
        return logits, model_state

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (config.latent,), minval=-1.0, maxval=1.0)

    modules = ("discriminator", discriminator), ("generator", generator)
    return _gan.Players(init, draw, generate, judge, modules)


def features(config: Config) -> Callable[[State, np.ndarray], np.ndarray]:
    """What the discriminator has learned: (state, images uint8 or in [0, 1]) -> [N, D] float32.

    The maps of all its layers, max-pooled to 4x4 and put together, as in section 5.1.
    """
    discriminator = DCGANDiscriminator(config.features, normalization=config.normalization)

    def of(variables: Any, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        _, maps = cast(Any, discriminator.apply(variables, 2 * batch["image"] - 1))
        pooled = [ops.max_pool(m, m.shape[1] // 4, stride=m.shape[1] // 4) for m in maps]
        return {"features": jnp.concatenate([m.reshape(len(m), -1) for m in pooled], axis=1)}

    predicted = make_prediction(of)

    def extracted(state: State, images: np.ndarray) -> np.ndarray:
        player = "discriminator"
        variables = {"params": state.params[player], "batch_stats": state.model_state[player]}
        batches = batches_in_order({"image": images}, 500, one_shape=True)
        return predicted(variables, batches)["features"]

    return extracted


class Classes(NamedTuple):
    """Linear SVMs on the discriminator's features, trained on labelled images."""

    names: tuple[str, ...]
    scores: Callable[[np.ndarray], np.ndarray]  # images [N, size, size, 3] -> [N, K]


def classes(config: Config, state: State, train: Examples) -> Classes:
    """The SVMs of `train`'s labels; each feature that moves is divided by its deviation."""
    extract = features(config)
    found = extract(state, train["image"])
    deviation = found.std(axis=0)
    scale = 1 / np.where(deviation > 1e-5 * deviation.max(), deviation, 1)  # below: rounding
    found *= scale
    chunks = [found[i : i + 10_000] for i in range(0, len(found), 10_000)]
    svm = fit_linear_svm(
        chunks, train["label"], classes=len(train.classes), C=config.svm_C, tolerance=1e-3
    )
    return Classes(
        train.classes, lambda images: np.asarray(svm.scores(scale * extract(state, images)))
    )


class Attributes(NamedTuple):
    """Latent vectors by what the discriminator's features say of their images."""

    names: tuple[str, ...]
    best: jax.Array  # [K, top, latent], the z of the samples most like each class

    def means(self) -> jax.Array:
        """[K, latent]."""
        return self.best.mean(axis=1)

    def directions(self) -> jax.Array:
        """[K, latent]: from the mean over all classes to each class's."""
        return self.means() - self.means().mean(axis=0, keepdims=True)


def attributes(
    play: _gan.Players, config: Config, state: State, judge: Classes, *, top: int = 50
) -> Attributes:
    """The z of the `top` of 2,000 samples that each class's SVM sets above the others' most.

    The highest scores alone are those of the strangest samples, whose features are large.
    """
    z = _gan.noise(play, _gan.key_of(config, 2), 2000)
    scores = judge.scores(_gan.generated(play, state, z))
    others = [np.delete(scores, k, axis=1).max(axis=1) for k in range(scores.shape[1])]
    margins = scores - np.stack(others, axis=1)
    return Attributes(judge.names, z[np.argsort(-margins, axis=0)[:top].T])


def moved(
    play: _gan.Players, config: Config, state: State, judge: Classes, count: int = 500
) -> dict[str, float]:
    """How often a sample is of a class once its z has moved towards it, and how often before.

    Mean over classes; a sample's class is the one whose SVM scores highest.
    """
    directions = attributes(play, config, state, judge).directions()
    z = _gan.noise(play, _gan.key_of(config, 3), count)
    share = lambda z, k: float(
        np.mean(judge.scores(_gan.generated(play, state, z)).argmax(axis=1) == k)
    )
    after = [
        share(z + jnp.broadcast_to(direction, z.shape), k) for k, direction in enumerate(directions)
    ]
    return {"attribute_share": float(np.mean(after)), "chance_share": 1 / len(directions)}


def experiment(
    config: Config,
    train: Examples,
    test: Examples,
    *,
    sum_of: Sequence[str] | None,
    reader: _gan.Reader | None = None,
    claims: Sequence[Claim] = (),
) -> Experiment:
    """The game for images uint8 [N, size, size, 3].

    `sum_of` are the classes A, B and C whose A - B + C is drawn; without it, labels are not used.
    A `reader` trains in place of `train`, which are the first of its images.
    """
    size = train["image"].shape[1]
    play = players(config, size)
    walk = _gan.key_of(config, 1)

    of_game = _gan.as_played(play, test, config.batch_size)

    fitted: list[tuple[State, Classes]] = []

    def judge_of(state: State) -> Classes:
        """Fitted once for what is scored and drawn."""
        if not fitted or fitted[0][0] is not state:
            fitted[:] = [(state, classes(config, state, train))]
        return fitted[0][1]

    def score(states: Mapping[str, State]) -> dict[str, float]:
        state = list(states.values())[-1]
        found = {}
        if sum_of:
            judge = judge_of(state)
            right = judge.scores(test["image"]).argmax(axis=1) == test["label"]
            found = {"svm_accuracy": 100 * float(np.mean(right))}
            found |= moved(play, config, state, judge)
        found |= of_game(state)
        real = (
            _fid.lite0_moments(train["image"][: config.fid_images], state)
            if config.fid_images
            else None
        )
        if real is not None:
            z = _gan.noise(play, _gan.key_of(config, 5), config.fid_images)
            found |= _fid.fid_lite0(real, _fid.lite0_moments(_gan.generated(play, state, z), state))
        return found

    def draw(run: Run) -> dict[str, Figure]:
        state = _last(run)
        samples = _gan.generated(play, state, chosen(play, config))
        over_training = {
            f"{seen(run, name, config):,} images": _gan.generated(
                play, state, chosen(play, config)[:4, :4]
            )
            for name, state in run.states.items()
        }
        by_class = {}
        if sum_of:
            known = attributes(play, config, state, judge_of(state))
            groups = [known.best[known.names.index(name)][:3] for name in sum_of]
            by_class = {
                "attributes": towards(play, config, state, known),
                "arithmetic": sum_figure(play, state, sum_of, groups, config.seed),
            }
        return {
            "samples": figures.image_grid(samples, title="samples 0, 1, 2 ... row by row"),
            "nearest": _gan.beside_nearest(samples[:6, :6], train["image"]),
            "over_training": figures.side_by_side(over_training),
            "walk": latent_walk(play, state, walk),
            **by_class,
            **_gan.curves(run, config.batch_size * config.discriminator_steps),
        }

    def predict(key: jax.Array, state: State | None, image: Any) -> tuple[dict, Figure]:
        assert state is not None
        if image is None:
            samples = _gan.generated(play, state, _gan.noise(play, key, 10, 10))
            return {"samples": 100}, figures.image_grid(samples)
        return _gan.judged(play, state, key, square(image, size).astype(np.float32) / 255)

    optimizer = optax.adam(config.learning_rate, b1=config.momentum)
    whole = _gan.stage(
        config,
        play,
        {"discriminator": optimizer, "generator": optimizer},
        train,
        test,
        reader=reader,
    )
    return Experiment(
        config,
        in_parts(whole, config.parts),
        score=score,
        figures=draw,
        predict=predict,
        claims=claims,
        commands={"arithmetic": (Arithmetic, lambda given, run: add(play, config, given, run))},
        model=dict(play.modules),
    )


def in_parts(whole: Stage, parts: int) -> list[Stage]:
    """The game as stages that go on with the same batches, each as long as all before it."""
    ends = sorted({max(1, round(whole.steps / 2**i)) for i in range(parts)})
    stages = []
    assert isinstance(whole.batches, Batches)
    for i, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
        indices = functools.partial(_later, whole.batches.indices, begin)
        batches = dataclasses.replace(whole.batches, indices=indices)
        stages.append(
            dataclasses.replace(
                whole,
                name=f"part{i}",
                steps=end - begin,
                init=whole.init if i == 1 else _go_on,
                batches=batches,
            )
        )
    return stages


def _later(indices: Callable[[int], np.ndarray], begin: int, step: int) -> np.ndarray:
    return indices(begin + step)


def _go_on(key: jax.Array, previous: State | None) -> State:
    assert previous is not None
    return State.create(key, previous.params, previous.opt_state, previous.model_state)


def chosen(play: _gan.Players, config: Config) -> jax.Array:
    """The z [10, 10, latent] of figures/samples.png, which `Arithmetic` counts."""
    return _gan.noise(play, _gan.key_of(config, 0), 10, 10)


def seen(run: Run, name: str, config: Config) -> int:
    """Real images that the discriminator had seen at the end of a stage."""
    stages = list(run.states)
    steps = sum(int(run.states[stage].step) for stage in stages[: stages.index(name) + 1])
    return steps * config.batch_size * config.discriminator_steps


def latent_walk(play: _gan.Players, state: State, key: jax.Array, rows: int = 6) -> Figure:
    """What is generated along lines from one z to the next and the next, as in figure 4."""
    ends = _gan.noise(play, key, rows, 3)
    halves = [jnp.linspace(ends[:, i], ends[:, i + 1], 6, axis=1) for i in (0, 1)]
    z = jnp.concatenate([halves[0], halves[1][:, 1:]], axis=1)
    return figures.image_grid(
        _gan.generated(play, state, z), title="straight lines between three z"
    )


def arithmetic(a: jax.Array, b: jax.Array, c: jax.Array, key: jax.Array) -> jax.Array:
    """z [3, 3, latent]: mean(a) - mean(b) + mean(c) of z [n, latent], with noise but in the middle.

    Source: Radford et al. 2016, section 6.3.2.
    """
    total = a.mean(axis=0) - b.mean(axis=0) + c.mean(axis=0)
    noise = jax.random.uniform(key, (3, 3, len(total)), minval=-JITTER, maxval=JITTER)
    return jnp.broadcast_to(total, noise.shape) + noise.at[1, 1].set(0.0)


def add(play: _gan.Players, config: Config, given: Arithmetic, run: Run) -> None:
    """The command: draws the samples, their means, and what the sum of the means gives."""
    z = chosen(play, config).reshape(-1, config.latent)
    groups = {"A": given.a, "B": given.b, "C": given.c}
    for name, indices in groups.items():
        if not indices or not all(0 <= i < len(z) for i in indices):
            raise RunError(
                f"--{name.lower()} is {indices}, expected some of the samples 0 to {len(z) - 1} of "
                f"{run.workdir / 'figures' / 'samples.png'}"
            )
    chosen_z = [z[jnp.array(i)] for i in groups.values()]
    figure = sum_figure(play, _last(run), [*groups], chosen_z, given.noise_seed)
    target = given.output or free_path(Path("arithmetic.png"))
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    print(target)


def towards(play: _gan.Players, config: Config, state: State, known: Attributes) -> Figure:
    """Samples, and what becomes of them when their z moves towards each class."""
    z = _gan.noise(play, _gan.key_of(config, 4), 8)
    steps = jnp.concatenate([jnp.zeros((1, z.shape[1])), known.directions()])
    grid = z[:, None] + jnp.broadcast_to(steps[None], (len(z), *steps.shape))
    titles = ["sample", *(f"+ {name}" for name in known.names)]
    return figures.image_grid(_gan.generated(play, state, grid), column_labels=titles, gap=1)


def sum_figure(
    play: _gan.Players,
    state: State,
    names: Sequence[str],
    groups: Sequence[jax.Array],
    seed: int,
) -> Figure:
    """Three groups z [n, latent] with the image of each one's mean below, and A - B + C."""
    most = max(map(len, groups))
    panels = {}
    for name, z in zip(names, groups, strict=True):
        rows = jnp.concatenate([z, jnp.repeat(z[-1:], most - len(z), axis=0), z.mean(0)[None]])
        images = _gan.generated(play, state, rows)
        images[len(z) : most] = 1.0
        panels[name] = images[:, None]
    a, b, c = groups
    summed = arithmetic(a, b, c, jax.random.key(seed))
    panels["sum"] = _gan.generated(play, state, summed)
    title = "{} - {} + {}: samples, and the image of their mean below".format(*names)
    return figures.side_by_side(panels, title=title, gap=1)


def square(image: np.ndarray, size: int) -> np.ndarray:
    """The middle square of an image uint8 [H, W, 3] of any size, resized."""
    side = min(image.shape[:2])
    top, left = ((n - side) // 2 for n in image.shape[:2])
    middle = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(middle.resize((size, size), Image.Resampling.BOX))


@dataclass(frozen=True)
class Squares:
    """The middle squares of a prepared set's images, resized as they are read."""

    reader: data.Reader
    side: int

    @property
    def size(self) -> int:
        """How many images there are."""
        return self.reader.size

    @property
    def source(self) -> data.Source:
        """Where they come from."""
        return self.reader.source

    def __call__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The images uint8 [M, side, side, 3] at indices [M]."""
        return {"image": np.stack([square(x, self.side) for x in self.reader(indices)["image"]])}


def _last(run: Run) -> State:
    assert run.state is not None
    return run.state
