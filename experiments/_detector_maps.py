"""Maps of a backbone that learns nothing: computed once an image, for all steps and scores.

He et al. 2014, section 3: the layers behind the pyramid alone learn.

What may be added: another use of known maps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _canvases, _checks
from experiments._detector_evaluation import Detector, Sweep, maps_of
from jaxstruct.training import (
    Batches,
    augment_each,
    make_prediction,
    reads_in_order,
    shuffled_reads,
)

Rows = Mapping[str, np.ndarray]  # the examples of a split, with a map in place of the image


def known(
    detector: Detector, images: Batches, size: int, total: int, kept: dict[bytes, Rows]
) -> Callable[[Any], Rows]:
    """A function of the network's variables: the rows of a sweep, computed for one backbone once.

    A row's map [S, S, D] holds both orientations of the canvas; beyond the image's own it is 0. The
    sweep is of `size` images; its rows are in `kept`, and maps of `total` images are kept in all.
    The function raises RunError for maps beyond the memory.
    """
    side = max(detector.canvas) // detector.model.backbone.strides()[detector.model.levels[0]]

    def predict(variables: Any, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        (found,) = maps_of(detector.model, variables, batch).values()
        below, beside = (side - length for length in found.shape[1:3])
        others = {name: x for name, x in batch.items() if name != "image"}
        return {"map": jnp.pad(found, ((0, 0), (0, below), (0, beside), (0, 0))), **others}

    sweep = make_prediction(predict, compilations=_canvases.shapes_of(detector.canvas))

    def rows(variables: Any) -> Rows:
        needed = {**variables, "params": {"backbone": variables["params"]["backbone"]}}
        mark = _digest(needed)
        if mark not in kept:
            kept.clear()
            one = jax.eval_shape(predict, needed, dict(images.spec), None)["map"]
            check_memory(total, size, one.shape[1:], one.dtype.itemsize)
            print(f"maps of {size:,} images, computed once")
            kept[mark] = sweep(needed, images)
        return kept[mark]

    return rows


def check_memory(total: int, size: int, shape: tuple[int, ...], number: int) -> None:
    """Raises RunError where so many maps fill the memory, with a copy of those that are joined.

    `total` maps are kept, and `size` joined at once; `number` is the size of a number in bytes.
    """
    _checks.check_memory(
        (total + size) * math.prod(shape) * number,
        f"maps of {total:,} images, {'x'.join(map(str, shape))} numbers each,",
        "make the canvas smaller, or give --maps each_step",
    )


def _digest(tree: Any) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(tree):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.digest()


def in_order(rows: Callable[[Any], Rows], batch_size: int) -> Sweep:
    """One sweep through known rows."""

    def sweep(variables: Any) -> Batches:
        found = rows(variables)
        read = lambda indices: {name: x[indices] for name, x in found.items()}
        return reads_in_order(read, len(found["map"]), batch_size, like=read([0]))

    return sweep


def shuffled(
    rows: Callable[[Any], Rows],
    mirrored: Callable[[Any], Rows],
    batch_size: int,
    *,
    flip: float,
    seed: int,
) -> Sweep:
    """Batches for training, of known rows: of the `mirrored` images with probability `flip`."""

    def batches(variables: Any) -> Batches:
        plain = rows(variables)
        other = mirrored(variables) if flip else plain

        def one(draw: np.random.Generator, example: dict[str, Any]) -> dict[str, Any]:
            chosen = other if draw.random() < flip else plain
            return {name: x[example["row"]] for name, x in chosen.items()}

        read = lambda indices: {"row": np.asarray(indices)}
        return shuffled_reads(
            read,
            len(plain["map"]),
            batch_size,
            like=read([0]),
            seed=seed,
            augment=augment_each(one),
        )

    return batches
