"""Kuzushiji-MNIST's letters of old Japanese script, in MNIST's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxstruct.data.entry import Entry
from jaxstruct.data.imitate import resize
from jaxstruct.data.sets import _digits, _labelled, _mnist

CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

# torchvision has these sums.
FILES = _mnist.files(
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    "bdb82020997e1d708af4cf47b453dcf7",
    "e144d726b3acfaa3e44228e80efcd344",
    "5c965bf0a639b31b8f53240b1b52f4d7",
    "7320c461ea6c1c855c0b718fb2a4b134",
)


def imitate(folder: Path) -> None:
    """Write the four files: scikit-learn's digits on their side, 24 x 24 of 28 x 28."""
    small, labels = _digits.images_and_labels()
    images = np.zeros((len(small), 28, 28), np.uint8)
    images[:, 2:26, 2:26] = resize(np.ascontiguousarray(np.rot90(small, axes=(1, 2))), 24, 24)
    _mnist.write_digits(folder, images, labels)


ENTRY = Entry(
    version="1.0.0",
    description=(
        "Ten letters of old Japanese script, one of each row of Hiragana, 28x28 grey: 60,000 "
        "to train, 10,000 to test, in official order."
    ),
    citation=(
        "T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto, D. Ha. Deep Learning "
        "for Classical Japanese Literature. arXiv 1812.01718, 2018."
    ),
    classes=CLASSES,
    features=_labelled.features((28, 28, 1), CLASSES),
    files=FILES,
    read=lambda folder: _mnist.read(folder, FILES),
    imitate=imitate,
)
