"""The 8 x 8 digits that scikit-learn carries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxstruct.data import imitate
from jaxstruct.data.builders import class_label, info, labelled
from jaxstruct.data.catalogue import CATALOGUE


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of scikit-learn's digits; it needs no file."""

    VERSION = tfds.core.Version(CATALOGUE["digits"].version)

    def _info(self) -> Any:
        return info(
            self,
            {
                "image": tfds.features.Image(shape=(8, 8, 1)),
                "label": class_label(self),
            },
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        images, labels = imitate.digits()
        train, test = slice(None, imitate.TRAIN_DIGITS), slice(imitate.TRAIN_DIGITS, None)
        return {
            "train": self._generate_examples(images[train], labels[train]),
            "test": self._generate_examples(images[test], labels[test]),
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[Any]:
        return labelled(images, labels)


BUILDER = Digits
