"""Boxes of raw files: what of them can be used, and the count of what was left out.

What may be added: another fault of a box that annotators make.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstruct.data.errors import DataError, one_line


def features(tf: Any, classes: Sequence[str]) -> dict[str, Any]:
    """What TFDS is told of an image with boxes [n, 4], their classes [n], and the image's name."""
    return {
        "image": tf.Image(shape=(None, None, 3)),
        "name": tf.Text(),
        "boxes": tf.Tensor(shape=(None, 4), dtype=np.float32),
        "classes": tf.Sequence(tf.ClassLabel(names=classes)),
    }


def check_classes(file: Path, classes: Sequence[str]) -> None:
    """Raises DataError that names the file for names of classes that a set cannot keep."""
    for name in classes:
        # TFDS keeps them as lines of a file in UTF-8.
        if not name or name != name.strip() or one_line(name) != name:
            raise DataError(
                f"{file}: a class is named {name!r:.80}; expected a name without line "
                "breaks, and without space around it"
            )
        if classes.count(name) > 1:
            raise DataError(f"{file}: two classes are named {name!r}; expected one of each name")


class LeftOut:
    """Says in a line on stderr what is left out of a file, and in the end how much it was."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._count: Counter[str] = Counter()

    def add(self, file: Path, kind: str, what: str) -> None:
        """`what` of a file is left out, one more of its `kind`."""
        print(f"{file}: {what}: left out", file=sys.stderr)
        self._count[kind] += 1

    def say(self) -> None:
        """How much was left out of the folder, by kind; nothing where all was read."""
        if self._count:
            counted = ", ".join(f"{number} {kind}" for kind, number in sorted(self._count.items()))
            print(f"{self._folder}: left out: {counted}", file=sys.stderr)


def clipped(
    raw: Sequence[float],
    box: Sequence[float],
    area: float,
    size: tuple[int, int],
    file: Path,
    left_out: LeftOut,
) -> tuple[float, float, float, float] | None:
    """A box (x1, y1, x2, y2) within an image of a size (height, width); None if it is left out.

    `raw` are the numbers as the file has them, and `area` is what these say.
    """
    said = f"box {', '.join(f'{x:g}' for x in raw)}"
    if not area > 0:
        left_out.add(file, "boxes without area", f"{said} has no area")
        return None
    height, width = size
    x1, y1, x2, y2 = box
    inside = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        left_out.add(
            file,
            "boxes outside of their images",
            f"{said} is outside of {width} x {height} pixels",
        )
        return None
    return inside
