"""What a trained segmenter says of pixels: over a set, in a user's image.

What may be added: another number that follows from class maps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import _canvases, _checks
from experiments._backbones import variables_of
from jaxstruct import data, figures, losses, ops
from jaxstruct.metrics import Confusion, Mean
from jaxstruct.training import Batches, State, make_evaluation

LOSS = "cross_entropy"


class Segmenter(NamedTuple):
    """A network on its canvas, how it is fed, and what its classes mean."""

    model: Any  # images [B, H, W, 3], normalised -> logits [B, H, W, classes]
    canvas: tuple[int, int]  # height and width
    normal: tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of the pixels
    classes: tuple[str, ...]
    scored: tuple[str, ...]  # classes whose mean is the mean IoU
    colors: tuple[tuple[int, ...], ...] | None = None  # of the classes, RGB; None: any

    def normalised(self, images: jax.Array) -> jax.Array:
        """Images in [0, 1] as the network expects them."""
        mean, deviation = (jnp.array(x, images.dtype, ndmin=images.ndim) for x in self.normal)
        return (images - mean) / deviation

    def logits(self, variables: Any, images: jax.Array) -> jax.Array:
        """Logits [B, H, W, classes] of images in [0, 1]."""
        return self.model.apply(variables, self.normalised(images))


def evaluation(
    segmenter: Segmenter,
    batches: Batches,
    bands: Sequence[int] = (),
    *,
    cross_entropy: bool = False,
    keep: Callable[[np.ndarray], None] = lambda counts: None,
) -> Callable[[State], dict[str, float]]:
    """The scores of a state on all images of batches, which are compared where they lie.

    Of each width of `bands` in pixels: the mean IoU of the pixels that are that near to a boundary,
    "mean_iou_5px", whose batches have `boundary_distance`. With `cross_entropy`, also that of the
    labelled pixels, in nats. `keep` gets the confusion matrix.
    """

    def count(state: State, batch: Any, valid: jax.Array, keys: jax.Array) -> dict[str, Any]:
        logits = segmenter.logits(variables_of(state), batch["image"])
        found = jnp.argmax(logits, axis=-1)
        labels, of = batch["class_map"], partial(Confusion.of, classes=len(segmenter.classes))
        near = {
            f"{width}px": jnp.where(batch["boundary_distance"] <= width, labels, data.VOID)
            for width in bands
        }
        counts = {name: of(x, found, valid=valid) for name, x in {"": labels, **near}.items()}
        if not cross_entropy:
            return counts
        loss, weight = losses.segmentation_loss(logits, labels)
        loss, weight = (jnp.where(valid[:, None, None], x, 0) for x in (loss, weight))
        return {**counts, LOSS: Mean(jnp.sum(loss), jnp.sum(weight))}

    def finish(sums: dict[str, Any]) -> dict[str, float]:
        lost = sums.pop(LOSS, None)
        keep(np.asarray(sums[""].counts))
        found = scores(segmenter, sums[""])
        if lost is not None and lost.count:
            found[LOSS] = float(lost.total / lost.count)
        for name, confusion in sums.items():
            if name and "mean_iou" in (near := scores(segmenter, confusion)):
                found[f"mean_iou_{name}"] = near["mean_iou"]
        return found

    compilations = _canvases.shapes_of(segmenter.canvas)
    return make_evaluation(count, batches, finish=finish, compilations=compilations)


def scores(segmenter: Segmenter, confusion: Confusion) -> dict[str, float]:
    """Mean IoU over the scored classes and over all, and what else a confusion matrix says.

    A class that no label has is left out; `classes` is how many have one.
    """
    ious = dict(zip(segmenter.classes, confusion.iou(), strict=True))
    there = {name: float(iou) for name, iou in ious.items() if not np.isnan(iou)}
    if not there:
        return {"classes": 0.0}
    means = [there[name] for name in segmenter.scored if name in there]
    whole = set(segmenter.scored) == set(segmenter.classes)
    return {
        **({"mean_iou": float(np.mean(means))} if means else {}),
        **({} if whole else {"mean_iou_all": confusion.mean_iou()}),
        "accuracy": confusion.accuracy(),
        "mean_accuracy": confusion.mean_accuracy(),
        "frequency_weighted_iou": confusion.frequency_weighted_iou(),
        "classes": float(len(there)),
        **{f"iou/{name}": iou for name, iou in there.items()},
    }


def pixels(segmenter: Segmenter, counts: np.ndarray) -> dict[str, float]:
    """How many pixels are labelled as each class, "pixels/cat", by a confusion matrix [C, C]."""
    there = zip(segmenter.classes, counts.sum(1), strict=True)
    return {f"pixels/{name}": float(count) for name, count in there if count}


def of_stride(class_map: np.ndarray, classes: int, stride: int) -> np.ndarray:
    """A class map [H, W] as well as scores at a stride can say it, void where nothing is labelled.

    Cells have the shares of their classes, which are interpolated as the network's scores are.
    """
    height, width = class_map.shape
    shares = jax.nn.one_hot(class_map, classes)[None]
    down, across = -height % stride, -width % stride
    shares = jnp.pad(shares, ((0, 0), (0, down), (0, across), (0, 0)))
    cells = shares.reshape(1, (height + down) // stride, stride, -1, stride, classes).mean((2, 4))
    wanted = height + down, width + across
    fine = ops.resize_bilinear(cells, wanted)[0, :height, :width]
    return np.asarray(jnp.where(jnp.max(fine, -1) > 0, jnp.argmax(fine, -1), data.VOID), np.uint8)


@partial(jax.jit, static_argnums=0)
def _logits(segmenter: Segmenter, variables: Any, images: jax.Array) -> jax.Array:
    return segmenter.logits(variables, images)


def on_canvas(segmenter: Segmenter, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """An image on the canvas of its orientation, never enlarged, and its size there."""
    canvas = _canvases.turned(segmenter.canvas, image.shape[:2])
    if image.shape[0] <= canvas[0] and image.shape[1] <= canvas[1]:
        return _canvases.at_top_left(image, canvas, _canvases.GREY), image.shape[:2]
    shrunk, _, size = data.letter_box(image, canvas, fill=_canvases.GREY)
    return shrunk, size


def of_canvas(segmenter: Segmenter, state: State, canvas: np.ndarray) -> jax.Array:
    """Logits [H, W, classes] of a canvas, uint8 [H, W, 3]."""
    images = jnp.asarray(canvas[None], jnp.float32) / 255
    return _logits(segmenter, variables_of(state), images)[0]


def class_map_of(scores: jax.Array, size: tuple[int, int]) -> np.ndarray:
    """The class uint8 [H, W] whose scores, of [h, w, classes], are the largest at an image's size.

    Interpolated are the scores of one class at a time: those of all classes of a photograph need
    gigabytes.
    """
    best, found = np.full(size, -np.inf, np.float32), np.zeros(size, np.uint8)
    for number in range(scores.shape[-1]):
        score = np.asarray(ops.resize_bilinear(scores[..., number, None], size)[..., 0])
        higher = score > best
        np.copyto(best, score, where=higher)
        np.copyto(found, number, where=higher, casting="unsafe")
    return found


def in_image(segmenter: Segmenter, state: State, image: np.ndarray) -> np.ndarray:
    """The class uint8 [H, W] of each pixel of an image, uint8 [H, W, 3] of any size."""
    canvas, (rows, columns) = on_canvas(segmenter, image)
    logits = of_canvas(segmenter, state, canvas)[:rows, :columns]
    return class_map_of(logits, (image.shape[0], image.shape[1]))


def predict(
    segmenter: Segmenter, key: Any, state: State | None, image: Any
) -> tuple[dict[str, Any], Figure]:
    """The class of each pixel of a user's image; see `Experiment.predict`."""
    _checks.check_image(image, "a segmenter")
    assert state is not None
    in_image(segmenter, state, image)  # compiles
    since = time.perf_counter()
    class_map = in_image(segmenter, state, image)
    print(f"{image.shape[1]} x {image.shape[0]} pixels in {time.perf_counter() - since:.2f} s")
    maps = {"classes": [class_map]}
    return record_of(segmenter, class_map), drawn(segmenter, [image], maps, over_image=True)


def record_of(segmenter: Segmenter, class_map: np.ndarray) -> dict[str, Any]:
    """What `predict` writes down of a class map [H, W]: its size, and the shares of classes."""
    pixels = np.bincount(class_map.ravel(), minlength=len(segmenter.classes))
    shares = dict(zip(segmenter.classes, pixels / class_map.size, strict=True))
    return {
        "size": list(class_map.shape),
        "shares": {name: round(float(x), 4) for name, x in shares.items() if x > 0},
        "class_map": class_map,
    }


def drawn(
    segmenter: Segmenter,
    images: Sequence[np.ndarray],
    maps: Mapping[str, Sequence[np.ndarray]],
    **options: Any,
) -> Figure:
    """Class maps beside their images, or over them; see `figures.class_map_panels`."""
    names, colors = segmenter.classes, segmenter.colors
    return figures.class_map_panels(images, maps, names, colors=colors, **options)
