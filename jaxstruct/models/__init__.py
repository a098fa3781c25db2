"""Models: linen modules, one family a file."""

from jaxstruct.models.layers import UpConv
from jaxstruct.models.vae import (
    VAE,
    BernoulliDecoder,
    GaussianDecoder,
    GaussianEncoder,
    vae_initializer,
)

__all__ = [
    "VAE",
    "BernoulliDecoder",
    "GaussianDecoder",
    "GaussianEncoder",
    "UpConv",
    "vae_initializer",
]
