"""Shapes: the same bits always, true labels and masks, and enough light to see them."""

import hashlib
import math

import numpy as np
import pytest

from jaxstruct.data import shapes
from jaxstruct.data.shapes import CLASSES, scene


def test_a_scene_is_a_pure_function():
    for index in range(12):
        image, label, mask = scene(3, index)
        again = scene(3, index)
        np.testing.assert_array_equal(image, again.image)
        np.testing.assert_array_equal(mask, again.mask)
        assert (label, again.label) == (index % 10, index % 10)
        assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((32, 32), np.bool_)
    assert (scene(3, 0).image != scene(4, 0).image).any()
    assert (scene(3, 0).image != scene(3, 10).image).any()


def test_the_same_bits_on_every_machine():
    digest = hashlib.sha256()
    for index in range(40):
        image, _, mask = scene(0, index, (24, 40))
        digest.update(image.tobytes() + mask.tobytes())
    assert digest.hexdigest()[:16] == "df48c163e302ec8a"


def test_a_scene_is_the_same_at_any_size():
    for index in range(30):
        small, large = scene(1, index, (32, 48)), scene(1, index, (128, 192))
        shrunk = large.image.reshape(32, 4, 48, 4, 3).mean((1, 3))
        assert np.abs(small.image - shrunk).mean() < 4
        share = large.mask.reshape(32, 4, 48, 4).mean((1, 3))
        assert ((share > 0.5) == small.mask).mean() > 0.98
    assert scene(0, 0, (1, 1)).image.shape == (1, 1, 3)


def test_a_shape_stands_out_from_the_ground():
    for index in range(200):
        image, _, mask = scene(2, index)
        assert 20 < mask.sum() < 600
        assert np.abs(image[mask].mean(0) - image[~mask].mean(0)).max() > 25, index


A = math.sqrt(3)
T = math.tan(math.pi / 10)
AREAS = {
    "bar": 2 * 0.66,
    "cross": 2 * 1.9 * 0.6 - 0.6**2,
    "disc": math.pi * 0.85**2,
    "frame": 1.6**2 - 0.88**2,
    "heart": 1.04**2 + math.pi * 0.52**2,
    "ring": math.pi * (0.95**2 - 0.49**2),
    "square": 1.5**2,
    "star": 10 * T / (3 - T**2),  # the pentagram whose points have distance 1 from its middle
    "triangle": 3 * A / 4,
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("turn", [(1.0, 0.0), (0.6, -0.8)])
def test_outlines_enclose_what_they_should(name, turn):
    thing = shapes._Thing(CLASSES.index(name), 0.1, -0.2, 0.5, turn, paint=None)
    x = (np.arange(800) + 0.5) / 400 - 1
    distance = shapes._distance(thing, x[None], x[:, None])
    inside = distance < 0
    if name in AREAS:
        assert inside.mean() * 4 / 0.25 == pytest.approx(AREAS[name], rel=0.01)
    # A distance grows by at most 1 a unit, and by 1 across the outline: edges are equally smooth.
    assert max(np.abs(np.diff(distance, axis=axis)).max() for axis in (0, 1)) < 1.0001 / 400
    slope = np.hypot(*np.gradient(distance, 1 / 400))
    assert np.median(slope[np.abs(distance) < 0.01]) == pytest.approx(1, abs=0.02)
    rows, columns = np.nonzero(inside)
    assert np.hypot(x[columns] - 0.1, x[rows] + 0.2).max() < 0.5 * 1.2


def test_all_colours_and_patterns_occur():
    images = np.stack([scene(0, index).image for index in range(300)]).reshape(300, -1, 3)
    for channel in range(3):  # each is the strongest somewhere
        assert ((images.argmax(2) == channel).mean(1) > 0.8).sum() > 20
    assert len({scene(0, index).image.tobytes() for index in range(300)}) == 300


@pytest.mark.parametrize(
    ("seed", "index", "size"), [(-1, 0, (8, 8)), (0, -1, (8, 8)), (0, 0, (0, 8)), (0, 0, (8, -1))]
)
def test_refuses(seed, index, size):
    with pytest.raises(ValueError, match="expected none below 0, a size above it"):
        scene(seed, index, size)


def test_a_group_s_boxes_go_around_what_is_seen():
    several = hidden = 0
    for index in range(12):
        found = shapes.group(0, index, (60, 80), classes=4, most=5)
        assert found.image.shape == (60, 80, 3)
        assert len(found.labels) == len(found.masks) == len(found.boxes) == len(found.visible)
        assert (found.labels < 4).all()
        # No pixel shows two shapes.
        assert (found.masks.sum(0) <= 1).all()
        for mask, box in zip(found.masks, found.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == around
        assert (found.visible > 0).all()
        several += len(found.labels) > 1
        hidden += bool((found.visible < 1).any())
    assert several >= 6
    assert hidden >= 3
    again = shapes.group(0, 11, (60, 80), classes=4, most=5)
    np.testing.assert_array_equal(again.image, found.image)


def test_the_front_shape_is_whole():
    for index in range(8):
        found = shapes.group(1, index)
        assert found.visible[-1] == 1


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"classes": 0}, {"classes": 11}, {"most": 0}, {"size": (0, 4)}]
)
def test_a_group_refuses(options):
    with pytest.raises(ValueError, match="expected none below 0, a size above it"):
        shapes.group(**({"seed": 0, "index": 0} | options))
