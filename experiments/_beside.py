"""A segmenter's class map beside the boxes of a detector: `beside`, a verb of segmenters.

What may be added: another answer about the same image, as a further column.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments._segmenter_evaluation import Segmenter, drawn, in_image
from jaxstruct.data import DataError, read_image
from jaxstruct.data.names import free_path
from jaxstruct.training import Run, RunError


@dataclass(frozen=True)
class Beside:
    """Draws the class of each pixel beside the objects that a detector's predict found."""

    image: Path  # of any size
    objects: Path  # the JSON file that the predict of a detector wrote of this image
    output: Path = Path("beside.png")  # the picture; a number is added where the file is there


def beside(segmenter: Segmenter, arguments: Beside, run: Run) -> None:
    """Writes the picture, and prints its path.

    Raises DataError for files that cannot be read or are of different images, RunError where the
    picture cannot be written.
    """
    image = read_image(arguments.image)
    boxes = objects_of(segmenter, arguments.objects, image.shape[:2])
    assert run.state is not None
    class_map = in_image(segmenter, run.state, image)
    figure = drawn(
        segmenter,
        [image],
        {"the class of each pixel": [class_map]},
        over_image=True,
        boxes={"the box of each object": [boxes]},
    )
    target = free_path(arguments.output)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot write {target} ({error}); name another --output") from None
    print(target)


def objects_of(
    segmenter: Segmenter, path: Path, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Boxes [n, 4], the segmenter's numbers of their classes [n], and what is written at them."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        told = tuple(found["size"])
        names = [thing["class"] for thing in found["objects"]]
        boxes = np.array([thing["box"] for thing in found["objects"]], float).reshape(-1, 4)
        words = [f"{thing['class']} {thing['score']:.2f}" for thing in found["objects"]]
    except (OSError, KeyError, TypeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no objects"
        raise DataError(f"{path}: {why}, expected what a detector's predict wrote") from None
    if told != tuple(size):
        raise DataError(
            f"{path} is of an image of {told} pixels, expected {tuple(size)}, that of --image"
        )
    if strange := sorted(set(names) - set(segmenter.classes), key=str):
        raise DataError(
            f"{path} has objects of class {', '.join(map(str, strange))}, expected classes of the "
            f"segmenter: {', '.join(segmenter.classes)}"
        )
    return boxes, np.array([segmenter.classes.index(name) for name in names], int), words
