"""torchvision's fcn_resnet50 and deeplabv3_resnet50: their heads, names and weights.

What may be added: another of torchvision's segmentation networks that has these parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jax.typing import ArrayLike

from jaxstruct.models._norms import Norm, norm_layer
from jaxstruct.models.deeplab import DeepLab
from jaxstruct.models.layers import Conv
from jaxstruct.models.resnet import ResNet, torchvision_resnet_name
from jaxstruct.models.torchvision import from_torchvision

_RATES = (12, 24, 36)
_PARTS = {"head": "classifier", "auxiliary": "aux_classifier"}
_LAYERS = {
    "hidden.conv": "0",
    "hidden.norm": "1",
    "pooled.conv": f"0.convs.{len(_RATES) + 1}.1",
    "pooled.norm": f"0.convs.{len(_RATES) + 1}.2",
    "project.conv": "0.project.0",
    "project.norm": "0.project.1",
    "smooth.conv": "1",
    "smooth.norm": "2",
    "score": "4",
} | {
    f"branch{i}.{layer}": f"0.convs.{i}.{j}"
    for i in range(len(_RATES) + 1)
    for j, layer in enumerate(("conv", "norm"))
}


class FCNHead(nn.Module):
    """A convolution of 3x3 to a quarter of the channels, its norm, and scores.

    Called with a map [B, h, w, C] it returns scores [B, h, w, classes].

    Attributes:
        classes: how many.
        dropout: the rate in front of the scores, in training.
        norm, axis_name, dtype: as in `ResNet`.

    Source: torchvision.models.segmentation.fcn, as of 0.29.
    """

    classes: int
    dropout: float = field(default=0.1, kw_only=True)
    norm: Norm = field(default="batch", kw_only=True)
    axis_name: str | None = field(default=None, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the scores; with train, of units dropped by the key "dropout"."""
        options = self.norm, self.axis_name, self.dtype
        x = _Normed(x.shape[-1] // 4, 3, 1, *options, name="hidden")(x, train=train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Conv(self.classes, (1, 1), dtype=self.dtype, name="score")(x)


class DeepLabV3Head(nn.Module):
    """DeepLab v3's pyramid: five branches side by side, one of them the mean of the map; scores.

    Called with a map [B, h, w, C] it returns scores [B, h, w, classes]. The branches are a
    convolution of 1x1, dilated ones of 3x3, and a convolution of the mean of the whole map.

    Attributes:
        classes: how many.
        rates: of the dilated branches; 12, 24, 36 for a map of stride 8.
        features: channels of each branch and behind them.
        dropout: the rate behind the branches, in training.
        norm, axis_name, dtype: as in `ResNet`.

    Source: Chen et al. 2017, Rethinking atrous convolution for semantic image segmentation,
    section 3.3 and figure 5; the convolution of 3x3 behind it is that of
    torchvision.models.segmentation.deeplabv3, as of 0.29.
    """

    classes: int
    rates: tuple[int, ...] = field(default=_RATES, kw_only=True)
    features: int = field(default=256, kw_only=True)
    dropout: float = field(default=0.5, kw_only=True)
    norm: Norm = field(default="batch", kw_only=True)
    axis_name: str | None = field(default=None, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the scores; with train, of units dropped by the key "dropout"."""

        def normed(x: jax.Array, name: str, size: int = 1, rate: int = 1) -> jax.Array:
            options = self.norm, self.axis_name, self.dtype
            return _Normed(self.features, size, rate, *options, name=name)(x, train=train)

        branches = [normed(x, "branch0")]
        for i, rate in enumerate(self.rates, 1):
            branches.append(normed(x, f"branch{i}", 3, rate))
        pooled = normed(jnp.mean(x, (1, 2), keepdims=True), "pooled")
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        x = normed(jnp.concatenate(branches, -1), "project")
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = normed(x, "smooth", 3)
        return Conv(self.classes, (1, 1), dtype=self.dtype, name="score")(x)


class _Normed(nn.Module):
    """A convolution without bias, its norm, and ReLU."""

    features: int
    size: int
    rate: int
    norm: Norm
    axis_name: str | None
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Conv(
            self.features,
            (self.size, self.size),
            kernel_dilation=self.rate,
            use_bias=False,
            kernel_init=nn.initializers.he_normal(),
            dtype=self.dtype,
            name="conv",
        )(x)
        norm = norm_layer(
            self.norm, train=train, epsilon=1e-5, axis_name=self.axis_name, dtype=self.dtype
        )
        return nn.relu(norm(name="norm")(x))


def fcn_resnet(
    classes: int = 21,
    *,
    depth: int = 50,
    auxiliary: bool = True,
    norm: Norm = "batch",
    axis_name: str | None = None,
    dtype: Dtype | None = None,
) -> DeepLab:
    """torchvision's fcn_resnet50 or fcn_resnet101: a dilated ResNet and `FCNHead`.

    It is a `DeepLab` module, since it keeps a stride of 8 and has no upconvolution; `FCN` is the
    paper's network. Images are normalised as ImageNet's, mean .485, .456, .406 and deviation .229,
    .224, .225 of pixels in [0, 1].

    Args:
        classes: how many, the background among them.
        depth: of the ResNet.
        auxiliary: whether there is a head on conv4, too; `DeepLab.outputs` has its logits.
        norm: of the ResNet and of the heads.
        axis_name: devices over which batch norm takes its statistics in training.
        dtype: the compute dtype; None is what images and parameters promote to.

    Source: torchvision.models.segmentation, as of 0.29; Long et al. 2015.
    """
    return _network(FCNHead, classes, depth, auxiliary, norm, axis_name, dtype)


def deeplabv3_resnet(
    classes: int = 21,
    *,
    depth: int = 50,
    auxiliary: bool = True,
    norm: Norm = "batch",
    axis_name: str | None = None,
    dtype: Dtype | None = None,
) -> DeepLab:
    """torchvision's deeplabv3_resnet50 or deeplabv3_resnet101: a dilated ResNet, `DeepLabV3Head`.

    Images and arguments are those of `fcn_resnet`.

    Source: torchvision.models.segmentation, as of 0.29; Chen et al. 2017.
    """
    return _network(DeepLabV3Head, classes, depth, auxiliary, norm, axis_name, dtype)


def _network(
    head: Any,
    classes: int,
    depth: int,
    auxiliary: bool,
    norm: Norm,
    axis_name: str | None,
    dtype: Dtype | None,
) -> DeepLab:
    options: Any = {"norm": norm, "axis_name": axis_name, "dtype": dtype}
    return DeepLab(
        ResNet(depth, output_stride=8, **options),
        head(classes, **options),
        auxiliary=FCNHead(classes, **options) if auxiliary else None,
        padded=False,
    )


def segmentation_from_torchvision(
    weights: Mapping[str, ArrayLike], *, depth: int = 50
) -> tuple[DeepLab, Any]:
    """A network with the weights of torchvision's fcn_resnet50 or deeplabv3_resnet50.

    Args:
        weights: arrays by name, of `data.read_weights`. Which of the two it is, the number of
            classes, and whether there is an auxiliary head, is that of the weights.
        depth: of the ResNet, 101 for the files of resnet101.

    Returns:
        the module and its variables.

    Raises:
        ValueError: a name is missing, has another shape, or belongs to another network.
    """
    last = "classifier.4.bias"
    if last not in weights:
        raise ValueError(
            f"weights have no {last}, expected those of fcn_resnet50 or deeplabv3_resnet50"
        )
    make = deeplabv3_resnet if "classifier.0.convs.0.0.weight" in weights else fcn_resnet
    auxiliary = any(name.startswith("aux_classifier.") for name in weights)
    model = make(np.shape(weights[last])[0], depth=depth, auxiliary=auxiliary)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    named = torchvision_segmentation_name
    return model, from_torchvision(shapes, weights, named, left_out=())


def torchvision_segmentation_name(path: Sequence[str]) -> str:
    """What torchvision calls a variable of `fcn_resnet` or `deeplabv3_resnet`.

    For `from_torchvision` and `place_weights`.

    Args:
        path: its place, e.g. ("params", "head", "branch1", "conv", "kernel").

    Returns:
        e.g. "classifier.0.convs.1.0.weight".

    Source: torchvision.models.segmentation, as of 0.29.
    """
    collection, part, *layers, kind = path
    if part == "trunk":
        return f"backbone.{torchvision_resnet_name((collection, *layers, kind))}"
    layer = ".".join(layers)
    last = torchvision_resnet_name((collection, kind))
    return f"{_PARTS.get(part, part)}.{_LAYERS.get(layer, layer)}.{last}"
