"""What studies of latent sizes share: the configuration, the claims, the members, their figures.

What may be added: what compares variational autoencoders of several sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

import jax
from flax import linen as nn
from matplotlib.figure import Figure

from experiments import _vae
from experiments._checks import COUNT, NOT_NEGATIVE, check_filled
from jaxstruct import figures, losses
from jaxstruct.data import Examples
from jaxstruct.training import Claim, Reference, Run, Study


@dataclass(frozen=True)
class Config(_vae.Method):
    """Variational autoencoders of several latent sizes."""

    latents: tuple[int, ...] = (2, 5, 10, 20)  # dimensions of z
    samples: float = 1e7  # training images seen by each model
    importance_images: int = 1000  # test images in the estimate of log p(x)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_filled(self, "latents")
        COUNT.check(self, "latents")
        NOT_NEGATIVE.check(self, "samples")


def rises(latents: Sequence[int], **config: str) -> Claim:
    """That the bound rises with the latent size; about runs with these values in Config."""
    return Claim(
        f"the bound rises from {latents[0]} to {latents[-1]} dimensions (nats)",
        orders=[[Reference("bound", "higher", member=f"latent={n}") for n in reversed(latents)]],
        source="Kingma & Welling 2014, figure 2",
        config=config,
    )


def study(
    config: Config,
    model: Callable[[int], nn.Module],
    likelihood: losses.Likelihood,
    train: Examples,
    test: Examples,
    *,
    claims: Sequence[Claim] = (),
    dark: bool = False,
) -> Study:
    """The same VAE with each of the latent sizes, from `model(latent)`.

    Its figures are the bounds of figure 2, the random samples of figure 5 and, where there are two
    dimensions, the manifold of figure 4.
    """
    shared = {field.name: getattr(config, field.name) for field in fields(_vae.Method)}
    epochs, shape = config.samples / train.size, train["image"].shape[1:]
    coders = {f"latent={n}": _vae.Coder(model(n), likelihood, n, shape) for n in config.latents}
    members = {}
    for name, coder in coders.items():
        own = _vae.Config(**shared, latent=coder.latent, epochs=epochs)
        members[name] = _vae.experiment(own, coder.model, likelihood, train, test, dark=dark)
    return Study(config, members, partial(draw, config, coders), claims)


def draw(
    config: Config, coders: Mapping[str, _vae.Coder], runs: Mapping[str, Run]
) -> dict[str, Figure]:
    """The bounds and the samples of all members."""
    drawn = {"bounds": _vae.learning_curves(runs, config.batch_size, log_x=True)}
    samples = {}
    for name, coder in coders.items():
        state = runs[name].state
        assert state is not None
        key = jax.random.key(config.seed)
        samples[f"{coder.latent} dimensions"] = coder.sample(state.params, key)
        if coder.latent == 2:
            drawn["manifold"] = coder.manifold(state.params)
    return drawn | {"samples": figures.side_by_side(samples)}
