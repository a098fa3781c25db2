"""Weights of torchvision's models for the ones here that have the same layers.

What may be added: another rule by which PyTorch stores a parameter.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def from_torchvision(
    variables: Any, weights: Mapping[str, ArrayLike], name: Callable[[Sequence[str]], str]
) -> Any:
    """Variables with the values of a torchvision model: renamed, their axes in linen's order.

    Args:
        variables: what the model's init returns, or their shapes, `jax.eval_shape` of it.
        weights: arrays by name: `{name: t.numpy() for name, t in model.state_dict().items()}`.
            What the variables have no place for is left out.
        name: of a variable's place, `torchvision_vgg_name` or `torchvision_resnet_name`.

    Returns:
        a tree like variables, in their dtypes.

    Raises:
        ValueError: a name is missing from weights, or has another shape.

    Source: convolutions are [D, C, kh, kw] there, and linear layers [D, C].
    """

    def converted(path: Any, variable: Any) -> jax.Array:
        known = name([key.key for key in path])
        if known not in weights:
            raise ValueError(f"weights have no {known}, expected one for {variable.shape}")
        array = np.asarray(weights[known])
        shape = tuple(variable.shape)
        if len(shape) == 4:
            theirs = (shape[3], shape[2], *shape[:2])
            # A linear layer behind a map is a convolution of the map's size here.
            array = array.reshape(theirs) if array.size == np.prod(shape) else array
            array = array.transpose(2, 3, 1, 0) if array.shape == theirs else array
        elif len(shape) == 2:
            array = array.T
        if array.shape != shape:
            raise ValueError(
                f"{known} has shape {np.shape(weights[known])}, expected {shape} in linen's order"
            )
        return jnp.asarray(array, variable.dtype)

    return jax.tree_util.tree_map_with_path(converted, variables)
