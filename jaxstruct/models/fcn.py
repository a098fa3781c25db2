"""Fully convolutional networks (Long et al., CVPR 2015): a class for each pixel, coarse to fine.

What may be added: another way to join what the strides of a trunk say.
"""

from collections.abc import Mapping
from dataclasses import field
from functools import partial

import jax
from flax import linen as nn
from flax.typing import Dtype

from jaxstruct import ops
from jaxstruct.models._pixels import to_pixels, whole_strides
from jaxstruct.models.layers import Conv, UpConv

_STRIDES = (32, 16, 8)


class FCN(nn.Module):
    """A trunk, scores of its maps at the strides 32, 16 and 8, and learned upconvolutions between.

        s32 = score32(head(map32)),  s16 = up16(s32) + score16(map16),  s8 = up8(s16) + score8(map8)

    Called with images [B, H, W, 3] of any size, normalised as the trunk's were in its training, it
    returns logits [B, H, W, classes], in float32 at least: the finest of the three, interpolated
    bilinearly to the pixels, which is fixed. With finest 32 it is the paper's FCN-32s, with 16
    FCN-16s, with 8 FCN-8s. `streams` has the scores before that.

    Images are padded once to multiples of 32 pixels, below and on the right, by repeating their
    last row and column, and the logits are cut to the images' size: so that all maps have whole
    cells of one another, whatever the size and however the trunk rounds. (The paper pads by 100
    pixels and crops each map.)

    Score layers are convolutions of 1x1 that begin at zero; upconvolutions of 4x4 with stride 2
    begin as bilinear interpolation, which sees zeros around the map. The parts have the same names
    at each `finest`, so that a finer network starts where a coarser one ended:

        params = {**finer.init(key, images)["params"], **coarser_variables["params"]}

    The map of a stride is the trunk's first one that has it, which is pool3 and pool4 of `VGG`; of
    32 it is the trunk's last one. `VGGHead(4096, padding="SAME")` as the head is the paper's fc6
    and fc7, with fewer units a lighter one; `from_torchvision` and `place_weights` fill both parts.

    Attributes:
        trunk: a module that returns maps by name and has their `strides()`, up to 32: `VGG`,
            `ResNet`, `EfficientNetLite0`.
        classes: how many, the background among them.
        finest: the stride of the finest scores, 32, 16 or 8.
        head: a module from the map of stride 32 to what is scored, of the same size; None is the
            map itself.
        dtype: the compute dtype of the layers of this module.

    Raises:
        ValueError: when called, for another `finest`, a trunk that lacks its strides, or images
            that are not [B, H, W, C].

    Source: Long et al. 2015, sections 3.3, 4.1 and 4.2, and figure 3.
    """

    trunk: nn.Module
    classes: int
    finest: int = field(default=32, kw_only=True)
    head: nn.Module | None = field(default=None, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    def setup(self) -> None:
        """Makes the parts that have parameters of this module's own."""
        if self.finest not in _STRIDES:
            raise ValueError(f"got finest {self.finest}, expected 32, 16 or 8")
        zeros = nn.initializers.zeros_init()
        score = partial(Conv, self.classes, (1, 1), kernel_init=zeros, dtype=self.dtype)
        up = partial(
            UpConv,
            self.classes,
            4,
            2,
            use_bias=False,
            kernel_init=lambda key, shape, dtype: ops.bilinear_kernel(2, shape[-1]).astype(dtype),
            dtype=self.dtype,
        )
        self.score32 = score()
        if self.finest <= 16:
            self.up16, self.score16 = up(), score()
        if self.finest <= 8:
            self.up8, self.score8 = up(), score()

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the logits; with train, of units of the head dropped by the key "dropout".

        A trunk with batch norm is by the batch then.
        """
        finest = self.streams(images, train=train)[f"s{self.finest}"]
        return to_pixels(finest, self.finest, images.shape[1:3])

    def streams(self, images: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
        """The scores [B, h, w, classes] of each stride, the coarse first, as the paper's figure 3.

        score32, score16 and score8 are what each map says alone; s32, s16 and s8 have what all
        coarser ones say added. They cover the padded image.
        """
        padded = whole_strides(images, _STRIDES[0])
        maps = self.trunk(padded, train=train)
        names = _names(self.trunk.strides(), self.finest)
        x = maps[names[32]]
        x = x if self.head is None else self.head(x, train=train)
        scores = self.score32(x)
        found = {"score32": scores, "s32": scores}
        for stride in (s for s in _STRIDES[1:] if s >= self.finest):
            up, score = getattr(self, f"up{stride}"), getattr(self, f"score{stride}")
            alone = score(maps[names[stride]])
            scores = up(scores) + alone
            found |= {f"score{stride}": alone, f"s{stride}": scores}
        return found


def _names(strides: Mapping[str, int], finest: int) -> dict[int, str]:
    """The map of each stride from 32 to the finest: the first one, but of 32 the last."""
    found = {stride: name for name, stride in reversed(list(strides.items()))}
    last, stride = list(strides.items())[-1]
    wanted = [s for s in _STRIDES if s >= finest]
    if stride != _STRIDES[0] or not found.keys() >= set(wanted):
        raise ValueError(
            f"got a trunk with maps of strides {', '.join(map(str, sorted(found)))}, the last of "
            f"{stride}, expected {', '.join(map(str, sorted(wanted)))}, the last of 32"
        )
    return {s: found[s] for s in wanted} | {32: last}
