"""Regions on a feature map, and what is pooled of them."""

import itertools

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from jaxstruct.figures import region_pooling

IMAGE = np.zeros((64, 96, 3), np.uint8)
MAP = np.arange(8 * 12 * 5, dtype=float).reshape(8, 12, 5)
REGIONS = np.array([[8.0, 8, 80, 56], [16, 16, 40, 40]])
POOLED = [np.random.default_rng(t).random((2, t, t, 5)) for t in (3, 4)]


def drawn():
    return region_pooling(IMAGE, MAP, REGIONS, POOLED, stride=8)


def test_regions_in_the_image_and_on_the_map():
    figure = drawn()
    image, features = figure.axes[:2]
    boxes = [p.get_bbox().extents.tolist() for p in image.patches if isinstance(p, Rectangle)]
    assert boxes == [[7.5, 7.5, 79.5, 55.5], [15.5, 15.5, 39.5, 39.5]]
    on_map = [p.get_bbox().extents.tolist() for p in features.patches]
    assert on_map == [[0.5, 0.5, 9.5, 6.5], [1.5, 1.5, 4.5, 4.5]]
    np.testing.assert_allclose(features.images[0].get_array(), MAP.mean(-1))


def test_each_region_has_its_grids_and_vectors_of_one_length():
    figure = drawn()
    panels = figure.axes[2:]
    assert len(panels) == 2 * 2 * 2
    titles = [axes.get_title() for axes in panels]
    assert titles == 2 * [
        "3 x 3 cells", "3 x 3 x 5 values", "4 x 4 cells", "4 x 4 x 5 values"
    ]  # fmt: skip
    # T - 1 lines in either direction.
    assert [len(axes.lines) for axes in panels[0:4:2]] == [4, 6]
    np.testing.assert_allclose(panels[1].images[0].get_array(), POOLED[0][0].mean(-1))
    np.testing.assert_allclose(panels[7].images[0].get_array(), POOLED[1][1].mean(-1))


def test_all_that_was_pooled_has_one_scale_of_greys():
    pooled = [np.full((2, 1, 1, 5), 7.0), np.full((2, 2, 2, 5), 9.0)]
    figure = region_pooling(IMAGE, MAP, REGIONS, pooled, stride=8)
    limits = [axes.images[0].get_clim() for axes in figure.axes[2:]]
    assert limits == [(MAP.mean(-1).min(), MAP.mean(-1).max()), (7, 9)] * 4


def test_four_grids_have_titles_that_fit():
    grids = [np.zeros((2, t, t, 512)) for t in (6, 3, 2, 1)]
    figure = region_pooling(IMAGE, MAP, REGIONS, grids, stride=8)
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [axes.title.get_window_extent() for axes in figure.axes[2:10]]
    assert boxes[0].x0 >= page.x0
    assert boxes[-1].x1 <= page.x1
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0


@pytest.mark.parametrize(
    "pooled", [[], [np.zeros((1, 3, 3, 5))], [np.zeros((2, 3, 4, 5))], [np.zeros((2, 3, 3))]]
)
def test_what_does_not_fit_is_named(pooled):
    with pytest.raises(ValueError, match="expected"):
        region_pooling(IMAGE, MAP, REGIONS, pooled, stride=8)
