"""Sets whose examples are an image, of one size in the whole set, and a label.

What may be added: what several such sets share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxstruct.data.image_files import png

ImagesAndLabels = tuple[np.ndarray, np.ndarray]  # uint8 [N,H,W] or [N,H,W,3], and [N]


def features(shape: tuple[int, int, int], classes: Sequence[str]) -> Callable[[Any], dict]:
    """What TFDS is told of a set of images of `shape` [H,W,C] (see `Entry.features`)."""
    return lambda tf: {"image": tf.Image(shape=shape), "label": tf.ClassLabel(names=classes)}


def examples(splits: Mapping[str, ImagesAndLabels]) -> dict[str, Iterator[tuple[int, dict]]]:
    """The examples of every split, {`image`, `label`} by position, of arrays."""
    return {split: _examples(*arrays) for split, arrays in splits.items()}


def _examples(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield index, {"image": png(image), "label": int(label)}
