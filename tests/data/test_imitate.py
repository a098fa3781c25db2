"""What imitations are drawn with."""

import numpy as np
import pytest

from jaxstruct.data.imitate import resize


def test_resize_enlarges_and_shrinks():
    halves = np.zeros((2, 4, 6), np.uint8)
    halves[1, :, 3:] = 200
    large = resize(halves, 8, 18)
    assert (large.shape, large.dtype) == ((2, 8, 18), np.uint8)
    assert not large[0].any()
    assert (large[1, :, :6] < 10).all()  # left of the edge, which bicubic rings around
    assert (large[1, :, 12:] > 190).all()
    assert len(np.unique(large[1])) > 2  # values in between, at the edge
    np.testing.assert_array_equal(resize(large, 4, 6)[1] > 100, halves[1] > 100)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_resize_keeps_what_has_the_size(channels):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, *channels), np.uint8)
    np.testing.assert_array_equal(resize(images, 4, 5), images)
