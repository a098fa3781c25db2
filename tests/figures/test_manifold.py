"""Coordinates of the latent manifold."""

import numpy as np
import pytest
from scipy.stats import norm

from jaxstruct.figures import manifold_coordinates


def test_by_hand():
    # One cell has its centre at the median; two cut at the quartiles, -0.674490 and 0.674490.
    np.testing.assert_array_equal(manifold_coordinates(1), np.zeros((1, 1, 2)))
    q = 0.674490
    expected = [[[-q, q], [q, q]], [[-q, -q], [q, -q]]]
    np.testing.assert_allclose(manifold_coordinates(2), expected, atol=1e-6)


def test_x_grows_to_the_right_and_y_upwards():
    z = manifold_coordinates(20)
    assert z.shape == (20, 20, 2)
    assert z.dtype == np.float32
    assert np.all(np.diff(z[..., 0], axis=1) > 0)
    assert np.all(np.diff(z[..., 1], axis=0) < 0)
    assert not np.any(np.diff(z[..., 0], axis=0))
    assert not np.any(np.diff(z[..., 1], axis=1))


def test_neighbours_hold_equal_shares_of_the_prior():
    shares = norm.cdf(manifold_coordinates(9))
    np.testing.assert_allclose(shares[0, :, 0], (np.arange(9) + 0.5) / 9, atol=1e-6)


def test_error_names_what_was_given():
    with pytest.raises(ValueError, match="n=0, expected at least 1"):
        manifold_coordinates(0)
