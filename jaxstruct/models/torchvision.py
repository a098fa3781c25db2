"""Weights of torchvision's models for the ones here that have the same layers.

What may be added: another rule by which PyTorch stores a parameter.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_NAMED = 6  # layers that a line names; of more it tells the number


class PlacedWeights(NamedTuple):
    """Variables of which some have trained values; as text, one line that says which.

    Attributes:
        variables: a tree like the one that was given, in its dtypes.
        loaded: the names of the arrays that were taken.
        initialised: the places of the variables that kept their initial values, e.g.
            ("params", "head", "fc6", "kernel").
        left_over: the names of the arrays that no variable took. PyTorch's counters of batches
            (num_batches_tracked), which normalise nothing, are not among them.
    """

    variables: Any
    loaded: tuple[str, ...]
    initialised: tuple[tuple[str, ...], ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        """By layers: 26 of 30 arrays loaded; initialised: head.fc6, head.fc7; left over: none."""
        total = len(self.loaded) + len(self.initialised)
        initialised = _layers(".".join(place[1:-1]) or place[-1] for place in self.initialised)
        left_over = _layers(name.rpartition(".")[0] or name for name in self.left_over)
        return (
            f"{len(self.loaded)} of {total} arrays loaded; initialised: {initialised}; "
            f"left over: {left_over}"
        )


def from_torchvision(
    variables: Any, weights: Mapping[str, ArrayLike], name: Callable[[Sequence[str]], str]
) -> Any:
    """Variables with the values of a torchvision model: renamed, their axes in linen's order.

    Args:
        variables: what the model's init returns, or their shapes, `jax.eval_shape` of it.
        weights: arrays by name: of `data.read_weights`, or
            `{name: t.numpy() for name, t in model.state_dict().items()}`. What the variables have
            no place for is left out.
        name: of a variable's place, `torchvision_vgg_name` or `torchvision_resnet_name`.

    Returns:
        a tree like variables, in their dtypes.

    Raises:
        ValueError: a name is missing from weights, or has another shape.

    Source: convolutions are [D, C, kh, kw] there, and linear layers [D, C].
    """

    def filled(path: Any, variable: Any) -> jax.Array:
        known = name([key.key for key in path])
        if known not in weights:
            raise ValueError(f"weights have no {known}, expected one for {variable.shape}")
        return _converted(known, weights[known], variable)

    return jax.tree_util.tree_map_with_path(filled, variables)


def place_weights(
    variables: Any, weights: Mapping[str, ArrayLike], name: Callable[[Sequence[str]], str]
) -> PlacedWeights:
    """`from_torchvision` for the variables that have an array; the others keep their values.

    Args:
        variables: what the model's init returns.
        weights: arrays by name, as for `from_torchvision`. A layer that should keep its initial
            values although weights have its name, as the last one for other classes, is left out
            of them.
        name: of a variable's place, as for `from_torchvision`.

    Returns:
        the variables, and what was loaded, initialised and left over; printed, it is one line.

    Raises:
        ValueError: an array has another shape than its variable, or a variable without an array is
        a mere shape, of `jax.eval_shape`.
    """
    loaded: list[str] = []
    initialised: list[tuple[str, ...]] = []

    def filled(path: Any, variable: Any) -> jax.Array:
        place = tuple(key.key for key in path)
        known = name(place)
        if known in weights:
            loaded.append(known)
            return _converted(known, weights[known], variable)
        if isinstance(variable, jax.ShapeDtypeStruct):
            raise ValueError(
                f"{'.'.join(place)} is a shape and weights have no {known}, expected an initial "
                "value, of init"
            )
        initialised.append(place)
        return variable

    placed = jax.tree_util.tree_map_with_path(filled, variables)
    taken = set(loaded)
    left_over = (n for n in weights if n not in taken and not n.endswith("num_batches_tracked"))
    return PlacedWeights(placed, tuple(loaded), tuple(initialised), tuple(left_over))


def _converted(known: str, given: ArrayLike, variable: Any) -> jax.Array:
    array = np.asarray(given)
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
            f"{known} has shape {np.shape(given)}, expected {shape} in linen's order; "
            f"place_weights, of weights without {known}, keeps the initial value"
        )
    return jnp.asarray(array, variable.dtype)


def _layers(names: Iterable[str]) -> str:
    """The first layers by name, each once, and how many more there are."""
    layers = [
        name if len(name) <= 40 else f"...{name[-37:].lstrip('.')}" for name in dict.fromkeys(names)
    ]
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    return ", ".join(layers[:_NAMED]) + more if layers else "none"
