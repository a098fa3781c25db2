"""Selective Search: the same boxes in the same order everywhere, in the pixels of the image."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxstruct.data import selective_search, shapes

ORDER = sys.modules["jaxstruct.data.selective_search"]._order


def scene(seed=0, size=(60, 80)):
    return shapes.group(seed, 0, size, classes=10).image


def of_opencv(image):
    """The boxes of an image that OpenCV takes as it is, as a set."""
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image))
    search.switchToSelectiveSearchFast()
    return {(x, y, x + w, y + h) for x, y, w, h in search.process().tolist()}


def rows(boxes):
    return [tuple(box) for box in boxes.tolist()]


def in_order(boxes):
    """Different boxes in the order that is promised, one after the other."""

    def area(box):
        return (box[2] - box[0]) * (box[3] - box[1])

    def alike(a, b):
        sides = [min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1)]
        common = max(sides[0], 0) * max(sides[1], 0)
        return Fraction(int(common), int(area(a) + area(b) - common)) >= Fraction(8, 10)

    agree = {a: sum(alike(a, b) for b in boxes) for a in boxes}
    ranked = sorted(boxes, key=lambda box: (-agree[box], -area(box), *reversed(box)))
    first = []
    for box in ranked:
        if not any(alike(box, other) for other in first):
            first.append(box)
    return first + [box for box in ranked if box not in first]


@pytest.mark.parametrize("seed", [0, 1])
def test_boxes_are_those_of_opencv_in_the_promised_order(seed):
    image = scene(seed)
    found = rows(selective_search(image, width=None))
    assert set(found) == of_opencv(image[..., ::-1]) != of_opencv(image)
    assert len(set(found)) == len(found) > 10
    assert found == in_order(found)
    assert found != in_order(found)[::-1]


def test_the_order_is_one_of_the_set():
    draw = np.random.default_rng(0)
    corners = np.sort(draw.integers(0, 10, (400, 2, 2)), axis=1)
    corners[:, 1] += 1
    boxes = np.unique(corners.reshape(-1, 4), axis=0)
    expected = in_order([tuple(box) for box in boxes.tolist()])
    for _ in range(3):
        boxes = draw.permutation(boxes)
        assert rows(boxes[ORDER(boxes)]) == expected
    assert len(boxes) > 256  # compared in two parts


def digest(image):
    return hashlib.sha256(selective_search(image).tobytes()).hexdigest()


def test_threads_and_processes_find_the_same():
    image = scene()
    expected = digest(image)
    assert digest(image) == expected
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(digest, [image] * 8)) == {expected}
    code = "from tests.data.test_selective_search import *; print(digest(scene()))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout.decode().split() == [expected], done.stderr


def test_a_box_includes_the_last_pixel():
    image = np.full((60, 80, 3), 40, np.uint8)
    image[10:30, 20:50] = 250, 60, 60
    assert (20, 10, 50, 30) in rows(selective_search(image, width=None))
    quality = selective_search(image, mode="quality", width=None)
    assert (20, 10, 50, 30) in rows(quality)


def test_quality_finds_more_boxes():
    image = scene()
    fast, quality = (len(selective_search(image, mode=mode)) for mode in ("fast", "quality"))
    assert quality > fast


@pytest.mark.parametrize(
    ("size", "width"), [((60, 80), 40), ((61, 83), 40), ((83, 31), 30), ((9, 2000), 20)]
)
def test_a_shrunk_image_has_its_boxes_in_its_own_pixels(size, width):
    image = scene(0, size)
    found = selective_search(image, width=width)
    height, full = size
    small = cv2.resize(
        image, (width, max(1, round(height * width / full))), interpolation=cv2.INTER_AREA
    )
    scale = np.array([full / width, height / len(small)] * 2)
    np.testing.assert_allclose(found, selective_search(small, width=None) * scale, rtol=1e-6)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert found[:, 2].max() == full
    assert found[:, 3].max() == height


def test_a_width_that_is_reached_changes_nothing():
    image = scene()
    whole = selective_search(image, width=None)
    np.testing.assert_array_equal(selective_search(image, width=80), whole)
    np.testing.assert_array_equal(selective_search(image), whole)
    assert len(selective_search(image, width=79)) != len(whole)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (5, 5), (1, 40), (40, 1), (12, 500)])
@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_small_and_plain_images_have_at_least_one_box(size, mode):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for image in (noise, np.full((*size, 3), 7, np.uint8)):
        found = selective_search(image, mode=mode)
        assert len(found) >= 1
        assert (found[:, 2:] > found[:, :2]).all()
        assert (found >= 0).all()
        assert (found[:, 2:] <= size[::-1]).all()
    assert rows(found) == [(0, 0, size[1], size[0])]


def test_a_grey_image_is_one_of_equal_colours():
    grey = scene().mean(axis=2, keepdims=True).astype(np.uint8)
    found = selective_search(grey)
    assert len(found) > 10
    np.testing.assert_array_equal(found, selective_search(np.repeat(grey, 3, axis=2)))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((4, 5, 3)), {}, r"image float64 \[4, 5, 3\]; expected uint8 \[H, W, 3\]"),
        (np.zeros((4, 5), np.uint8), {}, r"image uint8 \[4, 5\]"),
        (np.zeros((4, 5, 4), np.uint8), {}, r"image uint8 \[4, 5, 4\]"),
        (np.zeros((0, 5, 3), np.uint8), {}, r"\[0, 5, 3\]; .* H and W at least 1"),
        (scene(), {"mode": "slow"}, "mode 'slow', expected one of fast, quality"),
        (scene(), {"width": 0}, "width 0, expected at least 1, or None"),
    ],
)
def test_what_is_refused(image, options, message):
    with pytest.raises(ValueError, match=message):
        selective_search(image, **options)
