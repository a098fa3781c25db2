"""Distances from boundaries and the bands around them, by hand and one pixel at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.metrics import Confusion, boundary_band, boundary_distance

FAR = np.inf


def test_a_row_by_hand():
    # Both sides of a boundary begin at 1; void is a boundary and belongs to no band; ends are none.
    row = np.array([[0, 0, 0, 1, 1, 255, 1, 1]], np.uint8)
    assert boundary_distance(row).tolist() == [[3, 2, 1, 1, 1, FAR, 1, 2]]
    assert boundary_band(row, 1).tolist() == [[0, 0, 1, 1, 1, 0, 1, 0]]
    assert boundary_band(row, 2).tolist() == [[0, 1, 1, 1, 1, 0, 1, 1]]
    # Without void, 255 is a class.
    assert boundary_distance(row, void=-1)[0, 5] == 1


def test_a_corner_is_measured_across():
    around = np.zeros((5, 6), np.int32)
    around[2, 2] = 3
    expected = [[np.hypot(i - 2, j - 2) for j in range(6)] for i in range(5)]
    expected[2][2] = 1
    np.testing.assert_array_equal(boundary_distance(around), expected)
    # sqrt(2) is beyond 1, and within 1.5.
    assert boundary_band(around, 1).sum() == 5
    assert boundary_band(around, 1.5).sum() == 9


def test_one_value_has_no_boundary():
    for value in (0, 7, 255):
        assert (boundary_distance(np.full((3, 4), value, np.uint8)) == FAR).all()
        assert not boundary_band(np.full((3, 4), value, np.uint8), 100).any()


def test_pixels_one_at_a_time():
    generator = np.random.default_rng(0)
    blocks = np.kron(generator.choice([0, 1, 2, 255], (4, 5)), np.ones((3, 3), int))
    found = boundary_distance(blocks)
    for (i, j), value in np.ndenumerate(blocks):
        rows, columns = np.nonzero(blocks != value)
        nearest = FAR if value == 255 else np.sqrt((rows - i) ** 2 + (columns - j) ** 2).min()
        assert found[i, j] == nearest


def test_scores_in_a_band_count_its_pixels_alone():
    labels = np.zeros((4, 8), np.uint8)
    labels[:, 4:] = 1
    guess = labels.copy()
    guess[0, 4], guess[0, 0] = 0, 1  # one error beside the boundary, one far from it
    band = np.where(boundary_band(labels, 2), labels, 255)
    found = Confusion.of(jnp.asarray(band), jnp.asarray(guess), 2)
    assert np.asarray(found.counts).tolist() == [[8, 0], [1, 7]]


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"class map \(2, 3, 1\), expected \[H, W\]"):
        boundary_distance(np.zeros((2, 3, 1), int))
    with pytest.raises(TypeError, match="dtype float64, expected an integer"):
        boundary_distance(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="width is 0, expected at least 1 pixel"):
        boundary_band(np.zeros((2, 3), int), 0)
