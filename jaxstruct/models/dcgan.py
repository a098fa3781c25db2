"""The generator and discriminator of DCGAN (Radford, Metz & Chintala, ICLR 2016).

What may be added: other normalisation, as an option.
"""

from dataclasses import field
from functools import partial
from typing import Any, Literal, cast, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

from jaxstruct.models.layers import Conv, UpConv

Normalization = Literal["batch", "spectral", "none"]
_KERNEL = nn.initializers.normal(0.02)


def dcgan_scale_initializer(key: jax.Array, shape: tuple[int, ...], dtype: Dtype) -> jax.Array:
    """Draws the scales of batch norm from N(1, 0.02 squared).

    Args:
        key: one key.
        shape: of the parameter.
        dtype: of the parameter.

    Returns:
        the parameter, of that shape and dtype.

    Source: the code that the paper's authors published; the paper says this of all weights.
    """
    return 1 + _KERNEL(key, shape, dtype)


class DCGANGenerator(nn.Module):
    """Images from noise: a linear layer to 4x4, then upconvolutions that each double the size.

        4x4 x (features size / 8)  ->  8x8 x half as many  ->  ...  ->  size x size x channels

    with batch norm and ReLU behind each but the last, which ends in tanh. Called with z [B, latent]
    it returns images [B, size, size, channels] in [-1, 1], in the compute dtype.

    Attributes:
        size: of the images, a power of two from 8.
        features: channels in front of the last layer.
        channels: of the images.
        kernel_size: of the upconvolutions.
        axis_name: devices over which batch norm takes its statistics in training, None for one.
        dtype: the compute dtype; None is what z and the parameters promote to.

    Raises:
        ValueError: when called, for a size that is no power of two from 8, or z that is not
        [B, latent].

    Source: Radford et al. 2016, figure 1 and section 3; initial values: section 4.
    """

    size: int = 64
    features: int = 128
    channels: int = 3
    kernel_size: int = field(default=5, kw_only=True)
    axis_name: str | None = field(default=None, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the images; with train, normalised by the batch, whose statistics count."""
        doublings = _doublings(self.size)
        if z.ndim != 2:
            raise ValueError(f"got z {z.shape}, expected [B, latent]")
        norm = partial(_norm, self, train)
        width = self.features * 2 ** (doublings - 1)
        dense = nn.Dense(
            4 * 4 * width, use_bias=False, kernel_init=_KERNEL, dtype=self.dtype, name="project"
        )
        x = dense(z).reshape(-1, 4, 4, width)
        x = nn.relu(norm("project_norm")(x))
        for i in range(1, doublings + 1):
            last = i == doublings
            width //= 2
            x = UpConv(
                self.channels if last else width,
                self.kernel_size,
                2,
                use_bias=last,
                kernel_init=_KERNEL,
                dtype=self.dtype,
                name=f"upconv{i}",
            )(x)
            x = jnp.tanh(x) if last else nn.relu(norm(f"norm{i}")(x))
        return x


class DCGANDiscriminator(nn.Module):
    """Real or generated: convolutions that each halve the size to 4x4, then a linear layer.

    With leaky ReLU of slope 0.2 behind each, and batch norm in front of it but for the first.
    Called with images [B, size, size, channels] in [-1, 1] it returns the logits [B] that they are
    real, and the maps behind each leaky ReLU, whose sizes are size / 2 ... 4; in the compute dtype.

    Attributes:
        features: channels behind the first layer; each following one has twice as many.
        kernel_size: of the convolutions.
        normalization: "batch"; or "spectral", which divides each layer's kernel by its largest
            singular value (Miyato et al. 2018; one power iteration a call), or "none",
            both without batch norm and with biases.
        axis_name: devices over which batch norm takes its statistics in training, None for one.
        dtype: the compute dtype; None is what images and the parameters promote to.

    Raises:
        ValueError: when called, for images that are not square, or whose size is no power of two
        from 8, or another normalization.

    Source: Radford et al. 2016, section 3; the maps: section 5.1; initial values: section 4.
    """

    features: int = 128
    kernel_size: int = field(default=5, kw_only=True)
    normalization: Normalization = field(default="batch", kw_only=True)
    axis_name: str | None = field(default=None, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Returns logits and maps; with train, normalised by the batch, whose statistics count."""
        if images.ndim != 4 or images.shape[1] != images.shape[2]:
            raise ValueError(f"got images {images.shape}, expected [B, size, size, C]")
        if self.normalization not in get_args(Normalization):
            raise ValueError(
                f"got normalization={self.normalization!r}, expected one of "
                f"{', '.join(get_args(Normalization))}"
            )
        norm = partial(_norm, self, train)
        batch = self.normalization == "batch"

        def applied(layer: nn.Module, x: jax.Array) -> jax.Array:
            if self.normalization == "spectral":
                return nn.SpectralNorm(layer, name=f"{layer.name}_norm")(x, update_stats=train)
            return cast(Any, layer)(x)

        x, maps = images, []
        for i in range(1, _doublings(images.shape[1]) + 1):
            layer = Conv(
                self.features * 2 ** (i - 1),
                (self.kernel_size, self.kernel_size),
                strides=2,
                use_bias=i == 1 or not batch,
                kernel_init=_KERNEL,
                dtype=self.dtype,
                name=f"conv{i}",
            )
            x = applied(layer, x)
            x = norm(f"norm{i}")(x) if batch and i > 1 else x
            x = nn.leaky_relu(x, 0.2)
            maps.append(x)
        logits = nn.Dense(1, kernel_init=_KERNEL, dtype=self.dtype, name="logits")
        return applied(logits, x.reshape(x.shape[0], -1))[:, 0], maps


def _doublings(size: int) -> int:
    """How often 4 doubles to become the size."""
    if size < 8 or size & (size - 1):
        raise ValueError(f"got images of {size} pixels, expected a power of two from 8")
    return size.bit_length() - 3


def _norm(module: DCGANGenerator | DCGANDiscriminator, train: bool, name: str) -> nn.BatchNorm:
    init: Initializer = dcgan_scale_initializer
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        scale_init=init,
        axis_name=module.axis_name,
        dtype=module.dtype,
        name=name,
    )
