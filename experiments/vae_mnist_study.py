"""The bound and the samples of VAEs of many latent sizes on MNIST (Kingma & Welling 2014).

Figures 2 and 5 of the paper, with a tenth of its samples.

python -m experiments.vae_mnist_study
"""

from dataclasses import dataclass

from experiments import _vae, _vae_study
from jaxstruct import data, losses
from jaxstruct.models import VAE, BernoulliDecoder, GaussianEncoder
from jaxstruct.training import Claim, Reference, Study, main


@dataclass(frozen=True)
class Config(_vae_study.Config):
    """The defaults: a tenth of the paper's samples."""

    latents: tuple[int, ...] = (2, 3, 5, 10, 20, 200)  # dimensions of z
    samples: float = 1e7  # training images seen by each model (the paper: 1e8)


SMOKE = Config(
    latents=(2, 3), hidden=16, samples=5000, importance_samples=20, importance_images=100
)
PAPER = Config(
    **_vae.PAPER,
    samples=1e8,
)
CLAIMS = [
    _vae_study.rises((3, 5, 10, 20)),
    Claim(
        "superfluous dimensions do not overfit: 200 above 10 (nats)",
        orders=[[Reference("bound", "higher", member=f"latent={n}") for n in (200, 10)]],
        source="Kingma & Welling 2014, section 5 and figure 2",
    ),
]


def experiment(config: Config) -> Study:
    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    start = _vae.initializers(config)

    def model(latent: int) -> VAE:
        return VAE(
            GaussianEncoder(config.hidden, latent, **start),
            BernoulliDecoder(config.hidden, 28 * 28, **start),
        )

    return _vae_study.study(
        config,
        model,
        losses.BERNOULLI,
        train,
        test,
        claims=CLAIMS,
        dark=True,
    )


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
