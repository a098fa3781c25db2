"""MNIST's handwritten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxstruct.data.entry import Entry
from jaxstruct.data.imitate import resize
from jaxstruct.data.sets import _digits, _labelled, _mnist

FILES = _mnist.files(
    (
        "http://yann.lecun.com/exdb/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)


def imitate(folder: Path) -> None:
    """Write the four files: scikit-learn's digits, 20 x 20 in the middle of 28 x 28.

    1,437 to train and 360 to test. Real MNIST has its digits in such a box too.
    """
    small, labels = _digits.images_and_labels()
    images = np.zeros((len(small), 28, 28), np.uint8)
    images[:, 4:24, 4:24] = resize(small, 20, 20)
    _mnist.write_digits(folder, images, labels)


ENTRY = Entry(
    version="1.0.0",
    description=(
        "Handwritten digits, 28x28 grey: 60,000 to train, 10,000 to test, in official order."
    ),
    citation=(
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-based learning applied to "
        "document recognition. Proceedings of the IEEE 86(11), 1998."
    ),
    classes=_digits.CLASSES,
    features=_labelled.features((28, 28, 1), _digits.CLASSES),
    files=FILES,
    read=lambda folder: _mnist.read(folder, FILES),
    imitate=imitate,
)
