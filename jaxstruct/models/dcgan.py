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

from jaxstruct.models.gan import Players
from jaxstruct.models.layers import Conv, UpConv
from jaxstruct.ops import max_pool

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


def dcgan_players(
    size: int,
    features: int,
    latent: int,
    *,
    normalization: Normalization = "batch",
    axis_name: str | None = None,
    dtype: Dtype | None = None,
) -> Players:
    """Generator and discriminator of RGB images in [0, 1] as players of the game.

    Args:
        size: of the images, in pixels, a power of two from 8.
        features: of both networks.
        latent: dimensions of z, which is uniform in [-1, 1].
        normalization: of the discriminator.
        axis_name: devices over which batch norm takes its statistics in training, None for one.
        dtype: the compute dtype of both.

    Returns:
        the players; the model state has the statistics of each by its name.

    Source: Radford et al. 2016, section 4.
    """
    generator = DCGANGenerator(size, features, axis_name=axis_name, dtype=dtype)
    discriminator = DCGANDiscriminator(
        features, normalization=normalization, axis_name=axis_name, dtype=dtype
    )
    return Players(
        partial(_init, generator, discriminator, latent),
        partial(jax.random.uniform, shape=(latent,), minval=-1.0, maxval=1.0),
        partial(_generate, generator),
        partial(_judge, discriminator),
        (("discriminator", discriminator), ("generator", generator)),
    )


def dcgan_features(maps: list[jax.Array], side: int = 4) -> jax.Array:
    """What a discriminator has learned: the maps of all its layers, max-pooled and put together.

    Args:
        maps: [B, H, W, C] each, from `DCGANDiscriminator`; H and W are equal multiples of `side`.
        side: of the pooled maps.

    Returns:
        [B, D]: side x side x C of each map, in order.

    Source: Radford et al. 2016, section 5.1.
    """
    pooled = [max_pool(m, m.shape[1] // side, stride=m.shape[1] // side) for m in maps]
    return jnp.concatenate([m.reshape(len(m), -1) for m in pooled], axis=1)


def _init(
    generator: DCGANGenerator, discriminator: DCGANDiscriminator, latent: int, key: jax.Array
) -> tuple[dict[str, Any], Any]:
    keys, size = jax.random.split(key), generator.size
    variables = {
        "discriminator": discriminator.init(keys[0], jnp.zeros((1, size, size, 3))),
        "generator": generator.init(keys[1], jnp.zeros((1, latent))),
    }
    params = {player: v["params"] for player, v in variables.items()}
    return params, {player: v.get("batch_stats", {}) for player, v in variables.items()}


def _generate(
    generator: DCGANGenerator, params: Any, model_state: Any, z: jax.Array, train: bool
) -> tuple[jax.Array, Any]:
    images, model_state = _apply(generator, "generator", params, model_state, z, train)
    return (images + 1) / 2, model_state


def _judge(
    discriminator: DCGANDiscriminator,
    params: Any,
    model_state: Any,
    images: jax.Array,
    keys: jax.Array | None,
) -> tuple[jax.Array, Any]:
    (logits, _), model_state = _apply(
        discriminator, "discriminator", params, model_state, 2 * images - 1, keys is not None
    )
    return logits, model_state


def _apply(
    model: nn.Module, player: str, params: Any, model_state: Any, x: jax.Array, train: bool
) -> tuple[Any, Any]:
    """The output, and the model state in which the player's statistics count this batch."""
    variables = {"params": params, "batch_stats": model_state[player]}
    if not train:
        return model.apply(variables, x), model_state
    output, after = model.apply(variables, x, train=True, mutable=["batch_stats"])
    return output, {**model_state, player: after.get("batch_stats", {})}


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
