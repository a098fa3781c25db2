"""Weights of classes, by hand."""

import numpy as np
import pytest

from jaxstruct.losses import median_frequency_weights

# Shares of the images that show a class: 60 of 100 and 80 of 100; 40 of 100; 20 of 100. None of 3.
COUNTS = np.array([[60, 40, 0, 0], [80, 0, 20, 0], [0, 0, 0, 0]])


def test_by_hand():
    frequencies = np.array([140 / 200, 40 / 100, 20 / 100])
    expected = 0.4 / frequencies
    np.testing.assert_allclose(median_frequency_weights(COUNTS), [*expected, 0])
    np.testing.assert_allclose(median_frequency_weights(COUNTS, power=0.5), [*expected**0.5, 0])
    assert median_frequency_weights(COUNTS, power=0).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (COUNTS[0], {}, r"counts \(4,\), expected \[N, C\]"),
        (-COUNTS, {}, "none of them below 0"),
        (COUNTS * 0, {}, "no pixel has a class"),
        (COUNTS, {"power": -1}, "power is -1, expected at least 0"),
        (COUNTS, {"power": float("nan")}, "power is nan"),
    ],
)
def test_what_is_refused(counts, options, message):
    with pytest.raises(ValueError, match=message):
        median_frequency_weights(counts, **options)
