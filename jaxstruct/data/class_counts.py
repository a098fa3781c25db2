"""Counts over a whole set: how often its classes occur.

What may be added: a count of something else that examples have.
"""

from __future__ import annotations

import numpy as np

from jaxstruct.data.sources import Reader

_AT_ONCE = 64  # class maps that are read between two calls of a reader


def pixel_counts(reader: Reader) -> np.ndarray:
    """How many pixels of each image have each class: int64 [N, C], by `class_map` of a reader.

    Open the reader without="image", so that no image is decoded. Pixels that are void count for no
    class. Raises ValueError for a reader without class maps.
    """
    if "class_map" not in reader.keys:
        raise ValueError(f"a reader of {', '.join(reader.keys)}; expected class_map among them")
    count = len(reader.classes)
    rows = [
        np.bincount(np.ravel(class_map), minlength=256)[:count]
        for start in range(0, reader.size, _AT_ONCE)
        for class_map in reader(np.arange(start, min(start + _AT_ONCE, reader.size)))["class_map"]
    ]
    return np.array(rows, np.int64).reshape(-1, count)
