"""The players of "Generative adversarial nets" (Goodfellow et al., NIPS 2014): perceptrons.

What may be added here: other players of the game that are no convolutional networks.
"""

import math
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

from jaxstruct.models.maxout import Maxout


def uniform_initializer(bound: float) -> Initializer:
    """Draws parameters from U(-bound, bound).

    Args:
        bound: the largest size; for all kernels of the generator 0.05, of the discriminator 0.005.

    Returns:
        an initializer: (key, shape, dtype) -> the parameter.

    Source: the configuration that the paper's authors published (mnist.yaml, `irange`).
    """

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def gan_noise(key: jax.Array, latent: int) -> jax.Array:
    """Draws z from the uniform distribution of mean 0 and variance 1, U(-sqrt 3, sqrt 3).

    Args:
        key: one key; for a batch that is drawn example by example, vmap over keys.
        latent: dimensions of z.

    Returns:
        [latent] float32.

    Source: the code that the paper's authors published; the paper says "uniform".
    """
    return jax.random.uniform(key, (latent,), minval=-math.sqrt(3), maxval=math.sqrt(3))


class GANGenerator(nn.Module):
    """Examples in (0, 1) from noise: two hidden layers of ReLU, then sigmoid.

    Called with z [..., latent] it returns x [..., size], in the compute dtype.

    Attributes:
        hidden: units of each hidden layer.
        size: dimensions of x.
        kernel_init, bias_init: linen's defaults; the paper's kernels are of
            `uniform_initializer(0.05)`, and their biases 0.
        output_bias_init: of the last layer; the paper's is the inverse of sigmoid of the mean x.
        dtype: the compute dtype; None is what z and the parameters promote to.

    Raises:
        ValueError: when called, if hidden or size is below 1, or z is a scalar.

    Source: Goodfellow et al. 2014, section 5; sizes: the authors' mnist.yaml.
    """

    hidden: int = 1200
    size: int = 784
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    output_bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Returns x [..., size] for z [..., latent]."""
        _check(z, hidden=self.hidden, size=self.size)
        options: Any = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        h = z
        for i in (1, 2):
            layer = nn.Dense(self.hidden, bias_init=self.bias_init, name=f"hidden{i}", **options)
            h = nn.relu(layer(h))
        output = nn.Dense(self.size, bias_init=self.output_bias_init, name="output", **options)
        return nn.sigmoid(output(h))


class GANDiscriminator(nn.Module):
    """Real or generated: two layers of maxout, then the logit of being real, with dropout.

    Called with x [..., D] it returns logits [...], in the compute dtype. With train, inputs are
    dropped and the rest is scaled up, from a key named "dropout", one for all of x: for masks that
    are drawn example by example, vmap over examples and keys.

    Attributes:
        hidden: units of each hidden layer.
        pieces: linear functions of each unit.
        input_dropout: the share of x that is dropped.
        hidden_dropout: the share of each hidden layer that is dropped.
        kernel_init, bias_init: linen's defaults; the paper's kernels are of
            `uniform_initializer(0.005)`, and their biases 0.
        dtype: the compute dtype; None is what x and the parameters promote to.

    Raises:
        ValueError: when called, if hidden or pieces is below 1, or x is a scalar.

    Source: Goodfellow et al. 2014, section 5; sizes and shares: the authors' mnist.yaml.
    """

    hidden: int = 240
    pieces: int = 5
    input_dropout: float = field(default=0.2, kw_only=True)
    hidden_dropout: float = field(default=0.5, kw_only=True)
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns logits [...] for x [..., D]."""
        _check(x, hidden=self.hidden, pieces=self.pieces)
        options: Any = {
            "kernel_init": self.kernel_init,
            "bias_init": self.bias_init,
            "dtype": self.dtype,
        }
        h = nn.Dropout(self.input_dropout, deterministic=not train)(x)
        for i in (1, 2):
            h = Maxout(self.hidden, self.pieces, name=f"maxout{i}", **options)(h)
            h = nn.Dropout(self.hidden_dropout, deterministic=not train)(h)
        return nn.Dense(1, name="logit", **options)(h)[..., 0]


class Players(NamedTuple):
    """Generator and discriminator as functions of parameters and of a model state.

    Images are [b, H, W, C] in [0, 1], real or generated. The model state (running statistics)
    passes from one call to the next.

    Attributes:
        init: key -> ({"discriminator": params, "generator": params}, model_state).
        draw: key -> z [latent], the noise of one image.
        generate: (params, model_state, z [b, latent], train) -> (images, model_state).
        judge: (params, model_state, images, keys) -> (logits [b], model_state). With keys [b], one
            per image, the discriminator is in training and draws from them; without training they
            are None.
        modules: the (player, module) pairs whose parameters these are.
    """

    init: Callable[[jax.Array], tuple[dict[str, Any], Any]]
    draw: Callable[[jax.Array], jax.Array]
    generate: Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, Any]]
    judge: Callable[[Any, Any, jax.Array, jax.Array | None], tuple[jax.Array, Any]]
    modules: tuple[tuple[str, nn.Module], ...] = ()

    def noise(self, key: jax.Array, *shape: int) -> jax.Array:
        """The noise [*shape, latent] of so many images, each from a key of its own."""
        z = jax.vmap(self.draw)(jax.random.split(key, math.prod(shape)))
        return z.reshape(*shape, *z.shape[1:])

    def sample(
        self, params: Any, model_state: Any, keys: jax.Array, train: bool
    ) -> tuple[jax.Array, Any]:
        """The images that the generator makes of noise from keys [b], and the model state."""
        return self.generate(params, model_state, jax.vmap(self.draw)(keys), train)


def perceptron_players(
    generator: nn.Module, discriminator: nn.Module, latent: int, shape: tuple[int, int, int]
) -> Players:
    """Perceptrons as players, with one dropout mask an image.

    Args:
        generator: z [..., latent] -> x [..., H W C] in [0, 1], such as `GANGenerator`.
        discriminator: x [..., H W C] -> logits [...], such as `GANDiscriminator`; with train, it
            draws from a key named "dropout".
        latent: dimensions of z, which `gan_noise` draws.
        shape: (H, W, C) of an image.

    Returns:
        the players, whose model state is empty.

    Source: Goodfellow et al. 2014, section 5.
    """
    return Players(
        partial(_init, generator, discriminator, latent, math.prod(shape)),
        partial(gan_noise, latent=latent),
        partial(_generate, generator, shape),
        partial(_judge, discriminator),
        (("discriminator", discriminator), ("generator", generator)),
    )


def _init(
    generator: nn.Module, discriminator: nn.Module, latent: int, size: int, key: jax.Array
) -> tuple[dict[str, Any], Any]:
    keys = jax.random.split(key)
    params = {
        "discriminator": discriminator.init(keys[0], jnp.zeros((1, size)))["params"],
        "generator": generator.init(keys[1], jnp.zeros((1, latent)))["params"],
    }
    return params, {}


def _generate(
    generator: nn.Module,
    shape: tuple[int, int, int],
    params: Any,
    model_state: Any,
    z: jax.Array,
    train: bool,
) -> tuple[jax.Array, Any]:
    x: Any = generator.apply({"params": params}, z)
    return x.reshape(*z.shape[:-1], *shape), model_state


def _judge(
    discriminator: nn.Module,
    params: Any,
    model_state: Any,
    images: jax.Array,
    keys: jax.Array | None,
) -> tuple[jax.Array, Any]:
    x = images.reshape(len(images), -1)
    apply: Any = partial(discriminator.apply, {"params": params})
    if keys is None:
        return apply(x), model_state
    return jax.vmap(lambda x, key: apply(x, train=True, rngs={"dropout": key}))(
        x, keys
    ), model_state


def _check(inputs: jax.Array, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"got {name}={size}, expected at least 1")
    if jnp.ndim(inputs) == 0:
        raise ValueError("got an input of shape (), expected [..., D]")
