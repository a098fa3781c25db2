"""DeepLab (Chen et al., ICLR 2015 and PAMI 2018): dilated networks that keep a stride of 8.

What may be added: another head of scores on a dilated map.
"""

from dataclasses import field

import jax
from flax import linen as nn
from flax.typing import Dtype

from jaxstruct.models._pixels import to_pixels, whole_strides
from jaxstruct.models.layers import Conv
from jaxstruct.models.vgg import VGGHead


class DeepLab(nn.Module):
    """A trunk and a head of scores on its last map, interpolated to the pixels.

    Called with images [B, H, W, 3] of any size, normalised as the trunk's were in its training, it
    returns logits [B, H, W, classes], in float32 at least. The stride of the scores is that of the
    trunk's last map, 8 in the papers:

        DeepLab(VGG(output_stride=8), LargeFOV(21))   # DeepLab-LargeFOV
        DeepLab(VGG(output_stride=8), ASPP(21))       # DeepLab v2, ASPP-L
        DeepLab(ResNet(101, output_stride=8), ASPP(21, hidden=None))

    As in `FCN`, images are padded once to multiples of that stride, below and on the right, by
    repeating their last row and column, and the logits are cut to the images' size.

    Attributes:
        trunk: a module that returns maps by name and has their `strides()`: `VGG`, `ResNet`,
            `EfficientNetLite0`.
        head: a module from the last map to scores [B, h, w, classes]: `LargeFOV`, `ASPP`, or
            torchvision's `FCNHead` and `DeepLabV3Head`.
        auxiliary: another head, which helps in training, for the map `auxiliary_map`; None.
        auxiliary_map: a map of the trunk.
        padded: whether images are padded; if not, scores are interpolated to the images' size from
            maps of cells that are not whole, as torchvision does.

    Raises:
        ValueError: when called, for a map that the trunk lacks, or images that are not
            [B, H, W, C].

    Source: Chen et al. 2015, Semantic image segmentation with deep convolutional nets and fully
    connected CRFs, section 3; Chen et al. 2018, DeepLab, section 3.
    """

    trunk: nn.Module
    head: nn.Module
    auxiliary: nn.Module | None = field(default=None, kw_only=True)
    auxiliary_map: str = field(default="conv4", kw_only=True)
    padded: bool = field(default=True, kw_only=True)

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the logits; with train, of units dropped by the key "dropout".

        Batch norm is by the batch then.
        """
        return self.outputs(images, train=train)["out"]

    def outputs(self, images: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
        """The logits by torchvision's names: "out", and "aux" of the auxiliary head, if any."""
        strides = self.trunk.strides()
        last = list(strides)[-1]
        heads = {"out": (last, self.head)}
        if self.auxiliary is not None:
            if self.auxiliary_map not in strides:
                raise ValueError(
                    f"got auxiliary_map {self.auxiliary_map!r}, expected one of "
                    f"{', '.join(strides)}"
                )
            heads["aux"] = self.auxiliary_map, self.auxiliary
        stride = strides[last]
        maps = self.trunk(whole_strides(images, stride if self.padded else 1), train=train)
        size = images.shape[1:3]
        return {
            name: to_pixels(head(maps[of], train=train), strides[of] if self.padded else None, size)
            for name, (of, head) in heads.items()
        }


class LargeFOV(nn.Module):
    """fc6 as a dilated convolution of 3x3, fc7 of 1x1, and scores: a large field of view.

    Called with a map [B, h, w, C] it returns scores [B, h, w, classes].

    Attributes:
        classes: how many.
        rate: the distance of fc6's taps; 12 sees 224 pixels of an image at stride 8.
        hidden: units of fc6 and fc7; None scores with the dilated convolution itself, as DeepLab v2
            does on ResNet.
        dropout: the rate behind fc6 and fc7, in training.
        dtype: the compute dtype; None is what the map and the parameters promote to.

    Source: Chen et al. 2015, section 3.1 and table 1 (DeepLab-LargeFOV, whose fc6 and fc7 are
    called fc6 and fc7); Chen et al. 2018, section 3.1.
    """

    classes: int
    rate: int = field(default=12, kw_only=True)
    hidden: int | None = field(default=1024, kw_only=True)
    dropout: float = field(default=0.5, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the scores; with train, of units dropped by the key "dropout"."""
        size = 3 if self.hidden is None else 1
        if self.hidden is not None:
            x = VGGHead(
                self.hidden,
                size=3,
                dilation=self.rate,
                dropout=self.dropout,
                padding="SAME",
                dtype=self.dtype,
                name="fc",
            )(x, train=train)
        return Conv(
            self.classes,
            (size, size),
            kernel_dilation=self.rate if size > 1 else 1,
            kernel_init=nn.initializers.normal(0.01),
            dtype=self.dtype,
            name="score",
        )(x)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: the sum of the scores of `LargeFOV` at several rates.

    Called with a map [B, h, w, C] it returns scores [B, h, w, classes].

    Attributes:
        classes: how many.
        rates: the distances of the taps; 6, 12, 18, 24 in ASPP-L, 2, 4, 8, 12 in ASPP-S.
        hidden, dropout, dtype: as in `LargeFOV`.

    Source: Chen et al. 2018, section 3.2 and figure 7.
    """

    classes: int
    rates: tuple[int, ...] = field(default=(6, 12, 18, 24), kw_only=True)
    hidden: int | None = field(default=1024, kw_only=True)
    dropout: float = field(default=0.5, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the scores; with train, of units dropped by the key "dropout"."""
        if not self.rates:
            raise ValueError("got no rates, expected one at least")
        total: jax.Array | None = None
        for rate in self.rates:
            scores = LargeFOV(
                self.classes,
                rate=rate,
                hidden=self.hidden,
                dropout=self.dropout,
                dtype=self.dtype,
                name=f"rate{rate}",
            )(x, train=train)
            total = scores if total is None else total + scores
        assert total is not None
        return total
