"""What the variational autoencoders share: the bound, its estimates, the figures.

What may be added: another configuration of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments._checks import COUNT, NOT_NEGATIVE, POSITIVE, SEED, check_choices
from jaxstruct import figures, losses
from jaxstruct.data import Examples, fit_image, load
from jaxstruct.metrics import Mean
from jaxstruct.models import vae_initializer
from jaxstruct.training import (
    Claim,
    Experiment,
    Run,
    Stage,
    State,
    batches_in_order,
    make_evaluation,
    make_step,
    shuffled_batches,
    steps_of_epochs,
)

STEPS_PER_CALL = 20  # no convolutions: so many steps run in one call
EVALUATED = 10_000  # at most so many training images are in the training bound


def claims(manifold: str, **config: Any) -> list[Claim]:
    """What Kingma & Welling 2014 draw without a number; about runs with these values in Config."""
    paper = "Kingma & Welling 2014, figure"
    return [
        Claim(
            "the bound of 20 dimensions rises as the paper's",
            figure="learning_curve",
            source=f"{paper} 2",
            config={"latent": 20, **config},
        ),
        Claim(
            "images change smoothly over a plane of z",
            figure="manifold",
            source=f"{paper} {manifold}",
            config={"latent": 2, **config},
        ),
    ]


@dataclass(frozen=True)
class Method:
    """What every variational autoencoder can be configured with."""

    hidden: int = 500  # units of the hidden layers of encoder and decoder
    batch_size: int = 100  # images a step
    optimizer: Literal["adam", "adagrad"] = "adam"  # paper: adagrad
    learning_rate: float = 1e-3  # of the optimizer
    initialization: Literal["lecun", "paper"] = "lecun"  # paper: N(0, 0.01), biases too
    weight_prior: bool = False  # the parameters have the prior N(0, I), as in the paper
    evaluations: int = 50  # how often the bound is measured during training
    importance_samples: int = 5000  # posterior samples in the estimate of log p(x) of an image
    importance_images: int = 10_000  # at most so many test images in the estimate of log p(x)
    seed: int = 0  # of initialization, order and noise

    def __post_init__(self) -> None:
        check_choices(self)
        COUNT.check(self, "hidden", "batch_size", "evaluations")
        COUNT.check(self, "importance_samples", "importance_images")
        POSITIVE.check(self, "learning_rate")
        SEED.check(self, "seed")


@dataclass(frozen=True)
class Config(Method):
    """One variational autoencoder."""

    latent: int = 20  # dimensions of z
    epochs: float = 60  # passes through the training images

    def __post_init__(self) -> None:
        super().__post_init__()
        COUNT.check(self, "latent")
        NOT_NEGATIVE.check(self, "epochs")


PAPER: dict[str, Any] = {  # where the defaults are others
    "optimizer": "adagrad",
    "learning_rate": 0.02,  # of the three that the paper chose from, 0.01, 0.02 and 0.1
    "initialization": "paper",
    "weight_prior": True,
}


def frey_face(split: Literal["random", "temporal"]) -> tuple[Examples, Examples]:
    """1,765 frames to train on, and the 200 that are held out.

    A random frame of the video has neighbours that are trained on; the last frames have none.
    """
    return load("frey_face", "train").hold_out(200, seed=0 if split == "random" else None)


def initializers(config: Method) -> dict[str, Any]:
    """Keywords of the encoder's and the decoder's initialization."""
    paper = {"kernel_init": vae_initializer, "bias_init": vae_initializer}
    return paper if config.initialization == "paper" else {}


class Coder(NamedTuple):
    """A VAE of images [H, W, C] in [0, 1], and the likelihood of its decoder's predictions."""

    model: nn.Module
    likelihood: losses.Likelihood
    latent: int
    shape: tuple[int, ...]

    def terms(self, params: Any, images: Any, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Negative log-likelihood [b] and divergence [b]; their sum is minus the bound (eq. 10)."""
        x = images.reshape(len(images), -1)
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.latent,)))(keys)
        output: Any = self.model.apply({"params": params}, x, noise)
        mean, log_variance, _, prediction = output
        return -self.likelihood.log(prediction, x), losses.kl_to_standard_normal(mean, log_variance)

    def encode(self, params: Any, images: Any) -> Any:
        """Mean and log-variance [b, latent] of each image's posterior."""
        return self.model.apply(
            {"params": params}, images.reshape(len(images), -1), method="encode"
        )

    def decode(self, params: Any, z: Any) -> np.ndarray:
        """The mean images [..., H, W, C] of z [..., latent]."""
        prediction = self.model.apply({"params": params}, z, method="decode")
        return np.asarray(self.likelihood.mean(prediction)).reshape(*z.shape[:-1], *self.shape)

    def reconstruct(self, params: Any, images: Any) -> np.ndarray:
        """The mean images of the posteriors' means."""
        return self.decode(params, self.encode(params, images)[0])

    def sample(self, params: Any, key: jax.Array) -> np.ndarray:
        """[10, 10, H, W, C] from the prior."""
        return self.decode(params, jax.random.normal(key, (10, 10, self.latent)))

    def manifold(self, params: Any) -> Figure:
        """The images of a grid over two latent dimensions, as in figure 4."""
        x = self.decode(params, jnp.asarray(figures.manifold_coordinates(20)))
        gap = 1 if min(self.shape[:2]) < 16 else 0  # small images have no margin of their own
        return figures.image_grid(x, title="the learned manifold", gap=gap)


def experiment(
    config: Config,
    model: nn.Module,
    likelihood: losses.Likelihood,
    train: Examples,
    test: Examples,
    *,
    claims: Sequence[Claim] = (),
    dark: bool = False,
) -> Experiment:
    """A VAE of images uint8 [N, H, W, 1]; `dark`: their background is black, see `fit_image`."""
    train, test = train.only("image"), test.only("image")
    coder = Coder(model, likelihood, config.latent, train["image"].shape[1:])
    make = {"adam": optax.adam, "adagrad": optax.adagrad}[config.optimizer]
    optimizer = make(config.learning_rate)
    steps = steps_of_epochs(
        config.epochs, train.size, config.batch_size, steps_per_call=STEPS_PER_CALL
    )
    evaluate_every = STEPS_PER_CALL * max(1, round(steps // STEPS_PER_CALL / config.evaluations))
    some = train.take(slice(EVALUATED))
    of_test = make_evaluation(partial(bound, coder), batches_in_order(test, 1000))
    of_train = make_evaluation(partial(bound, coder), batches_in_order(some, 1000))
    scored = test.take(slice(config.importance_images))
    estimate = partial(log_likelihood, coder, config.importance_samples)
    of_score = make_evaluation(estimate, batches_in_order(scored, 8))
    stage = Stage(
        name="train",
        steps=steps,
        init=partial(init, coder, optimizer),
        update=make_step(partial(loss, coder, train.size if config.weight_prior else 0), optimizer),
        batches=shuffled_batches(train, config.batch_size, seed=config.seed),
        evaluate=lambda state: of_test(state) | {"train_bound": of_train(state)["bound"]},
        evaluate_every=evaluate_every,
        save_every=evaluate_every * max(1, config.evaluations // 10),
        steps_per_call=STEPS_PER_CALL,
    )
    return Experiment(
        config,
        [stage],
        score=lambda states: of_score(states["train"]),
        figures=partial(draw, config, coder, test),
        predict=partial(predict, coder, dark),
        best=("bound", "max"),
        claims=claims,
        model=model,
    )


def init(coder: Coder, optimizer: Any, key: jax.Array, previous: State | None) -> State:
    """The state before the first step."""
    params_key, state_key = jax.random.split(key)
    x, noise = jnp.zeros((1, math.prod(coder.shape))), jnp.zeros((1, coder.latent))
    params = coder.model.init(params_key, x, noise)["params"]
    return State.create(state_key, params, optimizer.init(params))


def loss(
    coder: Coder, prior_images: int, params: Any, model_state: Any, batch: Any, keys: jax.Array
) -> tuple[dict[str, Mean], Any]:
    """Minus the bound; for `prior_images` above 0, and an image's share of minus the log prior."""
    reconstruction, kl = coder.terms(params, batch["image"], keys)
    found = {"reconstruction": Mean.of(reconstruction), "kl": Mean.of(kl)}
    if prior_images:
        squares = optax.tree.norm(params, squared=True) / 2 / prior_images
        found["prior"] = Mean.of(jnp.full(len(keys), squares))
    return found, model_state


def bound(coder: Coder, state: State, batch: Any, valid: Any, keys: jax.Array) -> dict[str, Mean]:
    """The lower bound of a batch, with one sample an image."""
    reconstruction, kl = coder.terms(state.params, batch["image"], keys)
    return {"bound": Mean.of(-reconstruction - kl, valid)}


def log_likelihood(
    coder: Coder, samples: int, state: State, batch: Any, valid: Any, keys: jax.Array
) -> dict[str, Mean]:
    """The estimate of log p(x) of a batch, from so many samples of each image's posterior."""
    params, x = {"params": state.params}, batch["image"].reshape(len(keys), -1)
    mean, log_variance = coder.encode(state.params, x)

    def joint(z: jax.Array) -> jax.Array:
        prediction = coder.model.apply(params, z, method="decode")
        many = jnp.broadcast_to(x[:, None], (*z.shape[:2], x.shape[-1]))
        return coder.likelihood.log(prediction, many) + losses.standard_normal_log_density(z)

    values = losses.importance_sampled_likelihood(keys, mean, log_variance, joint, samples=samples)
    return {"log_likelihood": Mean.of(values, valid)}


def draw(config: Config, coder: Coder, test: Examples, run: Run) -> dict[str, Figure]:
    """The learning curve, reconstructions, samples and, of two latent dimensions, the manifold."""
    assert run.state is not None
    params, key = run.state.params, jax.random.key(config.seed)
    images = test.spread(10)["image"] / np.float32(255)
    pairs = np.stack([images, coder.reconstruct(params, images)])
    rows, samples = ["test image", "reconstruction"], coder.sample(params, key)
    return {
        "learning_curve": learning_curves({"": run}, config.batch_size),
        "reconstructions": figures.image_grid(pairs, row_labels=rows, gap=1),
        "samples": figures.image_grid(samples, title=f"samples, {config.latent} latent dimensions"),
        **({"manifold": coder.manifold(params)} if config.latent == 2 else {}),
    }


def predict(
    coder: Coder, dark: bool, key: jax.Array, state: State | None, image: Any
) -> tuple[dict, Figure]:
    """The bound and the reconstruction of a user's image, or 100 samples."""
    assert state is not None
    if image is None:
        return {"samples": 100}, figures.image_grid(coder.sample(state.params, key))
    x = fit_image(image, coder.shape, dark=dark)[None]
    reconstruction, kl = coder.terms(state.params, x, key[None])
    record = {
        "bound": float(-(reconstruction + kl)[0]),
        "log_likelihood": float(-reconstruction[0]),
        "kl": float(kl[0]),
        "latent": np.asarray(coder.encode(state.params, x)[0][0]).tolist(),
        "units": "nats",
    }
    panels = {"image": x[None], "reconstruction": coder.reconstruct(state.params, x)[None]}
    return record, figures.side_by_side(panels)


def learning_curves(runs: Mapping[str, Run], batch_size: int, *, log_x: bool = False) -> Figure:
    """Lower bounds over the training images seen, as in figure 2: a panel a run."""
    panels: dict[str, dict[str, Any]] = {}
    for title, run in runs.items():
        for line, metric in (("test", "bound"), ("train", "train_bound")):
            steps, values = run.curve(metric)
            panels.setdefault(title, {})[line] = steps * batch_size, values
    labels: Any = {"x_label": "training images seen", "y_label": "lower bound (nats)"}
    return figures.curve_panels(panels, **labels, dashed={"train": "test"}, log_x=log_x)
