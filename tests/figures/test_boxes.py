"""Boxes over images: where they are drawn, in which colour, and what is refused."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from jaxstruct.figures import box_panels, label_colors


def images():
    return [np.zeros((40, 60, 3), np.uint8), np.full((60, 40, 1), 9, np.uint8)]


BOXES = [np.array([[10.0, 5, 30, 25], [0, 0, 60, 40]]), np.zeros((0, 4))]


def outlines(axes):
    return [p for p in axes.patches if isinstance(p, Rectangle)]


def test_boxes_lie_on_the_edges_of_their_pixels():
    figure = box_panels(images(), BOXES, classes=[[3, 0], []], labels=[["cat 0.9", "dog"], []])
    first, second = figure.axes
    one, other = outlines(first)
    # The centre of the first pixel is at 0.
    assert one.get_bbox().extents.tolist() == [9.5, 4.5, 29.5, 24.5]
    assert other.get_bbox().extents.tolist() == [-0.5, -0.5, 59.5, 39.5]
    colors = label_colors(64) / 255
    np.testing.assert_allclose(one.get_edgecolor()[:3], colors[3])
    np.testing.assert_allclose(other.get_edgecolor()[:3], colors[0])
    assert [text.get_text() for text in first.texts] == ["cat 0.9", "dog"]
    assert outlines(second) == []
    assert second.images[0].get_array().shape == (60, 40, 3)


def test_every_class_has_a_colour_that_is_seen_on_black():
    boxes = [np.tile([[10.0, 5, 30, 25]], (70, 1))]
    (axes,) = box_panels(images()[:1], boxes, classes=[np.arange(70)]).axes
    edges = np.array([one.get_edgecolor()[:3] for one in outlines(axes)])
    assert (edges @ [0.299, 0.587, 0.114] > 0.25).all()
    assert len(np.unique(edges[:50], axis=0)) == 50


def test_a_name_that_would_be_cut_at_the_right_ends_with_its_box():
    boxes = [np.array([[59.0, 5, 60, 25], [10, 5, 58, 25], [10, 5, 58, 25]])]
    labels = [["late", "early", "l" * 300]]
    (axes,) = box_panels(images()[:1], boxes, labels=labels).axes
    placed = [(t.get_ha(), t.get_position()[0]) for t in axes.texts]
    assert placed[:2] == [("right", 59.5), ("left", 10)]
    assert placed[2][0] == "right"
    # Names that fit end within the picture, wherever they begin.
    for word in ("word 0.97", "pedestrian 1.00"):
        many = [np.array([[x, 5.0, x + 2, 25] for x in range(300, 598, 2)], float)]
        named = [[word] * len(many[0])]
        figure = box_panels([np.zeros((400, 600, 3), np.uint8)], many, labels=named)
        figure.canvas.draw()
        (axes,) = figure.axes
        ends = [t.get_window_extent().x1 for t in axes.texts]
        assert max(ends) <= axes.get_window_extent().x1


def test_truth_is_dashed():
    figure = box_panels(images()[:1], [BOXES[0][:1]], truth=[BOXES[0]])
    (axes,) = figure.axes
    solid = [line.get_linestyle() in ("-", "solid") for line in outlines(axes)]
    assert solid == [False, False, True]


def test_a_row_fills_the_page_with_images_of_one_height():
    figure = box_panels(images(), [BOXES[1]] * 2, columns=2)
    places = [axes.get_position() for axes in figure.axes]
    width, height = figure.get_size_inches()
    assert places[0].height == pytest.approx(places[1].height)
    for place, (rows, columns) in zip(places, [(40, 60), (60, 40)], strict=True):
        assert place.width * width / (place.height * height) == pytest.approx(columns / rows)
    assert places[1].x1 == pytest.approx(1)
    three = box_panels(images() * 2, [BOXES[1]] * 4, columns=3)
    # The last row has one image, which is not enlarged to the page.
    assert three.axes[3].get_position().width < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "got boxes of 2 images, expected 0"),
        ({"labels": [["a"]]}, "got labels of 1 images, expected 2"),
        ({"columns": 0}, "in 0 columns, expected at least one"),
        ({"boxes": [np.zeros(4)] * 2}, r"got boxes \(4,\) of an image, expected \[n, 4\]"),
        ({"truth": [np.zeros((1, 5))] * 2}, r"got truth \(1, 5\) of an image"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        box_panels(**({"images": images(), "boxes": BOXES} | change))
