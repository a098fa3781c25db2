"""A variational autoencoder on MNIST (Kingma & Welling 2014, figures 2, 4b and 5).

python -m experiments.vae_mnist              # 20 latent dimensions
python -m experiments.vae_mnist --latent 2   # draws the manifold of figure 4b
"""

from dataclasses import dataclass

from experiments import _vae
from jaxstruct import data, losses
from jaxstruct.models import VAE, BernoulliDecoder, GaussianEncoder
from jaxstruct.training import Experiment, main


@dataclass(frozen=True)
class Config(_vae.Config):
    """The defaults: what two cores do in minutes."""

    latent: int = 20  # dimensions of z
    hidden: int = 500  # units of the hidden layers of encoder and decoder
    epochs: float = 60  # passes through the 60,000 training images


SMOKE = Config(latent=2, hidden=16, epochs=3, importance_samples=20, importance_images=100)
PAPER = Config(
    **_vae.PAPER,
    epochs=1667,  # 1e8 images
)
CLAIMS = _vae.claims(manifold="4b")


def experiment(config: Config) -> Experiment:
    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    start = _vae.initializers(config)
    model = VAE(
        GaussianEncoder(config.hidden, config.latent, **start),
        BernoulliDecoder(config.hidden, 28 * 28, **start),
    )
    return _vae.experiment(config, model, losses.BERNOULLI, train, test, claims=CLAIMS, dark=True)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
