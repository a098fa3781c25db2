"""scikit-learn's digits."""

import numpy as np
import sklearn.datasets

from jaxstruct import data


def test_digits_are_scikit_learns():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    digits = sklearn.datasets.load_digits()
    assert (train.size, test.size) == (1437, 360)
    assert test.source == data.Source("digits", "1.0.0", "test", "package", 360)
    assert train["image"].shape == (1437, 8, 8, 1)
    assert train["image"].max() == 255
    both = np.concatenate([train["image"], test["image"]])[..., 0]
    np.testing.assert_array_equal(np.round(both / 255 * 16), digits.images)
    np.testing.assert_array_equal(np.concatenate([train["label"], test["label"]]), digits.target)
