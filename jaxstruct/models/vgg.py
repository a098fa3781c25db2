"""VGG (Simonyan & Zisserman, ICLR 2015): convolutions of 3x3, and the layers that classify.

What may be added: a part that several uses of the network share.
"""

import re
from collections.abc import Sequence
from dataclasses import field

import jax
from flax import linen as nn
from flax.typing import Dtype

from jaxstruct import ops
from jaxstruct.models._maps import until
from jaxstruct.models.layers import Conv

_WIDTHS = (64, 128, 256, 512, 512)
_LAYERS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """The convolutional layers: five blocks of 3x3 convolutions with ReLU, each with max pooling.

    Called with images [B, H, W, 3] it returns a dictionary of the last map of each block and of
    each pooling, by the paper's names: conv1_2, pool1, conv2_2, pool2, conv3_3, pool3, conv4_3,
    pool4, conv5_3, pool5 for 16 layers, [B, H / stride, W / stride, C] in the compute dtype.
    `strides` has their strides. What a caller does not use is not computed under jit.

    With an output stride below 32 the last poolings do not subsample (they become 3x3 with stride
    1) and the convolutions behind them are dilated instead, as DeepLab has it.

    Attributes:
        depth: layers with parameters of the whole network: 11, 13, 16 or 19.
        output_stride: the largest stride, 8, 16 or 32.
        last: the map that the network ends with, without maps and parameters behind it, e.g.
            "conv5_3" for detectors that pool regions; None is pool5.
        dtype: the compute dtype; None is what images and the parameters promote to.

    Raises:
        ValueError: when called, for another depth, output stride or last map, or images that are
        not [B, H, W, C].

    Source: Simonyan & Zisserman 2015, table 1; Chen et al. 2015, section 3.1 for output strides.
    """

    depth: int = 16
    output_stride: int = field(default=32, kw_only=True)
    last: str | None = field(default=None, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    def strides(self) -> dict[str, int]:
        """The stride of each map that is returned, in pixels of the image."""
        stride, found = 1, {}
        for block, layers in enumerate(self._layers(), 1):
            found[f"conv{block}_{layers}"] = stride
            stride = min(2 * stride, self.output_stride)
            found[f"pool{block}"] = stride
        return until(self.last, found)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
        """Returns the maps by name; with train, as every trunk takes it, the same ones."""
        if images.ndim != 4:
            raise ValueError(f"got images {images.shape}, expected [B, H, W, C]")
        if self.output_stride not in (8, 16, 32):
            raise ValueError(f"got output_stride {self.output_stride}, expected 8, 16 or 32")
        last = list(self.strides())[-1]
        x, maps, stride = images, {}, 1
        for block, (layers, width) in enumerate(zip(self._layers(), _WIDTHS, strict=True), 1):
            dilation = max(1, 2 ** (block - 1) // self.output_stride)
            for i in range(1, layers + 1):
                name = f"conv{block}_{i}"
                x = Conv(
                    width,
                    (3, 3),
                    padding=dilation,
                    kernel_dilation=dilation,
                    kernel_init=nn.initializers.he_normal(),
                    dtype=self.dtype,
                    name=name,
                )(x)
                x = nn.relu(x)
            maps[f"conv{block}_{layers}"] = x
            if last in maps:
                break
            if stride < self.output_stride:
                x, stride = ops.max_pool(x, 2, stride=2), 2 * stride
            else:
                x = ops.max_pool(x, 3, stride=1, padding=1)
            maps[f"pool{block}"] = x
            if last in maps:
                break
        return maps

    def _layers(self) -> Sequence[int]:
        if self.depth not in _LAYERS:
            raise ValueError(f"got depth {self.depth}, expected one of {sorted(_LAYERS)}")
        return _LAYERS[self.depth]


class VGGHead(nn.Module):
    """fc6 and fc7 with ReLU and dropout, as convolutions: 7x7, then 1x1.

    Called with x [B, H, W, C] it returns [B, H - 6, W - 6, hidden], so [B, 1, 1, hidden] of regions
    that were pooled to 7x7; with padding "SAME", [B, H, W, hidden].

    Attributes:
        hidden: units of either layer.
        size: T, of fc6's TxT, 7 in VGG; 1 for regions of a spatial pyramid, which are one vector.
        dilation: of fc6: DeepLab's distance of its taps.
        dropout: the rate, in training.
        padding: of fc6, as in `Conv`.
        dtype: the compute dtype; None is what x and the parameters promote to.

    Source: Simonyan & Zisserman 2015, table 1; as convolutions: Long et al. 2015, section 3.1.
    """

    hidden: int = 4096
    size: int = field(default=7, kw_only=True)
    dilation: int = field(default=1, kw_only=True)
    dropout: float = field(default=0.5, kw_only=True)
    padding: str | int = field(default="VALID", kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns fc7; with train, of units dropped by the key "dropout"."""
        layers = (("fc6", self.size, self.dilation, self.padding), ("fc7", 1, 1, 0))
        for name, size, dilation, padding in layers:
            x = Conv(
                self.hidden,
                (size, size),
                padding=padding,
                kernel_dilation=dilation,
                kernel_init=nn.initializers.he_normal(),
                dtype=self.dtype,
                name=name,
            )(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        return x


class VGGClassifier(nn.Module):
    """The whole network: `VGG`, the mean of 7x7 cells of its last map, `VGGHead` and fc8.

    Called with images [B, H, W, 3] it returns logits [B, classes] in the compute dtype.

    Convolutional, it is slid over images of 224 pixels at least: logits [B, H / 32 - 6, W / 32 - 6,
    classes], one for each 7x7 cells of the last map, of the same variables. Of 224x224 pixels they
    are the logits [B, 1, 1, classes] of before; of a larger image they are not those of its
    windows, since these are padded where the image goes on.

    Attributes:
        classes: how many.
        depth: as in `VGG`.
        hidden: as in `VGGHead`.
        dropout: the rate, in training.
        convolutional: whether it is slid, in place of the mean of 7x7 cells.
        dtype: the compute dtype; None is what images and the parameters promote to.

    Raises:
        ValueError: when called, as `VGG` does.

    Source: Simonyan & Zisserman 2015, table 1; images of any size as in torchvision's;
    convolutional: Long et al. 2015, section 3.1.
    """

    classes: int = 1000
    depth: int = 16
    hidden: int = field(default=4096, kw_only=True)
    dropout: float = field(default=0.5, kw_only=True)
    convolutional: bool = field(default=False, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the logits; with train, of units dropped by the key "dropout"."""
        x = VGG(self.depth, dtype=self.dtype, name="features")(images)["pool5"]
        if not self.convolutional:
            x = ops.adaptive_mean_pool(x, 7)
        head = VGGHead(self.hidden, dropout=self.dropout, dtype=self.dtype, name="head")
        x = head(x, train=train)
        x = x if self.convolutional else x[:, 0, 0]
        return nn.Dense(self.classes, dtype=self.dtype, name="fc8")(x)


def torchvision_vgg_name(path: Sequence[str], depth: int = 16) -> str:
    """What torchvision calls a parameter of `VGGClassifier`: for `from_torchvision`.

    Args:
        path: its place, e.g. ("params", "features", "conv1_1", "kernel").
        depth: as in `VGG`.

    Returns:
        e.g. "features.0.weight"; a layer that torchvision's network lacks keeps its name.

    Raises:
        ValueError: another depth, or a convolution that a network of this depth lacks.

    Source: torchvision.models.vgg, as of 0.29.
    """
    *_, layer, kind = path
    if depth not in _LAYERS:
        raise ValueError(f"got depth {depth}, expected one of {sorted(_LAYERS)}")
    number = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    place = 0
    for block, layers in enumerate(_LAYERS[depth], 1):
        for i in range(1, layers + 1):
            number[f"conv{block}_{i}"] = f"features.{place}"
            place += 2
        place += 1
    if layer not in number and re.fullmatch(r"conv[1-5]_\d+", layer):
        raise ValueError(
            f"VGG of depth {depth} has no {layer}, expected another depth, as in "
            "functools.partial(torchvision_vgg_name, depth=19)"
        )
    return f"{number.get(layer, layer)}.{'weight' if kind == 'kernel' else kind}"
