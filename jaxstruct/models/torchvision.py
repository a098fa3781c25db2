"""Weights of torchvision's models for the ones here that have the same layers.

What may be added: another rule by which PyTorch stores a parameter.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_NAMED = 6  # layers that a line names; of more it tells the number
_CLASSIFIERS = ("fc", "classifier", "_conv_head", "_bn1", "_fc")
"""What ResNet, VGG and EfficientNet-lite have behind their last map."""


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
        left_over = _layers(map(_layer, self.left_over))
        return (
            f"{len(self.loaded)} of {total} arrays loaded; initialised: {initialised}; "
            f"left over: {left_over}"
        )


def from_torchvision(
    variables: Any,
    weights: Mapping[str, ArrayLike],
    name: Callable[[Sequence[str]], str],
    *,
    left_out: Sequence[str] | None = _CLASSIFIERS,
) -> Any:
    """Variables with the values of a torchvision model: renamed, their axes in linen's order.

    Args:
        variables: what the model's init returns, or their shapes, `jax.eval_shape` of it.
        weights: arrays by name: of `data.read_weights`, or
            `{name: t.numpy() for name, t in model.state_dict().items()}`.
        name: of a variable's place, `torchvision_vgg_name` or `torchvision_resnet_name`.
        left_out: layers that weights may have and the variables lack, by what their names begin
            with: by default the classifiers of the networks here. For `ResNet(50, last="conv4")`
            they are ("layer4", "fc"); None is whatever the variables lack. PyTorch's counters of
            batches (num_batches_tracked) may always be there.

    Returns:
        a tree like variables, in their dtypes.

    Raises:
        ValueError: a name is missing from weights, or has another shape; or weights have a layer
            that the variables lack, as those of a deeper network do, and that is not in left_out.
        TypeError: left_out is a single name.

    Source: convolutions are [D, C, kh, kw] there, and linear layers [D, C].
    """
    if isinstance(left_out, str):
        raise TypeError(f"got left_out {left_out!r}, expected a sequence of names")
    taken: list[str] = []

    def filled(path: Any, variable: Any) -> jax.Array:
        known = name(_place(path))
        if known not in weights:
            raise ValueError(
                _renaming(variables, weights, name)
                or f"weights have no {known}, expected one for {variable.shape}"
            )
        taken.append(known)
        return _converted(known, weights[known], variable)

    placed = jax.tree_util.tree_map_with_path(filled, variables)
    begins = tuple(f"{layer}." for layer in left_out or ())
    more = [n for n in _left_over(weights, taken) if not f"{n}.".startswith(begins)]
    if more and left_out is not None:
        raise ValueError(
            f"weights have layers that the variables lack: {_layers(_layer(n) for n in more)}; "
            "expected those of the same network, or these layers in left_out (None: all of them)"
        )
    return placed


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
        ValueError: an array has another shape than its variable; a variable without an array is a
            mere shape, of `jax.eval_shape`; or there are weights, and no variable has one.
    """
    loaded: list[str] = []
    initialised: list[tuple[str, ...]] = []

    def filled(path: Any, variable: Any) -> jax.Array:
        place = _place(path)
        known = name(place)
        if known in weights:
            loaded.append(known)
            return _converted(known, weights[known], variable)
        if isinstance(variable, jax.ShapeDtypeStruct):
            raise ValueError(
                _renaming(variables, weights, name)
                or f"{'.'.join(place)} is a shape and weights have no {known}, expected an initial "
                "value, of init"
            )
        initialised.append(place)
        return variable

    placed = jax.tree_util.tree_map_with_path(filled, variables)
    if weights and not loaded:
        raise ValueError(
            _renaming(variables, weights, name)
            or f"weights have {_layers(map(_layer, weights))}, of which no variable has a name, "
            f"expected some of {_layers(_layer(name(place)) for place in initialised)}"
        )
    left_over = tuple(_left_over(weights, loaded))
    return PlacedWeights(placed, tuple(loaded), tuple(initialised), left_over)


def _converted(known: str, given: ArrayLike, variable: Any) -> jax.Array:
    array, shape = np.asarray(given), tuple(variable.shape)
    theirs = (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]
    # A linear layer behind a map is a convolution of the map's size here.
    if len(shape) == 4 and array.shape == (theirs[0], math.prod(theirs[1:])):
        array = array.reshape(theirs)
    if array.shape != theirs:
        raise ValueError(
            f"{known} has shape {np.shape(given)}, expected {shape} in linen's order; "
            f"place_weights, of weights without {known}, keeps the initial value"
        )
    array = array.transpose(2, 3, 1, 0) if len(shape) == 4 else array.T
    return jnp.asarray(array, variable.dtype)


def _renaming(variables: Any, weights: Mapping[str, Any], name: Callable[..., str]) -> str:
    """How to get at arrays that weights have under other names; empty where they have not."""
    nested = next((n for n, value in weights.items() if isinstance(value, Mapping)), None)
    if nested is not None:
        return f"weights are no arrays but hold a dictionary: pass weights[{nested!r}]"
    wanted = {name(_place(path)) for path, _ in jax.tree_util.tree_leaves_with_path(variables)}
    most = len(wanted) // 2 + 1
    if sum(n.replace("module.", "") in wanted - {n} for n in weights) >= most:
        return (
            "weights have names with 'module.', of torch.nn.DataParallel, expected them without: "
            "{n.replace('module.', ''): a for n, a in weights.items()}"
        )
    before = Counter(n.removesuffix(k) for k in wanted for n in weights if n.endswith(f".{k}"))
    for prefix, count in before.most_common(1):
        if count >= most:
            return (
                f"weights have names that begin with {prefix!r}, expected them without: "
                f"{{n.removeprefix({prefix!r}): a for n, a in weights.items()}}"
            )
    return ""


def _place(path: Any) -> tuple[str, ...]:
    return tuple(key.key for key in path)


def _left_over(weights: Iterable[str], taken: Iterable[str]) -> Iterator[str]:
    known = set(taken)
    return (n for n in weights if n not in known and not n.endswith("num_batches_tracked"))


def _layer(name: str) -> str:
    """layer1.0.conv1 of layer1.0.conv1.weight."""
    return name.rpartition(".")[0] or name


def _layers(names: Iterable[str]) -> str:
    """The first layers by name, each once, and how many more there are."""
    layers = [
        name if len(name) <= 40 else f"...{name[-37:].lstrip('.')}" for name in dict.fromkeys(names)
    ]
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    return ", ".join(layers[:_NAMED]) + more if layers else "none"
