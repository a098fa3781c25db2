"""Lines, sums and directions of latent vectors against loops and numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.models import class_directions, class_vectors, latent_lines, latent_sum


def test_a_line_goes_straight_from_one_vector_to_the_next_and_the_next():
    ends = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    z = latent_lines(ends, 6)
    assert z.shape == (2, 11, 5)
    for i, along in enumerate(np.linspace(0, 2, 11)):
        at = min(int(along), 1)
        share = along - at
        expected = (1 - share) * ends[:, at] + share * ends[:, at + 1]
        np.testing.assert_allclose(z[:, i], expected, atol=1e-6)
    np.testing.assert_array_equal(latent_lines(ends[0, :2], 2), ends[0, :2])


@pytest.mark.parametrize(("shape", "steps"), [((1, 4), 3), ((4,), 3), ((2, 4), 1)])
def test_a_line_needs_two_ends(shape, steps):
    with pytest.raises(ValueError, match="expected at least two of each"):
        latent_lines(np.zeros(shape), steps)


def test_a_sum_by_hand():
    a, b, c = jnp.array([[1.0, 0.0], [3.0, 2.0]]), jnp.array([[1.0, 1.0]]), jnp.array([[0.5, 5.0]])
    z = np.asarray(latent_sum(jax.random.key(0), a, b, c))
    assert z.shape == (3, 3, 2)
    np.testing.assert_allclose(z[1, 1], [1.5, 5.0])
    noise = z - z[1, 1]
    assert np.count_nonzero(noise) == 16
    assert 0.15 < np.abs(noise).max() <= 0.25
    less = np.asarray(latent_sum(jax.random.key(0), a, b, c, jitter=0.05)) - z[1, 1]
    np.testing.assert_allclose(less, noise / 5, atol=1e-6)


def test_a_class_has_the_vectors_that_are_most_its_own():
    rng = np.random.default_rng(1)
    z, scores = jnp.asarray(rng.normal(size=(30, 4))), rng.normal(size=(30, 3))
    scores[7] += 100  # high of all classes, and most of none
    found = class_vectors(z, scores, 5)
    assert found.shape == (3, 5, 4)
    for k in range(3):
        margins = [row[k] - max(np.delete(row, k)) for row in scores]
        best = sorted(range(30), key=lambda i, margins=margins: -margins[i])[:5]
        np.testing.assert_array_equal(found[k], z[np.array(best)])


def test_directions_are_from_the_mean_of_all_classes():
    vectors = np.random.default_rng(2).normal(size=(3, 4, 2)).astype(np.float32)
    found = class_directions(jnp.asarray(vectors))
    np.testing.assert_allclose(found[2], vectors[2].mean(0) - vectors.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-6)
