"""Heat maps: which pixel a cell lies over, in which colour, and what is refused."""

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxstruct.figures import heat_maps
from tests.figures.laid_out import assert_nothing_overlaps

CAR = "probability of a car"


def images():
    return [np.full((40, 60, 3), 100, np.uint8), np.full((90, 30, 3), 100, np.uint8)]


def drawn_at(figure, axes, x, y):
    """The colour of the page at a pixel of the image in the axes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    across, down = axes.transData.transform((x, y))
    return pixels[round(down), round(across)].tolist()


def over_grey(share):
    """A value's colour over a pixel of grey 100, which is drawn as 64 + 100 / 2."""
    color = 255 * np.array(matplotlib.colormaps["plasma"](float(share))[:3])
    return pytest.approx((0.85 * share * color + (1 - 0.85 * share) * 114).tolist(), abs=3)


def test_a_map_is_spread_over_its_image():
    maps = {"scale 1": [[[0, 1.0], [0.5, np.nan]], [[1.0], [0]]]}
    figure = heat_maps(images(), maps, quantity=CAR, limits=(0, 1), title="a car?")
    assert [text.get_text() for text in figure.texts] == ["a car?", "image", "scale 1"]
    first, second, one, other, bar = figure.axes
    assert drawn_at(figure, first, 45, 10) == drawn_at(figure, second, 15, 20) == [100] * 3
    assert drawn_at(figure, one, 15, 10) == over_grey(0)
    assert drawn_at(figure, one, 45, 10) == over_grey(1)
    assert drawn_at(figure, one, 15, 30) == over_grey(0.5)
    assert drawn_at(figure, one, 45, 30) == over_grey(0)
    assert drawn_at(figure, other, 15, 20) == over_grey(1)
    assert drawn_at(figure, other, 15, 70) == over_grey(0)
    assert bar.get_xlabel() == CAR
    assert bar.get_xlim() == (0, 1)
    # The bar shows what is drawn over a middle grey.
    middle = bar.get_window_extent()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    at = pixels[round((middle.y0 + middle.y1) / 2), round((middle.x0 + middle.x1) / 2)]
    assert at.tolist() == pytest.approx(drawn_at(figure, one, 15, 30), abs=10)
    assert not one.patches


def test_a_grid_lies_where_its_cells_look():
    # Crops of 12 pixels every 4: the first cell covers the pixels 4 to 7.
    one = np.zeros((8, 13))
    one[2, 3] = 1
    figure = heat_maps(
        images()[:1],
        {"1": [one], "1/2": [np.ones((5, 8))]},
        quantity=CAR,
        grids={"1": (4, 4), "1/2": (8, 0)},
    )
    _, axes, covered, _ = figure.axes
    assert drawn_at(figure, axes, 16, 12) == over_grey(1)
    assert drawn_at(figure, axes, 19, 15) == over_grey(1)
    assert drawn_at(figure, axes, 15, 12) == drawn_at(figure, axes, 20, 15) == over_grey(0)
    # The map ends before the border, which a frame shows; the other covers all, and is cut there.
    assert [patch.get_bbox().extents.tolist() for patch in axes.patches] == 2 * [
        [3.5, 3.5, 55.5, 35.5]
    ]
    assert not covered.patches
    assert (covered.get_xlim(), covered.get_ylim()) == ((-0.5, 59.5), (39.5, -0.5))


def test_all_maps_share_the_values_that_occur():
    maps = {"a": [[[-3.0]], [[np.inf]]], "b": [[[5.0]], [[np.nan]]]}
    figure = heat_maps(images(), maps, quantity="logit")
    assert figure.axes[-1].get_xlim() == (-3, 5)
    assert drawn_at(figure, figure.axes[2], 30, 20) == over_grey(0)
    assert drawn_at(figure, figure.axes[4], 30, 20) == over_grey(1)
    alike = heat_maps(images()[:1], {"a": [[[2.0]]]}, quantity="logit")
    assert alike.axes[-1].get_xlim() == (1.5, 2.5)


@pytest.mark.parametrize("columns", [1, 4, 6])
def test_a_page_is_legible(columns):
    maps = {f"scale 1/{i}, stride {i}": [np.eye(3)] * 2 for i in range(columns)}
    figure = heat_maps(images(), maps, quantity=CAR, title="is this pixel a car?")
    assert_nothing_overlaps(figure)
    assert figure.get_figwidth() == 8
    assert min(text.get_fontsize() for text in figure.texts) >= 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": {}}, "got no maps, expected at least one column"),
        ({"maps": {"a": [np.eye(2)]}}, "got 1 rows of 'a', expected 2, one an image"),
        ({"maps": {"a": [np.eye(2), np.ones(3)]}}, r"map \(3,\) in 'a', row 1, expected \[h, w\]"),
        ({"maps": {"a": [np.ones((0, 2))] * 2}}, r"map \(0, 2\) in 'a', row 0"),
        ({"maps": {"a": [[[np.nan]]] * 2}}, "maps without a finite value"),
        ({"limits": (1, 1)}, r"got limits \(1, 1\), expected a lower and a higher value"),
        ({"grids": {"b": (8, 0)}}, r"stride 8 for 'b', expected one above 0 for some of \['a'\]"),
        ({"grids": {"a": (0, 0)}}, "grid of stride 0 for 'a', expected one above 0"),
        ({"images": []}, "got no images"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    given = {"images": images(), "maps": {"a": [np.eye(2)] * 2}, "quantity": CAR}
    with pytest.raises(ValueError, match=message):
        heat_maps(**(given | change))


@pytest.mark.parametrize(
    ("shape", "grid", "framed"),
    [
        ((5, 8), (8, 0), False),
        ((5, 7), (8, 0), True),
        ((4, 8), (8, 0), True),
        ((5, 8), (8, 1), True),
        ((6, 8), (8, -1), False),
    ],
)
def test_a_frame_is_drawn_where_a_map_does_not_reach_to_a_border(shape, grid, framed):
    figure = heat_maps(images()[:1], {"a": [np.ones(shape)]}, quantity=CAR, grids={"a": grid})
    assert bool(figure.axes[1].patches) == framed
