"""Residual networks (He et al., CVPR 2016), with the stride where torchvision has it.

What may be added: a part that several uses of the network share.
"""

from collections.abc import Callable, Sequence
from dataclasses import field

import jax
from flax import linen as nn
from flax.typing import Dtype

from jaxstruct import ops
from jaxstruct.models._maps import mean_of, until
from jaxstruct.models._norms import Norm, norm_layer
from jaxstruct.models.layers import Conv

_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class ResNet(nn.Module):
    """A convolution of 7x7, max pooling, and four stages of residual blocks.

    Called with images [B, H, W, 3] it returns a dictionary of maps by the paper's names of their
    stages: conv1 (behind its ReLU), conv2, conv3, conv4, conv5, [B, H / stride, W / stride, C] in
    the compute dtype; `strides` has their strides. What a caller does not use is not computed
    under jit.

    Blocks are basic ones for 18 and 34 layers and bottlenecks, with the stride in their 3x3
    convolution, for more. With an output stride below 32 the last stages are dilated instead of
    subsampled.

    The layers of all three norms have torchvision's names (bn1, ...), so that trained weights find
    them. With "frozen", scale, bias and statistics are constants, as a detector with few images a
    device has them: all four are in the collection "batch_stats", no optimiser sees them among
    "params", and no gradient reaches them. With "group" (32 groups) there are no statistics, and an
    image's maps do not depend on its batch.

    Attributes:
        depth: layers with parameters of the whole network: 18, 34, 50, 101 or 152.
        output_stride: the largest stride, 8, 16 or 32.
        last: the map that the network ends with, without maps and parameters behind it, e.g.
            "conv4"; None is conv5.
        norm: "batch", "frozen" (batch norm of constant statistics) or "group".
        epsilon: what the norm adds to variances; 0 in torchvision's published detectors.
        axis_name: devices over which batch norm takes its statistics in training, None for one.
        dtype: the compute dtype; None is what images and the parameters promote to.

    Raises:
        ValueError: when called, for another depth, output stride, last map or norm, or images that
        are not [B, H, W, C].

    Source: He et al. 2016, Deep residual learning for image recognition, table 1; the place of the
    stride, initial values and dilations are those of torchvision, and "frozen" is its
    FrozenBatchNorm2d; Wu & He 2018, Group normalization.
    """

    depth: int = 50
    output_stride: int = field(default=32, kw_only=True)
    last: str | None = field(default=None, kw_only=True)
    norm: Norm = field(default="batch", kw_only=True)
    epsilon: float = field(default=1e-5, kw_only=True)
    axis_name: str | None = field(default=None, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    def strides(self) -> dict[str, int]:
        """The stride of each map that is returned, in pixels of the image."""
        strides = {f"conv{i}": min(2**i, self.output_stride) for i in range(1, 6)}
        return until(self.last, strides)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
        """Returns the maps by name; with train, batch norm is by the batch, whose statistics count.

        The other norms do the same with train and without.
        """
        if self.depth not in _BLOCKS:
            raise ValueError(f"got depth {self.depth}, expected one of {sorted(_BLOCKS)}")
        if self.output_stride not in (8, 16, 32):
            raise ValueError(f"got output_stride {self.output_stride}, expected 8, 16 or 32")
        if images.ndim != 4:
            raise ValueError(f"got images {images.shape}, expected [B, H, W, C]")
        norm = norm_layer(
            self.norm,
            train=train,
            epsilon=self.epsilon,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        last = list(self.strides())[-1]
        x = _conv(64, 7, 2, dtype=self.dtype, name="conv1")(images)
        x = nn.relu(norm(name="bn1")(x))
        maps = {"conv1": x}
        if last in maps:
            return maps
        x = ops.max_pool(x, 3, stride=2, padding=1)
        stride, dilation = 4, 1
        for stage, blocks in enumerate(_BLOCKS[self.depth], 1):
            for i in range(blocks):
                wanted = 2 if i == 0 and stage > 1 else 1
                step = wanted if stride * wanted <= self.output_stride else 1
                x = _Block(
                    64 * 2 ** (stage - 1),
                    step,
                    dilation,
                    bottleneck=self.depth >= 50,
                    norm=norm,
                    dtype=self.dtype,
                    name=f"layer{stage}_{i}",
                )(x)
                # A first block in place of a stride sees with what was before it.
                stride, dilation = stride * step, dilation * wanted // step
            maps[f"conv{stage + 1}"] = x
            if last in maps:
                break
        return maps


class _Block(nn.Module):
    """x + f(x), where x is projected if its shape differs."""

    features: int
    stride: int
    dilation: int
    bottleneck: bool
    norm: Callable[..., nn.Module]
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.bottleneck:
            layers = [
                (self.features, 1, 1, 1),
                (self.features, 3, self.stride, self.dilation),
                (4 * self.features, 1, 1, 1),
            ]
        else:
            layers = [(self.features, 3, self.stride, self.dilation), (self.features, 3, 1, 1)]
        y = x
        for i, (features, size, stride, dilation) in enumerate(layers, 1):
            y = _conv(features, size, stride, dilation, dtype=self.dtype, name=f"conv{i}")(y)
            y = self.norm(name=f"bn{i}")(y)
            y = nn.relu(y) if i < len(layers) else y
        if x.shape != y.shape:
            x = _conv(y.shape[-1], 1, self.stride, dtype=self.dtype, name="downsample_0")(x)
            x = self.norm(name="downsample_1")(x)
        return nn.relu(x + y)


class ResNetClassifier(nn.Module):
    """The whole network: `ResNet`, the mean of its last map, and a linear layer.

    Called with images [B, H, W, 3] it returns logits [B, classes] in the compute dtype; slid, see
    `VGGClassifier`, logits [B, H / 32 - 6, W / 32 - 6, classes], of the same variables.

    Attributes:
        classes: how many.
        depth, norm, axis_name, dtype: as in `ResNet`.
        convolutional: whether it is slid: the mean of each 7x7 cells, in place of all.

    Raises:
        ValueError: when called, as `ResNet` does, or for images below 224 pixels to slide over.

    Source: He et al. 2016, table 1.
    """

    classes: int = 1000
    depth: int = 50
    norm: Norm = field(default="batch", kw_only=True)
    axis_name: str | None = field(default=None, kw_only=True)
    convolutional: bool = field(default=False, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the logits; with train, batch norm is by the batch, whose statistics count."""
        features = ResNet(
            self.depth, norm=self.norm, axis_name=self.axis_name, dtype=self.dtype, name="features"
        )
        x = features(images, train=train)["conv5"]
        x = mean_of(x, convolutional=self.convolutional)
        return nn.Dense(self.classes, dtype=self.dtype, name="fc")(x)


def torchvision_resnet_name(path: Sequence[str]) -> str:
    """What torchvision calls a variable of `ResNetClassifier`: for `from_torchvision`.

    Args:
        path: its place, e.g. ("batch_stats", "features", "layer1_0", "bn1", "mean").

    Returns:
        e.g. "layer1.0.bn1.running_mean".

    Source: torchvision.models.resnet, as of 0.29.
    """
    _, *layers, kind = path
    kinds = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    place = [layer.replace("_", ".") for layer in layers if layer != "features"]
    return ".".join([*place, kinds.get(kind, kind)])


def _conv(
    features: int,
    size: int,
    stride: int = 1,
    dilation: int = 1,
    *,
    dtype: Dtype | None,
    name: str,
) -> Conv:
    return Conv(
        features,
        (size, size),
        strides=stride,
        padding=dilation * (size // 2),
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        name=name,
    )
