"""Fashion-MNIST's articles of clothing, in MNIST's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxstruct.data.entry import Entry
from jaxstruct.data.imitate import resize
from jaxstruct.data.sets import _digits, _labelled, _mnist

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

# The authors' readme, and torchvision, have these addresses and sums.
FILES = _mnist.files(
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)


def imitate(folder: Path) -> None:
    """Write the four files: scikit-learn's digits as striped cloth that fills the frame."""
    small, labels = _digits.images_and_labels()
    broad = np.minimum(2.5 * resize(small, 28, 28), 255)
    rows = np.arange(28)[None, :, None] / (1 + labels % 3)[:, None, None]
    images = (broad * (0.75 + 0.25 * np.cos(rows))).astype(np.uint8)
    _mnist.write_digits(folder, images, labels)


ENTRY = Entry(
    version="1.0.0",
    description=(
        "Articles of clothing from Zalando, 28x28 grey: 60,000 to train, 10,000 to test, in "
        "official order."
    ),
    citation=(
        "H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking "
        "Machine Learning Algorithms. arXiv 1708.07747, 2017."
    ),
    classes=CLASSES,
    features=_labelled.features((28, 28, 1), CLASSES),
    files=FILES,
    read=lambda folder: _mnist.read(folder, FILES),
    imitate=imitate,
)
