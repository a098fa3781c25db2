"""The maps that a network returns by name, up to its last one, and what a classifier makes of it.

What may be added: another rule that all networks follow that return maps by name.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

_CELLS = 7  # of the last map of 224 pixels


def until(last: str | None, strides: dict[str, int]) -> dict[str, int]:
    """The strides of the maps up to `last`, of all for None; ValueError for another name."""
    if last is None:
        return strides
    names = list(strides)
    if last not in strides:
        raise ValueError(f"got last {last!r}, expected one of {', '.join(names)}")
    return {name: strides[name] for name in names[: names.index(last) + 1]}


def mean_of(x: jax.Array, *, convolutional: bool) -> jax.Array:
    """The mean [B, C] of a last map [B, h, w, C]; convolutional, of each 7x7 cells of it.

    These are [B, h - 6, w - 6, C]. Raises ValueError for a map that is smaller than 7x7 then.
    """
    if not convolutional:
        return jnp.mean(x, (1, 2))
    if min(x.shape[1:3]) < _CELLS:
        raise ValueError(
            f"got a last map of {x.shape[1]}x{x.shape[2]} cells to slide over, expected {_CELLS}x"
            f"{_CELLS} at least, as of images of 224x224 pixels"
        )
    return nn.avg_pool(x, (_CELLS, _CELLS), (1, 1))
