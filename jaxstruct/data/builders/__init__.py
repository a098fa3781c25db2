"""One TFDS builder a file: raw files in their official layout -> encoded images and labels.

What may be added: a builder, in a file of its set's name, as `BUILDER`. Images are handed over as
encoded bytes or as a path, because TFDS needs TensorFlow to encode an array; `disable_shuffling`
keeps the official order on disk.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxstruct.data.catalogue import CATALOGUE


def png(image: np.ndarray) -> bytes:
    """Encode a uint8 image, [H,W] grey or [H,W,3], as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)  # small images: speed over size
    return buffer.getvalue()


def builder(name: str) -> Any:
    """The TFDS builder class of a set of the catalogue; this is what imports TFDS."""
    return importlib.import_module(f"{__name__}.{name}").BUILDER


def info(of: Any, features: dict[str, Any]) -> Any:
    """What TFDS is told of a set: the catalogue's words, and to keep the order."""
    import tensorflow_datasets as tfds

    entry = CATALOGUE[of.name]
    return tfds.core.DatasetInfo(
        builder=of,
        description=entry.description,
        citation=entry.citation,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
    )


def labelled(images: Iterable[np.ndarray], labels: Iterable[int]) -> Iterator[Any]:
    """The examples of a set of images with one label each."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield index, {"image": png(image), "label": int(label)}
