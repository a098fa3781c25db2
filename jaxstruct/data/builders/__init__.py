"""One TFDS builder a file: raw files in their official layout -> encoded images and labels.

What may be added: a builder, in a file of its set's name, as `BUILDER`. Images are handed over as
encoded bytes or as a path, because TFDS needs TensorFlow to encode an array.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxstruct.data import pictures
from jaxstruct.data.catalogue import CATALOGUE


def png(image: np.ndarray) -> bytes:
    """Encode a uint8 image, [H,W] grey or [H,W,3], as PNG."""
    from PIL import Image

    return pictures.png(Image.fromarray(image))


def builder(name: str) -> Any:
    """The TFDS builder class of a set of the catalogue; this is what imports TFDS."""
    return importlib.import_module(f"{__name__}.{name}").BUILDER


def info(of: Any, features: dict[str, Any], *, in_order: bool = True) -> Any:
    """What TFDS is told of a set: the catalogue's words, and to keep the order of the examples.

    A set without an order of its own has one that TFDS draws from the examples' keys, so that a
    slice has all classes.
    """
    import tensorflow_datasets as tfds

    entry = CATALOGUE[of.name]
    return tfds.core.DatasetInfo(
        builder=of,
        description=entry.description,
        citation=entry.citation,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=in_order,
    )


def class_label(of: Any) -> Any:
    """The feature `label` of a set, with the names of its classes."""
    import tensorflow_datasets as tfds

    return tfds.features.ClassLabel(names=CATALOGUE[of.name].classes)


def labelled(images: Iterable[np.ndarray], labels: Iterable[int]) -> Iterator[Any]:
    """The examples of a set of images with one label each."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield index, {"image": png(image), "label": int(label)}
