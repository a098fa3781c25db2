"""What the variational autoencoders share: the bound, its estimates, the figures.

What may be added: another likelihood, as a function of a prediction and an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments._checks import at_least
from jaxstruct import data, figures, losses
from jaxstruct.data import Examples, fit_image
from jaxstruct.metrics import Mean
from jaxstruct.models import vae_initializer
from jaxstruct.training import (
    Claim,
    Experiment,
    Reference,
    Run,
    Stage,
    State,
    Study,
    batches_in_order,
    make_evaluation,
    make_step,
    shuffled_batches,
)

STEPS_PER_CALL = 20  # no convolutions: so many steps run in one call
EVALUATED = 10_000  # at most so many training images are in the training bound


def measured_bound(value: float, source: str) -> Reference:
    """A bound on log p(x) to compare with, in nats."""
    return Reference("bound", "higher", value=value, source=f"measured elsewhere: {source}")


MNIST_BOUNDS = {
    20: measured_bound(-104.0, "Adam, real-valued pixels, 20 epochs"),
    2: measured_bound(-152.0, "Adam, real-valued pixels, 13 epochs"),
}
FREY_FACE_BOUNDS = {
    20: measured_bound(1300.0, "Adam, another random split, 590 epochs"),
    2: measured_bound(890.0, "Adam, another random split"),
}
"""Bounds to compare with, by latent size; the paper draws its bounds and states none."""


def bound_claims(bounds: Mapping[int, Reference], **config: Any) -> list[Claim]:
    """That a VAE of each latent size reaches a bound; about runs with these values in Config."""
    return [
        Claim(
            f"bound with {latent} dimensions reaches others' (nats)",
            values=[reference],
            config={"latent": latent, **config},
        )
        for latent, reference in bounds.items()
    ]


def study_claims(
    bounds: Mapping[int, Reference],
    latents: Sequence[int],
    why: Mapping[int, str] | None = None,
    **config: Any,
) -> list[Claim]:
    """That the bound rises with the latent size and reaches these, with the reasons where not."""
    return [
        Claim(
            f"the bound rises from {latents[0]} to {latents[-1]} dimensions (nats)",
            orders=[
                [Reference("bound", "higher", member=f"latent={n}") for n in reversed(latents)]
            ],
            source="Kingma & Welling 2014, figure 2",
            config=config,
        ),
        *(
            Claim(
                f"bound with {latent} dimensions reaches others' (nats)",
                values=[reference._replace(member=f"latent={latent}")],
                why=(why or {}).get(latent, ""),
                config=config,
            )
            for latent, reference in bounds.items()
        ),
    ]


@dataclass(frozen=True)
class Method:
    """What every variational autoencoder can be configured with."""

    hidden: int = 500  # units of the hidden layers of encoder and decoder
    batch_size: int = 100  # images a step
    optimizer: Literal["adam", "adagrad"] = "adam"  # the paper's is adagrad
    learning_rate: float = 1e-3  # of the optimizer
    initialization: Literal["lecun", "paper"] = "lecun"  # paper: N(0, 0.01), biases too
    weight_prior: bool = False  # the prior N(0, I) of the parameters, as in the paper
    evaluations: int = 50  # how often the bound is measured during training
    importance_samples: int = 5000  # k of the estimate of log p(x)
    importance_images: int = 10_000  # at most so many test images are in that estimate
    seed: int = 0  # of initialization, order and noise


@dataclass(frozen=True)
class Config(Method):
    """One variational autoencoder."""

    latent: int = 20  # dimensions of z
    epochs: float = 60  # passes through the training images


PAPER: dict[str, Any] = {
    "optimizer": "adagrad",
    "learning_rate": 0.02,  # of the three that the paper chose from, 0.01, 0.02 and 0.1
    "initialization": "paper",
    "weight_prior": True,
}
"""The paper's choices, where the defaults are others."""


class Likelihood(NamedTuple):
    """p(x | z) from a prediction: its logarithm [...] for x [..., D], and its mean [..., D]."""

    log: Callable[[Any, Any], Any]
    mean: Callable[[Any], Any]


BERNOULLI = Likelihood(losses.bernoulli_log_likelihood, nn.sigmoid)
GAUSSIAN = Likelihood(lambda p, x: losses.gaussian_log_likelihood(p[0], p[1], x), lambda p: p[0])


def frey_face(split: Literal["random", "temporal"]) -> tuple[Examples, Examples]:
    """Frey Face without and with 200 frames: those of a fixed random shuffle, or the last ones.

    The frames are a video's: a random frame's neighbours are in the training part, the last ones'
    are not.
    """
    faces = data.load("frey_face", "train")
    order = np.arange(faces.size)
    if split == "random":
        order = np.random.default_rng(0).permutation(faces.size)
    return faces.take(order[:-200]), faces.take(order[-200:])


def initializers(config: Method) -> dict[str, Any]:
    """Keywords of the encoder's and the decoder's initialization."""
    if config.initialization == "lecun":
        return {}
    return {"kernel_init": vae_initializer, "bias_init": vae_initializer}


def experiment(
    config: Config,
    model: nn.Module,
    likelihood: Likelihood,
    train: Examples,
    test: Examples,
    *,
    claims: Sequence[Claim] = (),
    dark: bool = False,
) -> Experiment:
    """A VAE from `train` and `test` images uint8 [N,H,W,1].

    `dark`: the images' background is black, see `fit_image`.
    """
    at_least(config, batch_size=1, latent=1, hidden=1, epochs=0, evaluations=1)
    at_least(config, importance_samples=1, importance_images=1)
    train, test = train.only("image"), test.only("image")
    shape = train["image"].shape[1:]
    optimizer = getattr(optax, config.optimizer)(config.learning_rate)
    calls = max(1, round(config.epochs * train.size / config.batch_size / STEPS_PER_CALL))
    evaluate_every = STEPS_PER_CALL * max(1, round(calls / config.evaluations))

    def init(key: jax.Array, previous: State | None) -> State:
        x, noise = jnp.zeros((1, math.prod(shape))), jnp.zeros((1, config.latent))
        params_key, state_key = jax.random.split(key)
        params = model.init(params_key, x, noise)["params"]
        return State.create(state_key, params, optimizer.init(params))

    def terms(params: Any, images: Any, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Negative log likelihood [b] and divergence [b]: their sum is minus the bound (eq. 10)."""
        x = _flat(images)
        noise = jax.vmap(lambda key: jax.random.normal(key, (config.latent,)))(keys)
        output: Any = model.apply({"params": params}, x, noise)
        mean, log_variance, _, prediction = output
        return -likelihood.log(prediction, x), losses.kl_to_standard_normal(mean, log_variance)

    def loss(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
        reconstruction, kl = terms(params, batch["image"], keys)
        found = {"reconstruction": Mean.of(reconstruction), "kl": Mean.of(kl)}
        if config.weight_prior:
            squares = optax.tree.norm(params, squared=True) / 2 / train.size
            found["prior"] = Mean.of(jnp.full(len(keys), squares))
        return found, model_state

    def bound(state: State, batch: Any, valid: Any, keys: jax.Array) -> dict[str, Mean]:
        reconstruction, kl = terms(state.params, batch["image"], keys)
        return {"bound": Mean.of(-reconstruction - kl, valid)}

    def log_likelihood(state: State, batch: Any, valid: Any, keys: jax.Array) -> dict[str, Mean]:
        estimate = importance_estimate(model, likelihood, config.importance_samples)
        values = estimate(state.params, _flat(batch["image"]), keys)
        return {"log_likelihood": Mean.of(values, valid)}

    of_test = make_evaluation(bound, batches_in_order(test, 1000))
    of_train = make_evaluation(bound, batches_in_order(train.take(slice(EVALUATED)), 1000))
    scored = test.take(slice(config.importance_images))
    of_score = make_evaluation(log_likelihood, batches_in_order(scored, 8))

    def evaluate(state: State) -> dict[str, float]:
        return {"bound": of_test(state)["bound"], "train_bound": of_train(state)["bound"]}

    def decode(params: Any, z: Any) -> np.ndarray:
        return decoded(model, likelihood, params, z, shape)

    def reconstruct(params: Any, images: np.ndarray) -> np.ndarray:
        mean, _ = model.apply({"params": params}, _flat(images), method="encode")
        return decode(params, mean)

    def sample(params: Any, key: jax.Array) -> np.ndarray:
        return decode(params, jax.random.normal(key, (10, 10, config.latent)))

    def draw(run: Run) -> dict[str, Figure]:
        assert run.state is not None
        params = run.state.params
        shown = np.linspace(0, test.size - 1, min(10, test.size)).round().astype(int)
        images = test["image"][shown].astype(np.float32) / 255
        pairs = np.stack([images, reconstruct(params, images)])
        drawn = {
            "learning_curve": learning_curves({"": {"": run}}, config.batch_size),
            "reconstructions": figures.image_grid(
                pairs, row_labels=["test image", "reconstruction"], gap=1
            ),
            "samples": figures.image_grid(
                sample(params, jax.random.key(config.seed)),
                title=f"samples, {config.latent} latent dimensions",
            ),
        }
        if config.latent == 2:
            drawn["manifold"] = manifold(model, likelihood, params, shape)
        return drawn

    def predict(key: jax.Array, state: State | None, image: Any) -> tuple[dict, Figure]:
        assert state is not None
        if image is None:
            return {"samples": 100}, figures.image_grid(sample(state.params, key))
        x = fit_image(image, shape, dark=dark)
        reconstruction, kl = terms(state.params, x[None], key[None])
        mean, _ = model.apply({"params": state.params}, _flat(x[None]), method="encode")
        panels = {
            "image": x[None, None],
            "reconstruction": reconstruct(state.params, x[None])[None],
        }
        record = {
            "bound": float(-(reconstruction + kl)[0]),
            "log_likelihood": float(-reconstruction[0]),
            "kl": float(kl[0]),
            "latent": np.asarray(mean[0]).tolist(),
            "units": "nats",
        }
        return record, figures.side_by_side(panels)

    stage = Stage(
        name="train",
        steps=calls * STEPS_PER_CALL,
        init=init,
        update=make_step(loss, optimizer),
        batches=shuffled_batches(train, config.batch_size, seed=config.seed),
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        save_every=evaluate_every * max(1, config.evaluations // 10),
        steps_per_call=STEPS_PER_CALL,
    )
    return Experiment(
        config,
        [stage],
        score=lambda states: of_score(states["train"]),
        figures=draw,
        predict=predict,
        best=("bound", "max"),
        claims=claims,
        model=model,
    )


def study(
    config: Method,
    latents: Sequence[int],
    samples: float,
    model: Callable[[int], nn.Module],
    likelihood: Likelihood,
    train: Examples,
    test: Examples,
    *,
    claims: Sequence[Claim] = (),
    dark: bool = False,
) -> Study:
    """The same VAE with each of the latent sizes, from `model(latent)`, on so many images each.

    Draws the bounds of figure 2, the random samples of figure 5 and, where there are two
    dimensions, the manifold of figure 4.
    """
    at_least(config, latents=1, samples=0)
    shared = {field.name: getattr(config, field.name) for field in fields(Method)}
    epochs = samples / train.size
    members = {
        latent: experiment(
            Config(**shared, latent=latent, epochs=epochs),
            model(latent),
            likelihood,
            train,
            test,
            dark=dark,
        )
        for latent in latents
    }

    def draw(runs: Mapping[str, Run]) -> dict[str, Figure]:
        bounds = {title: {"": run} for title, run in runs.items()}
        key = jax.random.key(config.seed)
        shape = train["image"].shape[1:]
        drawn = {"bounds": learning_curves(bounds, config.batch_size, log_x=True)}
        grids = {}
        for latent in latents:
            state = runs[f"latent={latent}"].state
            assert state is not None
            z = jax.random.normal(key, (10, 10, latent))
            grids[f"{latent} dimensions"] = decoded(
                model(latent), likelihood, state.params, z, shape
            )
            if latent == 2:
                drawn["manifold"] = manifold(model(latent), likelihood, state.params, shape)
        return drawn | {"samples": figures.side_by_side(grids)}

    named = {f"latent={latent}": member for latent, member in members.items()}
    return Study(config, named, draw, claims)


def manifold(model: nn.Module, likelihood: Likelihood, params: Any, shape: Sequence[int]) -> Figure:
    """What the decoder makes of a grid over two latent dimensions, as in figure 4."""
    grid = decoded(model, likelihood, params, jnp.asarray(figures.manifold_coordinates(20)), shape)
    # Images without a margin of their own need one to be told apart.
    gap = 1 if min(shape[:2]) < 16 else 0
    return figures.image_grid(grid, title="the learned manifold", gap=gap)


def decoded(
    model: nn.Module, likelihood: Likelihood, params: Any, z: jax.Array, shape: Sequence[int]
) -> np.ndarray:
    """The mean images [..., *shape] that the decoder makes of z [..., latent]."""
    prediction = model.apply({"params": params}, z, method="decode")
    return np.asarray(likelihood.mean(prediction)).reshape(*z.shape[:-1], *shape)


def importance_estimate(
    model: nn.Module, likelihood: Likelihood, samples: int, chunk: int = 250
) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """A function (params, x [b,D], keys [b]) -> [b]: log p(x) from so many posterior samples.

    `importance_weighted_bound` in chunks, so that memory does not grow with the samples.
    """
    sizes = [chunk] * (samples // chunk) + ([samples % chunk] if samples % chunk else [])

    def log_weights(params: Any, x: Any, mean: Any, log_variance: Any, keys: Any, n: int) -> Any:
        # One draw of [n, latent] per image, then all images and draws through one product.
        noise = jax.vmap(lambda key: jax.random.normal(key, (n, mean.shape[-1])))(keys)
        z = mean[:, None] + jnp.exp(log_variance / 2)[:, None] * noise
        prediction = model.apply({"params": params}, z, method="decode")
        log_posterior = losses.gaussian_log_likelihood(
            jnp.broadcast_to(mean[:, None], z.shape),
            jnp.broadcast_to(log_variance[:, None], z.shape),
            z,
        )
        many = jnp.broadcast_to(x[:, None], (*z.shape[:2], x.shape[-1]))
        log_joint = likelihood.log(prediction, many) + losses.standard_normal_log_density(z)
        return log_joint - log_posterior

    def estimate(params: Any, x: jax.Array, keys: jax.Array) -> jax.Array:
        mean, log_variance = model.apply({"params": params}, x, method="encode")
        parts = []
        for i, n in enumerate(sizes):
            folded = jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys)
            weights = log_weights(params, x, mean, log_variance, folded, n)
            parts.append(jax.nn.logsumexp(weights, axis=1))
        return jax.nn.logsumexp(jnp.stack(parts), axis=0) - math.log(samples)

    return estimate


def learning_curves(
    runs: Mapping[str, Mapping[str, Run]], batch_size: int, *, log_x: bool = False
) -> Figure:
    """Lower bounds over the training images seen, as in figure 2: a panel a key, lines by name."""
    panels: dict[str, dict[str, Any]] = {}
    dashed: dict[str, str] = {}
    for title, members in runs.items():
        lines = panels.setdefault(title, {})
        for name, run in members.items():
            test, train = (" ".join(filter(None, (name, part))) for part in ("test", "train"))
            dashed[train] = test
            for line, metric in ((test, "bound"), (train, "train_bound")):
                steps, values = run.curve(metric)
                lines[line] = steps * batch_size, values
    return figures.curve_panels(
        panels,
        x_label="training images seen",
        y_label="lower bound (nats)",
        dashed=dashed,
        log_x=log_x,
    )


def _flat(images: Any) -> Any:
    return images.reshape(len(images), -1)
