"""Colour jitter: by hand, against one change after the other, and what it leaves alone."""

import numpy as np
import pytest

from jaxstruct.data import jitter_color

LUMA = np.array([0.299, 0.587, 0.114])


def rng(seed=0):
    return np.random.default_rng(seed)


def one_after_the_other(image, brightness, contrast, saturation):
    bright = image * brightness
    mean = (bright @ LUMA).mean()
    contrasted = mean + contrast * (bright - mean)
    grey = (contrasted @ LUMA)[..., None]
    return np.clip(grey + saturation * (contrasted - grey), 0, 1)


def test_the_factors_are_uniform_about_one_and_act_one_after_the_other():
    image = rng().random((6, 5, 3)).astype(np.float32)
    for seed in range(5):
        factors = 1 + 0.4 * (2 * rng(seed).random(3) - 1)
        changed = jitter_color(rng(seed), image, 0.4)
        assert changed.dtype == np.float32
        np.testing.assert_allclose(changed, one_after_the_other(image, *factors), atol=1e-6)


def test_eight_bits_give_the_rounded_numbers_of_floats():
    image = rng().integers(0, 256, (6, 5, 3), np.uint8)
    changed = jitter_color(rng(1), image, 0.9)
    assert changed.dtype == np.uint8
    exact = jitter_color(rng(1), (image / 255).astype(np.float32), 0.9) * 255
    assert np.abs(changed - exact).max() <= 0.501
    assert {0, 255} <= set(changed.ravel().tolist())  # clipped, not wrapped around


def test_no_strength_changes_no_bit():
    image = rng().integers(0, 256, (6, 5, 3), np.uint8)
    np.testing.assert_array_equal(jitter_color(rng(1), image, 0), image)


def test_one_channel_has_no_saturation():
    image = rng().random((6, 5, 1)).astype(np.float32)
    changed = jitter_color(rng(2), image, 0.3)
    grey = jitter_color(rng(2), np.repeat(image, 3, -1), 0.3)
    np.testing.assert_allclose(np.repeat(changed, 3, -1), grey, atol=1e-6)


def test_equal_generators_change_alike():
    image = rng().random((6, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        jitter_color(rng(3), image, 0.5), jitter_color(rng(3), image, 0.5)
    )
    assert (jitter_color(rng(3), image, 0.5) != jitter_color(rng(4), image, 0.5)).any()


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 4\), expected \[H, W, 3\] or \[H, W, 1\]"):
        jitter_color(rng(), np.zeros((4, 4), np.uint8), 0.1)
    with pytest.raises(TypeError, match="image of int64, expected uint8 or float32"):
        jitter_color(rng(), np.zeros((4, 4, 3), np.int64), 0.1)
    with pytest.raises(ValueError, match=r"strength 1\.5, expected a number from 0 to 1"):
        jitter_color(rng(), np.zeros((4, 4, 3), np.uint8), 1.5)
