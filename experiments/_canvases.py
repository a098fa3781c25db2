"""Canvases of two orientations: which one an image lies on, and which one a batch shares.

What may be added: what batches of boxes and of masks share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxstruct import data
from jaxstruct.data import Reader
from jaxstruct.training import (
    Batches,
    augment_each,
    process_count,
    reads_in_order,
    shuffled_reads,
)

GREY = 124, 116, 104  # the mean colour of ImageNet, where the canvas shows no image


def shapes_of(canvas: tuple[int, int]) -> int:
    """How many shapes batches have: wide, upright, and the square that holds both."""
    return 1 if canvas[0] == canvas[1] else 3


def turned(canvas: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The canvas, turned where an image of this size is larger on it then."""
    return data.canvas_for(size, (canvas, canvas[::-1]))


def shared_canvas(images: Sequence[np.ndarray], canvas: tuple[int, int]) -> tuple[int, int]:
    """The canvas of a batch: as it is, turned, or a square where its images need both.

    Processes see parts of a batch, whose shapes must be the same: several share the square.
    """
    (one, *others) = {turned(canvas, x.shape[:2]) for x in images}
    return (max(canvas),) * 2 if others or process_count() > 1 else one


def batches_of(
    reader: Reader,
    batch_size: int,
    canvas: tuple[int, int],
    place: Callable[[tuple[int, int], Any, dict[str, Any]], dict[str, Any]],
    like: Mapping[str, Any],
    *,
    train: bool,
    seed: int,
) -> Batches:
    """The batches of a split: shuffled and moved by chance, or one sweep of images as they are.

    `place(shared, draw, example)` puts one image onto the canvas that its batch shares; `draw` is
    None where nothing is moved by chance. `like` has the parts of an example that are read.
    """

    def augment(draws: Any, batch: dict) -> dict:
        shared = shared_canvas(batch["image"], canvas)
        one = lambda draw, example: place(shared, draw if train else None, example)
        return augment_each(one)(draws, batch)

    make = shuffled_reads if train else reads_in_order
    return make(reader, reader.size, batch_size, like=like, seed=seed, augment=augment)


def at_top_left(values: np.ndarray, shared: tuple[int, int], fill: Any = 0) -> np.ndarray:
    """Values [h, w, ...] on a canvas [H, W, ...] that is as large or larger, `fill` beside them."""
    placed = np.full((*shared, *values.shape[2:]), fill, values.dtype)
    placed[: values.shape[0], : values.shape[1]] = values
    return placed
