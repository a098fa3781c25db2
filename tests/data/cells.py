"""What the tests of proposals share: a small set, `cells`, and the kind that is searched in it."""

import numpy as np

from jaxstruct import data

KIND = "selective_search-fast-24"
SIZES = {"train": 4, "val": 3}
EVERY = np.arange(4)


def images(split):
    return data.open_reader("cells", split)(np.arange(SIZES[split]))["image"]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)
