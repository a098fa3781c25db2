"""Images with class maps as batches: both move by one map, and void (255) is where no image is.

A loss is a total and a count over the labelled pixels alone. So a crop without any has the count 0
and adds 0, and with `losses` [b, H, W] of all pixels the term is

    Mean.of(losses, batch["class_map"] != 255)

What may be added: another change of an image that its class map follows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from experiments import _canvases
from experiments._canvases import GREY, at_top_left, turned
from jaxstruct import data, losses
from jaxstruct.data import Affine, Reader
from jaxstruct.metrics import boundary_distance
from jaxstruct.training import Batches


class Placing(NamedTuple):
    """How images come onto a canvas, and what chance does to them in training.

    Attributes:
        canvas: height and width of an image in an evaluation, for one orientation; turned for the
            other. Images are scaled to fit it.
        crop: height and width of what training sees, turned in the same way.
        enlarge: images that are smaller than the canvas are enlarged; else they keep their size.
        scale: limits of the factor by which training scales an image that fits the canvas.
        flip: the share of images that are mirrored.
        color: strength of changes of brightness, contrast and saturation.
        boundaries: an evaluation gets `boundary_distance`, for scores in a band (trimap).
    """

    canvas: tuple[int, int]
    crop: tuple[int, int]
    enlarge: bool = True
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    color: float = 0.0
    boundaries: bool = False


def place(
    placing: Placing, shared: tuple[int, int], draw: Any, example: dict[str, Any]
) -> dict[str, Any]:
    """One image with its class map, a crop by chance where there is a `draw`.

    It lies on the canvas of its own orientation, at the top left of the one that its batch shares.

    Returns:
        image: uint8 [H, W, 3], of the colour `GREY` where the canvas shows no image.
        class_map: [H, W] of the dtype that is stored, 255 there.
        size: int32 [2], height and width of the image on the canvas; of a crop, the crop's.
        original_size: int32 [2], those of the image itself.
        scale: float32, by which it was scaled.
        boundary_distance: float32 [H, W] in pixels of the canvas, in an evaluation that asks for it
            (see `metrics.boundary_distance`). The edge of the image is no boundary.
    """
    image = example["image"]
    original = image.shape[:2]
    canvas, crop = turned(placing.canvas, original), turned(placing.crop, original)
    fit = Affine.letter_box(original, canvas).matrix[0, 0]
    fit = fit if placing.enlarge else min(fit, 1.0)
    if draw is None:
        affine, onto = Affine.scale(fit), canvas
    else:
        # `draw_affine` counts from the scale at which an image fits what it is moved onto.
        least, most = fit / Affine.letter_box(original, crop).matrix[0, 0] * np.array(placing.scale)
        affine = data.draw_affine(draw, original, crop, flip=placing.flip, scale=(least, most))
        image, onto = data.jitter_color(draw, image, placing.color), crop
    moving = {"image": image, "class_map": example["class_map"], "mask": np.ones(original, bool)}
    moved = data.move(moving, affine, onto, fill=GREY)
    covered = moved["mask"]
    size = onto if draw is not None else (int(covered.any(1).sum()), int(covered.any(0).sum()))
    found: dict[str, Any] = {
        "image": at_top_left(moved["image"], shared, GREY),
        "class_map": at_top_left(moved["class_map"], shared, data.VOID),
        "size": np.array(size, np.int32),
        "original_size": np.array(original, np.int32),
        "scale": np.float32(abs(affine.matrix[0, 0])),
    }
    if draw is None and placing.boundaries:
        seen = moved["class_map"][: size[0], : size[1]]
        distance = boundary_distance(seen).astype(np.float32)
        found["boundary_distance"] = at_top_left(distance, shared, np.inf)
    return found


def class_weights(name: str, split: str, power: float) -> Callable[[], np.ndarray | None]:
    """What classes weigh by their median frequency in a split, counted when it is first asked for.

    None for the power 0, when they weigh alike.
    """
    reader = data.open_reader(name, split, without=("image",))

    @cache
    def weights() -> np.ndarray | None:
        if not power:
            return None
        return losses.median_frequency_weights(data.pixel_counts(reader), power=power)

    return weights


def batches_of(
    reader: Reader, batch_size: int, placing: Placing, *, train: bool, seed: int
) -> Batches:
    """The batches of a split: shuffled crops by chance, or one sweep of images as they are."""
    canvas = placing.crop if train else placing.canvas
    like = {"image": np.zeros((1, 8, 8, 3), np.uint8), "class_map": np.zeros((1, 8, 8), np.uint8)}
    return _canvases.batches_of(
        reader, batch_size, canvas, partial(place, placing), like, train=train, seed=seed
    )
