"""Feature pyramids (Lin et al., CVPR 2017): maps of one depth on every scale of a backbone.

What may be added: another neck between a backbone and what reads its maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype

from jaxstruct import ops
from jaxstruct.models.layers import Conv


class FPN(nn.Module):
    """The top-down path: each map 1x1-convolved, plus the coarser one enlarged, then smoothed 3x3.

    Called with maps {name: [B, H, W, C]} of falling size it returns maps of the same names and
    sizes with `features` channels, and one more, "pooled": every second cell of the coarsest.
    Enlarging takes the nearest cell, also for sizes that are no doubles.

    Attributes:
        features: channels of every map.
        dtype: the compute dtype; None is what maps and parameters promote to.

    Source: Lin et al. 2017, section 3; biases, initial values and "pooled" are torchvision's.
    """

    features: int = 256
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, maps: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns the maps, the finest first."""
        names = list(maps)
        coarser: jax.Array | None = None
        found = {}
        for i in reversed(range(len(names))):
            x = self._conv(1, f"inner_{i}")(maps[names[i]])
            coarser = x if coarser is None else x + _nearest(coarser, x.shape[1:3])
            found[names[i]] = self._conv(3, f"layer_{i}")(coarser)
        pyramid = {name: found[name] for name in names}
        return {**pyramid, "pooled": ops.max_pool(pyramid[names[-1]], 1, stride=2)}

    def _conv(self, size: int, name: str) -> Conv:
        uniform = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
        return Conv(
            self.features,
            (size, size),
            padding=size // 2,
            kernel_init=uniform,
            dtype=self.dtype,
            name=name,
        )


def _nearest(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """[B, h, w, C] enlarged to a size (height, width); row i comes from floor(i h / height)."""
    if [2 * n for n in x.shape[1:3]] == list(size):
        return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    rows, columns = (np.arange(n) * s // n for n, s in zip(size, x.shape[1:3], strict=True))
    return x[:, rows][:, :, columns]


def torchvision_fpn_name(path: Sequence[str]) -> str:
    """What torchvision calls a parameter of `FPN`, e.g. "inner_blocks.0.0.weight".

    `path` is its place, of which the last two are read: ("params", "neck", "inner_0", "kernel").

    Source: torchvision.ops.feature_pyramid_network, as of 0.29.
    """
    *_, layer, kind = path
    block, _, number = layer.partition("_")
    return f"{block}_blocks.{number}.0.{'weight' if kind == 'kernel' else kind}"
