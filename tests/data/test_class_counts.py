"""Counts over a set, against those of its class maps one by one."""

import numpy as np
import pytest

from jaxstruct import data


def test_pixels_are_counted_by_image_and_class():
    with data.looking(imitations=True):
        reader = data.open_reader("camvid", "val", without=("image",))
        counts = data.pixel_counts(reader)
        maps = reader(np.arange(reader.size))["class_map"]
        others = data.open_reader("camvid", "val", without=("class_map",))
    assert counts.shape == (8, 11)
    expected = [[(one == c).sum() for c in range(11)] for one in maps]
    np.testing.assert_array_equal(counts, expected)
    assert 0 < (maps == 255).sum() == maps.size - counts.sum()
    with pytest.raises(ValueError, match=r"a reader of .*; expected class_map among them"):
        data.pixel_counts(others)
