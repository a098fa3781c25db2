"""Arrays that are read when they are used."""

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import Examples


def test_what_is_read_later_is_read_once_and_when_it_is_used():
    reads = []

    def read():
        reads.append(1)
        return np.arange(24, dtype=np.uint8).reshape(6, 4)

    later = data.Later((6, 4), np.uint8, read)
    assert (later.shape, later.dtype, later.ndim, len(later)) == ((6, 4), np.uint8, 2, 6)
    part = Examples({"x": later}).take(slice(1, -1)).take([3, 0]).take([True, False])["x"]
    assert (part.shape, part.dtype, len(part)) == ((1, 4), np.uint8, 1)
    assert reads == []
    np.testing.assert_array_equal(part, [[16, 17, 18, 19]])
    assert later[0, 1] == 1
    assert later.max() == 23
    np.testing.assert_array_equal(later[:, 1:3], read()[:, 1:3])
    np.testing.assert_array_equal(np.asarray(later, np.float32), read())
    assert len(reads) == 3  # the last two are this test's
    with pytest.raises(AttributeError):
        _ = later._no_such_attribute


def test_what_is_read_later_is_copied_where_a_copy_is_asked_for():
    later = data.Later((3,), np.uint8, lambda: np.arange(3, dtype=np.uint8))
    changed = np.array(later)
    changed[0] = 9
    assert np.asarray(later).tolist() == [0, 1, 2]
    assert np.asarray(later) is np.asarray(later)


def test_what_is_read_later_takes_part_in_arithmetic():
    later = data.Later((3,), np.uint8, lambda: np.arange(3, dtype=np.uint8))
    assert (later == 1).tolist() == [False, True, False]
    assert (1 / np.float32(2) * later).tolist() == [0, 0.5, 1]
    assert np.add(later, later, out=np.zeros(3, np.uint8)).tolist() == [0, 2, 4]
