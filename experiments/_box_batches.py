"""Images with boxes as batches: onto a canvas that turns with them, moved by chance in training.

What may be added: another change of an image that its boxes follow.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments import _canvases
from experiments._canvases import GREY, at_top_left, turned
from jaxstruct import data
from jaxstruct.data import Reader
from jaxstruct.training import Batches

KEPT = 0.4  # the share of a box's area that has to stay on the canvas in training


class Placing(NamedTuple):
    """How images come onto a canvas, and what chance does to them in training.

    Attributes:
        canvas: height and width, for images of one orientation; turned for the other.
        most: boxes of an image at most.
        flip: the share of images that are mirrored.
        resize: images are scaled by factors from 1 - resize to 1 + resize.
        color: strength of changes of brightness, contrast and saturation.
        proposals: how many of an image's stored proposals a batch holds, the first ones.
        mirrored: whether images that chance does not move are mirrored.
    """

    canvas: tuple[int, int]
    most: int
    flip: float = 0.0
    resize: float = 0.0
    color: float = 0.0
    proposals: int = 0
    mirrored: bool = False


def place(
    placing: Placing, shared: tuple[int, int], draw: Any, example: dict[str, Any]
) -> dict[str, Any]:
    """One image with its boxes, moved by chance where there is a `draw`.

    It lies on the canvas of its own orientation, at the top left of the one that its batch shares,
    so that it is the same in any batch.
    """
    image = example["image"]
    size = image.shape[:2]
    canvas = turned(placing.canvas, size)
    if draw is None:
        affine = data.Affine.letter_box(size, canvas)
        if placing.mirrored:
            affine = data.Affine.flip(size[1]).then(affine)
    else:
        limits = 1 - placing.resize, 1 + placing.resize
        affine = data.draw_affine(draw, size, canvas, flip=placing.flip, scale=limits)
        image = data.jitter_color(draw, image, placing.color)
    names = ("boxes", "classes", "difficult")
    given: dict[str, Any] = {key: example[key] for key in names if key in example}
    if placing.proposals:
        given["proposals"] = example["proposals"][: placing.proposals]
    keep = 0.0 if draw is None else KEPT
    moved = data.move({"image": image, **given}, affine, canvas, fill=GREY, keep=keep)
    boxes, valid = data.padded(moved["boxes"], placing.most)
    classes, _ = data.padded(np.asarray(moved["classes"], np.int32) + 1, placing.most)
    difficult = np.asarray(moved.get("difficult", np.zeros(len(moved["boxes"]))), bool)
    found: dict[str, np.ndarray] = {}
    if placing.proposals:
        found["proposals"], found["proposals_valid"] = data.padded(
            moved["proposals"], placing.proposals
        )
    scale = abs(float(affine.matrix[0, 0]))
    seen = canvas if draw is not None else [round(side * scale) for side in size]
    return {
        "image": at_top_left(moved["image"], shared),  # no region is beyond `size`
        "size": np.array(seen, np.int32),
        "scale": np.float32(scale),
        "boxes": boxes,
        "boxes_valid": valid,
        "classes": classes,
        "difficult": data.padded(difficult, placing.most)[0],
        **found,
    }


def check_most(name: str, split: str, most: int) -> None:
    """Raises DataError for an image of a split with more than `most` boxes; decodes no image."""
    reader = data.open_reader(name, split, without=("image",))
    if reader.absent:
        return
    counts = [len(boxes) for boxes in reader(np.arange(reader.size))["boxes"]]
    if (largest := max(counts, default=0)) > most:
        raise data.DataError(
            f"{name}, {split}: image {counts.index(largest)} has {largest} boxes, expected at most "
            f"--most {most}; give --most {largest}"
        )


def batches_of(
    reader: Reader, batch_size: int, placing: Placing, *, train: bool, seed: int
) -> Batches:
    """See `_canvases.batches_of`."""
    like = {
        "image": np.zeros((1, 8, 8, 3), np.uint8),
        "boxes": np.zeros((1, 1, 4), np.float32),
        "classes": np.zeros((1, 1), np.int64),
        **({"proposals": np.zeros((1, 1, 4), np.float32)} if placing.proposals else {}),
    }
    onto = partial(place, placing)
    return _canvases.batches_of(
        reader, batch_size, placing.canvas, onto, like, train=train, seed=seed
    )
