"""The nearest examples against a loop, in chunks, of bytes and of floats."""

import numpy as np
import pytest

from jaxstruct.metrics import nearest_examples


@pytest.mark.parametrize("chunk", [5000, 777])
def test_the_nearest_example_is_that_of_a_loop(chunk):
    rng = np.random.default_rng(0)
    examples = rng.integers(0, 256, (12_000, 2, 2, 1), np.uint8)
    points = rng.random((20, 2, 2, 1)).astype(np.float32)
    points[0] = examples[11_500].astype(np.float32) / 255
    distances = np.linalg.norm(
        points.reshape(20, 1, 4) - examples.reshape(1, -1, 4) / np.float32(255), axis=2
    )
    expected = distances.argmin(1)
    np.testing.assert_array_equal(nearest_examples(points, examples, chunk=chunk), expected)
    floats = examples.astype(np.float32) / 255
    np.testing.assert_array_equal(nearest_examples(points, floats, chunk=chunk), expected)


def test_of_equal_examples_the_first_is_the_nearest():
    examples = np.array([[9, 9], [1, 2], [9, 9], [1, 2]], np.uint8)
    np.testing.assert_array_equal(nearest_examples(examples, examples, chunk=2), [0, 1, 0, 1])


@pytest.mark.parametrize("examples", [np.zeros((0, 3)), np.zeros((5, 2))])
def test_sizes_that_do_not_fit_are_refused(examples):
    with pytest.raises(ValueError, match=r"got points \(4, 3\) and examples .*, expected at least"):
        nearest_examples(np.zeros((4, 3)), examples)
