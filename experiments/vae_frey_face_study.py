"""The bound and the samples of VAEs of many latent sizes on Frey Face (Kingma & Welling 2014).

Figure 2 of the paper, with its 1e7 samples.

python -m experiments.vae_frey_face_study
"""

from dataclasses import dataclass
from typing import Literal

from experiments import _vae, _vae_study
from jaxstruct import losses
from jaxstruct.models import VAE, GaussianDecoder, GaussianEncoder
from jaxstruct.training import Study, main


@dataclass(frozen=True)
class Config(_vae_study.Config):
    """The defaults: hidden units and samples as in the paper."""

    latents: tuple[int, ...] = (2, 5, 10, 20)  # dimensions of z
    samples: float = 1e7  # training images seen by each model
    hidden: int = 200  # units of the hidden layers of encoder and decoder
    split: Literal["random", "temporal"] = "random"  # which 200 of the 1,965 frames are held out


SMOKE = Config(
    latents=(2, 5), hidden=16, samples=5000, importance_samples=20, importance_images=100
)
PAPER = Config(
    **_vae.PAPER,
)
CLAIMS = [_vae_study.rises((2, 5, 10, 20), split="random")]


def experiment(config: Config) -> Study:
    train, test = _vae.frey_face(config.split)
    start = _vae.initializers(config)

    def model(latent: int) -> VAE:
        return VAE(
            GaussianEncoder(config.hidden, latent, **start),
            GaussianDecoder(config.hidden, 28 * 20, **start),
        )

    return _vae_study.study(
        config,
        model,
        losses.GAUSSIAN,
        train,
        test,
        claims=CLAIMS,
    )


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
