"""Classifiers as convolutions: what their dense layers become, so that a network slides.

What may be added: another layer that is a convolution of the size of what it sees.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp


def convolutionalize(
    variables: Mapping[str, Any], windows: Mapping[str, int | tuple[int, int]] | None = None
) -> dict[str, Any]:
    """A classifier's variables with its dense layers as convolutions; nothing is retrained.

        kernel[i, j, c, d] = dense[(i w + j) C + c, d]

    A dense layer on a map [B, h, w, C] that was flattened by `reshape(B, -1)` is a convolution of
    h x w without padding, and one on a vector is a convolution of 1x1. The network to be called
    with the result has `Conv(features, (h, w), padding="VALID")` in place of the flattening and
    `nn.Dense(features)`, under the same name. Of an image of the size that it was trained on it
    makes the same logits [B, 1, 1, classes]; of a larger one, logits of many windows: those that it
    gives window by window where `slid_windows` says that it does.

    `VGGClassifier`, `ResNetClassifier` and `EfficientNetLite0Classifier` need no conversion: they
    have an option `convolutional`, for the same variables.

    Args:
        variables: what the classifier's init returns, or a part of it.
        windows: (h, w) of the map in front of a dense layer, or an integer for both, by the
            layer's name, e.g. {"fc6": 6}; a dense layer without one sees a vector.

    Returns:
        a tree like variables: each kernel [h w C, D] as [h, w, C, D].

    Raises:
        ValueError: a name that no dense layer has, a size below 1, or one that does not divide what
            the layer sees.

    Source: Long et al. 2015, Fully convolutional networks, section 3.1; Sermanet et al. 2014,
    OverFeat, section 3.5.
    """
    sizes = {
        name: (size, size) if isinstance(size, int) else size
        for name, size in (windows or {}).items()
    }
    found: list[str] = []

    def converted(tree: Mapping[str, Any], layer: str) -> dict[str, Any]:
        out = {}
        for name, value in tree.items():
            if isinstance(value, Mapping):
                out[name] = converted(value, name)
            elif name == "kernel" and jnp.ndim(value) == 2:
                found.append(layer)
                out[name] = _kernel(layer, value, *sizes.get(layer, (1, 1)))
            else:
                out[name] = value
        return out

    result = converted(variables, "")
    if missing := sorted(set(sizes) - set(found)):
        raise ValueError(
            f"got windows of {', '.join(missing)}, expected names of dense layers: "
            f"{', '.join(dict.fromkeys(found)) or 'there is none'}"
        )
    return result


def _kernel(layer: str, dense: Any, height: int, width: int) -> Any:
    rows, depth = dense.shape
    if min(height, width) < 1 or rows % math.prod((height, width)):
        raise ValueError(
            f"got a window of {height}x{width} for {layer}, which sees {rows} numbers, expected "
            "the sides of the map in front of it"
        )
    return dense.reshape(height, width, -1, depth)
