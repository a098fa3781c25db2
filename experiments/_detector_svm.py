"""Class SVMs on what the head of a trained detector says of regions, as R-CNN and SPPnet have them.

What may be added: another choice of the regions that SVMs learn from.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _canvases, _checks
from experiments._backbones import variables_of
from experiments._detector_evaluation import (
    Detector,
    Sweep,
    call,
    evaluated,
    maps_of,
    stored_proposals,
)
from jaxstruct import models, ops
from jaxstruct.training import Batches, Stage, State, make_prediction, partition

NORM = 20.0  # the mean norm to which features are scaled, and C, as in R-CNN's code
C = 1e-3
NEGATIVE = 0.3  # the IoU with a class's true boxes below which a region is a negative of it


def svm_regions(most: int, batch: Any, keys: jax.Array, classes: int) -> tuple[Any, jax.Array]:
    """The regions of images that SVMs learn from: [B, S, 4] and what they are, [B, S, classes].

    True boxes are the positives of their class; of the proposals, at most `most` drawn ones are
    negatives of the classes whose true boxes they overlap by less than NEGATIVE. What is neither
    is 0: a true box for the other classes is a negative only where it overlaps none of theirs.

    Source: Girshick et al. 2014 (R-CNN), section 2.3; He et al. 2014, section 4.1.
    """
    proposals = stored_proposals(batch)

    def one(key: jax.Array, regions: jax.Array, valid: jax.Array, image: Any) -> Any:
        rank = jnp.where(valid, jax.random.uniform(key, valid.shape), -1)
        _, rows = jax.lax.top_k(rank, min(most, len(regions)))
        regions = jnp.concatenate([image["boxes"], regions[rows]])
        there = jnp.concatenate([image["boxes_valid"], valid[rows]])
        of_class = jax.nn.one_hot(image["classes"] - 1, classes, dtype=bool)
        of_class &= image["boxes_valid"][:, None]
        overlaps = ops.box_iou(regions, image["boxes"])
        best = jnp.max(jnp.where(of_class[None], overlaps[..., None], 0), axis=1)
        signs = jnp.where(best < NEGATIVE, -1, 0)
        # What is difficult is no positive, as in the authors' code.
        positive = of_class & ~image["difficult"][:, None]
        signs = signs.at[: len(positive)].set(jnp.where(positive, 1, signs[: len(positive)]))
        return regions, jnp.where(there[:, None], signs, 0)

    image = {name: batch[name] for name in ("boxes", "boxes_valid", "classes", "difficult")}
    return jax.vmap(one)(keys, proposals.boxes, proposals.valid, image)


def with_svms(detector: Detector, sweep: Sweep, most: int, state: State) -> State:
    """The state whose layer `class_logits` holds an SVM of each class, trained on a sweep."""
    classes = len(detector.classes)

    def predict(state: State, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        regions, signs = svm_regions(most, batch, keys, classes)
        variables = variables_of(state)
        maps = maps_of(detector.model, variables, batch)
        found = call(detector.model, variables, "features", maps, regions)
        return {"features": found.reshape(*regions.shape[:2], -1), "signs": signs}

    images = sweep(variables_of(state))
    rows = make_prediction(predict, compilations=_canvases.shapes_of(detector.canvas))(
        state, images
    )
    signs = rows.pop("signs").reshape(-1, classes)
    takes_part = np.any(signs, axis=1)
    features = rows.pop("features").reshape(len(signs), -1)[takes_part]
    signs = signs[takes_part]
    scale = NORM / max(float(np.mean(np.linalg.norm(features, axis=1))), 1e-12)
    features *= np.float32(scale)
    chunks = np.array_split(features, max(1, len(signs) // 50_000))
    svm = models.fit_linear_svm(chunks, signs, classes=classes, C=C, tolerance=1e-4)
    print(f"{classes} SVMs on {len(signs):,} regions, residual {svm.residual.max():.1e}")
    layer = {  # column 0 is the background's, which no SVM judges
        "kernel": jnp.pad(svm.kernel * scale, ((0, 0), (1, 0))),
        "bias": jnp.pad(svm.bias, (1, 0)),
    }
    return state.replace(params={**state.params, "class_logits": layer})


def check_memory(images: int, regions: int, width: int) -> None:
    """Raises RunError where features of so many regions of each image fill the memory, with a copy.

    `width` is how many numbers a region has, of 4 bytes each.
    """
    _checks.check_memory(
        2 * images * regions * width * 4,
        f"features of {images:,} images, {regions:,} regions of {width:,} numbers each,",
        "give a smaller --svm-regions",
    )


def has_svms(state: State) -> bool:
    """Whether a state's layer of classes holds SVMs: in their stage, it alone is not frozen."""
    return set(state.params) == {"class_logits"}


def stage(detector: Detector, images: Batches, sweep: Sweep, validation: Sweep, most: int) -> Stage:
    """The stage whose start trains the SVMs on a sweep of images; its one step changes nothing."""

    def init(key: jax.Array, previous: State | None) -> State:
        assert previous is not None
        ended = variables_of(previous)
        params, frozen = partition(
            ended["params"], [part for part in ended["params"] if part != "class_logits"]
        )
        stats = {kind: tree for kind, tree in ended.items() if kind != "params"}
        return State.create(key, params, (), {"frozen": frozen, "stats": stats})

    def update(state: State, batch: Any) -> tuple[State, dict[str, Any]]:
        return state.replace(step=state.step + 1), {}

    return Stage(
        name="svm",
        steps=1,
        init=init,
        start=partial(with_svms, detector, sweep, most),
        update=update,
        batches=images,
        evaluate=partial(evaluated, detector._replace(svm=True), validation),
        metrics=("ap50",),
        compilations=_canvases.shapes_of(detector.canvas),
    )
