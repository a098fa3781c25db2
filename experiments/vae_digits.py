"""A variational autoencoder on scikit-learn's 8x8 digits, in a minute, without a download.

python -m experiments.vae_digits
"""

from dataclasses import dataclass

from experiments import _vae
from jaxstruct import data, losses
from jaxstruct.models import VAE, BernoulliDecoder, GaussianEncoder
from jaxstruct.training import Experiment, main


@dataclass(frozen=True)
class Config(_vae.Config):
    """The defaults: what two cores do in minutes."""

    latent: int = 2  # dimensions of z
    hidden: int = 200  # units of the hidden layers of encoder and decoder
    epochs: float = 1000  # passes through the 1,437 training images


SMOKE = Config(hidden=16, epochs=10, importance_samples=20, importance_images=100)


def experiment(config: Config) -> Experiment:
    train, test = data.load("digits", "train"), data.load("digits", "test")
    start = _vae.initializers(config)
    model = VAE(
        GaussianEncoder(config.hidden, config.latent, **start),
        BernoulliDecoder(config.hidden, 8 * 8, **start),
    )
    return _vae.experiment(config, model, losses.BERNOULLI, train, test, dark=True)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
