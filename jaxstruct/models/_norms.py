"""Norms by name: what networks whose layers have torchvision's names put behind convolutions.

What may be added: another norm that several networks offer.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jax import lax

Norm = Literal["batch", "frozen", "group"]


def norm_layer(
    norm: Norm, *, train: bool, epsilon: float, axis_name: str | None, dtype: Dtype | None
) -> Callable[..., nn.Module]:
    """The layer of a name, to be made with a name of its own. Raises ValueError for another norm.

    With "frozen", batch norm is by constant statistics, and no variable of it is a parameter; with
    "group" it is by 32 groups of channels of each image.
    """
    norms: dict[str, Callable[..., nn.Module]] = {
        "batch": partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=epsilon,
            axis_name=axis_name,
            dtype=dtype,
        ),
        "frozen": partial(_FrozenBatchNorm, epsilon, dtype=dtype),
        "group": partial(nn.GroupNorm, 32, epsilon=epsilon, dtype=dtype),
    }
    if norm not in norms:
        raise ValueError(f"got norm {norm!r}, expected one of {', '.join(norms)}")
    return norms[norm]


class _FrozenBatchNorm(nn.Module):
    """Batch norm whose scale, bias and statistics are constants: none of them is a parameter."""

    epsilon: float
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        initial = {"scale": jnp.ones, "bias": jnp.zeros, "mean": jnp.zeros, "var": jnp.ones}
        scale, bias, mean, var = (
            lax.stop_gradient(
                self.variable("batch_stats", name, fill, x.shape[-1], jnp.float32).value
            )
            for name, fill in initial.items()
        )
        dtype = nn.dtypes.canonicalize_dtype(x, scale, dtype=self.dtype)
        factor = scale * lax.rsqrt(var + self.epsilon)
        factor, shift = (v[None, None, None] for v in (factor, bias - mean * factor))
        return (x * factor + shift).astype(dtype)
