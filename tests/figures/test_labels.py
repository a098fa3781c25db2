"""Label maps as colours, checked in their pixels."""

import numpy as np
import pytest

from jaxstruct.figures import label_colors, label_overlay

IMAGE = np.array([[[100, 100, 100], [200, 0, 0], [0, 50, 255]]], np.uint8)
COLORS = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)


def test_an_overlay_by_hand():
    labels = np.array([[0, 255, 1]], np.int32)
    over = label_overlay(IMAGE, labels, opacity=0.5, colors=COLORS)
    assert over.dtype == np.uint8
    # Grey is 100, and 0.587 * 50 + 0.114 * 255 = 58.42.
    np.testing.assert_array_equal(over, [[[178, 50, 50], [200, 0, 0], [29, 29, 157]]])
    opaque = label_overlay(IMAGE, labels.astype(np.uint8), opacity=1, colors=COLORS)
    np.testing.assert_array_equal(opaque, [[[255, 0, 0], [200, 0, 0], [0, 0, 255]]])
    nothing = np.full((1, 3), 255)
    np.testing.assert_array_equal(label_overlay(IMAGE, nothing), IMAGE)
    assert IMAGE[0, 0, 0] == 100


def test_colors_are_told_apart():
    colors = label_colors(255).astype(int)
    assert colors.shape == (255, 3)
    np.testing.assert_array_equal(label_colors(3), colors[:3])
    assert label_colors(0).shape == (0, 3)
    assert len(np.unique(colors, axis=0)) == 255
    # Those that most label maps need differ in more than a shade.
    first = colors[:8]
    apart = np.linalg.norm(first[:, None] - first, axis=-1) + 1000 * np.eye(8)
    assert apart.min() > 60


def test_labels_without_a_color_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="labels reach from 0 to 2"):
        label_overlay(IMAGE, np.array([[0, 1, 2]]), colors=COLORS)
    with pytest.raises(ValueError, match="labels reach from -1"):
        label_overlay(IMAGE, np.array([[0, -1, 1]]), colors=COLORS)
    with pytest.raises(ValueError, match=r"labels \(3, 1\)"):
        label_overlay(IMAGE, np.array([[0], [1], [1]]))
    with pytest.raises(TypeError, match="float64"):
        label_overlay(IMAGE, np.array([[0.0, 1.0, 1.0]]))
    with pytest.raises(TypeError, match="float32"):
        label_overlay(IMAGE.astype(np.float32), np.array([[0, 1, 1]]))
