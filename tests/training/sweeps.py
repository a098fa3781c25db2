"""Sets and states that evaluations sweep through."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxstruct.metrics import Mean
from jaxstruct.training import (
    Batches,
    State,
    batches_in_order,
    parallel,
)

ALL = [1, 2, 8]


def placed(devices, w=2.0, **others):
    """A state as the loop hands it to an evaluation: one copy, on all of the devices."""
    params = {"w": jnp.full(3, w), **others}
    state = State.create(jax.random.key(3), params, {"m": jnp.zeros(3)})
    return parallel.unstack(parallel.stack(state, devices))


def examples(size):
    rng = np.random.default_rng(size)
    return {
        "image": rng.integers(0, 256, (size, 2, 2, 1), np.uint8),
        "label": rng.integers(0, 3, size, np.int32),
        "has_label": rng.random(size) < 0.6,
    }


def count(state, batch, valid, keys):
    """A mean over the valid examples, and one over those that have a label, too."""
    brightness = state.params["w"][0] * batch["image"].mean((1, 2, 3))
    labelled = valid & batch["has_label"]
    return {
        "brightness": Mean.of(brightness, valid),
        "zeros": Mean.of(batch["label"] == 0, labelled),
        "examples": Mean(valid.sum(), jnp.float32(1) / parallel.device_count()),
    }


def streamed(arrays, batch_size):
    made = batches_in_order(arrays, batch_size)
    return Batches(made.spec, made.indices, lambda i: {k: x[i] for k, x in arrays.items()})


def canvases():
    """Landscape and portrait images, and the mean brightness of them all."""
    rng = np.random.default_rng(0)
    wide, high = rng.integers(0, 256, (5, 2, 4, 1), np.uint8), rng.integers(0, 256, (3, 4, 2, 1))
    high = high.astype(np.uint8)
    mean = np.mean([*wide.mean((1, 2, 3)), *high.mean((1, 2, 3))]) / 255
    return batches_in_order({"image": wide}, 2), batches_in_order({"image": high}, 2), mean


def brightness(state, batch, valid, keys):
    return {"brightness": Mean.of(batch["image"].mean((1, 2, 3)), valid)}


def changing(*shapes):
    """Batches of 2 from a reader: images of one shape, then of the next."""
    spec = {"image": jax.ShapeDtypeStruct((2, *shapes[0]), np.float32)}

    def read(indices):
        return {"image": np.full((len(indices), *shapes[indices[0] // 2]), 51, np.uint8)}

    indices = lambda step: np.arange(2 * step, min(2 * step + 2, 2 * len(shapes)))
    return Batches(spec, indices, read)


def drawing(state, batch, keys):
    noise = jax.vmap(lambda key: jax.random.bits(key, dtype=jnp.uint8))(keys)
    return {"i": batch["i"], "noise": noise, "pair": jnp.stack([batch["i"]] * 2, 1) * 2}
