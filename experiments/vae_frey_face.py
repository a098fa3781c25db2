"""A variational autoencoder on Frey Face (Kingma & Welling 2014, figures 2 and 4a).

python -m experiments.vae_frey_face                    # 20 latent dimensions, a random split
python -m experiments.vae_frey_face --split temporal   # the last frames of the video held out
python -m experiments.vae_frey_face --latent 2         # draws the manifold of figure 4a
"""

from dataclasses import dataclass
from typing import Literal

from experiments import _vae
from jaxstruct import losses
from jaxstruct.models import VAE, GaussianDecoder, GaussianEncoder
from jaxstruct.training import Experiment, main


@dataclass(frozen=True)
class Config(_vae.Config):
    """The defaults: what two cores do in minutes."""

    latent: int = 20  # dimensions of z
    hidden: int = 200  # units of the hidden layers of encoder and decoder
    epochs: float = 1500  # passes through the training images
    split: Literal["random", "temporal"] = "random"  # which 200 of the 1,965 frames are held out


SMOKE = Config(latent=2, hidden=16, epochs=50, importance_samples=20, importance_images=100)
PAPER = Config(
    **_vae.PAPER,
    epochs=5666,  # 1e7 images
)
CLAIMS = _vae.claims(manifold="4a", split="random")


def experiment(config: Config) -> Experiment:
    train, test = _vae.frey_face(config.split)
    start = _vae.initializers(config)
    model = VAE(
        GaussianEncoder(config.hidden, config.latent, **start),
        GaussianDecoder(config.hidden, 28 * 20, **start),
    )
    return _vae.experiment(config, model, losses.GAUSSIAN, train, test, claims=CLAIMS)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
