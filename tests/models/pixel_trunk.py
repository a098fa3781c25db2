"""A trunk whose maps say where their cells are, and images that say where their pixels are."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn


class Means(nn.Module):
    """Maps map8, map16, map32: the mean of each cell's pixels. What is no whole cell is dropped."""

    last: int = 32

    def strides(self):
        return {f"map{s}": s for s in (8, 16, 32) if s <= self.last}

    def __call__(self, images, *, train=False):
        return {name: nn.avg_pool(images, (s, s), (s, s)) for name, s in self.strides().items()}


def ramps(height, width):
    """[1, height, width, 3]: the row, the column, and 1, of the centre of each pixel."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.stack([rows, columns, np.ones_like(rows)], -1)[None].astype(np.float32)


def inside(logits, margin):
    """The difference to the ramps, where the answer is no extrapolation, nor sees what is added.

    `margin` is how many pixels of the border are left out.
    """
    height, width = logits.shape[1:3]
    part = np.s_[:, margin : height - margin, margin : width - margin]
    return np.abs(logits - ramps(height, width))[part]


def with_identity(variables, layer):
    """The variables with a layer of 1x1 that copies three channels."""
    params = variables["params"]
    copying = params[layer] | {"kernel": jnp.eye(3).reshape(1, 1, 3, 3)}
    return {**variables, "params": params | {layer: copying}}
