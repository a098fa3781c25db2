"""Upconvolutions as grids: which input reaches which output, and what padding cuts off."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxstruct.figures import upconvolution
from tests.figures.laid_out import assert_nothing_overlaps

INPUTS = ((0, 0), (1, 2), (2, 1))
PLAIN = {"plain": {"stride": 1, "padding": 0}}


def letters(axes):
    """What is written into the cells, {(row, column): letters}."""
    return {
        tuple(int(at) for at in text.get_position()[::-1]): text.get_text().replace("+", "")
        for text in axes.texts
    }


def cells(axes):
    return {tuple(patch.get_xy()[::-1]): patch for patch in axes.patches}


def by_the_equation(kernel, stride, low):
    """Input q reaches the outputs stride q - low to stride q - low + k - 1."""
    found = {}
    top, left = np.broadcast_to(low, 2).tolist()
    for letter, (y, x) in zip("abc", INPUTS, strict=True):
        for i, j in np.ndindex(*kernel):
            at = stride * y - top + i, stride * x - left + j
            found[at] = found.get(at, "") + letter
    return found


@pytest.mark.parametrize(
    ("kernel", "options", "low", "output"),
    [
        ((3, 3), {"padding": 0}, 0, (5, 6)),
        ((3, 3), {"stride": 1, "padding": 1}, 1, (3, 4)),
        ((3, 3), {"stride": 2, "padding": 0}, 0, (7, 9)),
        ((3, 3), {"stride": 2, "padding": 1, "output_padding": 1}, 1, (6, 8)),
        ((3, 3), {"stride": 2, "padding": 0, "output_padding": 1}, 0, (8, 10)),
        ((4, 4), {"stride": 2, "padding": "SAME"}, 1, (6, 8)),
        ((2, 3), {"stride": 1, "padding": "VALID"}, 0, (4, 6)),
        ((2, 3), {"stride": 1, "padding": (0, 1)}, (0, 1), (4, 4)),
        ((1, 1), {"stride": 3, "padding": "SAME"}, 0, (9, 12)),
    ],
)
def test_an_input_reaches_the_outputs_of_the_equation(kernel, options, low, output):
    figure = upconvolution({"one": options}, input_size=(3, 4), kernel_size=kernel, inputs=INPUTS)
    of_input, of_output = figure.axes
    assert letters(of_input) == {at: letter for letter, at in zip("abc", INPUTS, strict=True)}
    assert len(of_input.patches) == 12
    # Cells of the output are drawn with whole lines, what is cut off with dashed ones.
    drawn = cells(of_output)
    inside = [at for at, patch in drawn.items() if patch.get_linestyle() in ("-", "solid")]
    top, left = min(inside)
    assert len(inside) == np.prod(output)
    assert max(inside) == (top + output[0] - 1, left + output[1] - 1)
    reached = {(y - top, x - left): word for (y, x), word in letters(of_output).items()}
    assert reached == by_the_equation(kernel, options.get("stride", 1), low)
    words = [text.get_text() for text in figure.texts]
    assert "input, 3 x 4" in words
    assert f"output, {output[0]} x {output[1]}" in words
    assert ("dashed" in words[-1]) == (len(drawn) > len(inside))


def test_where_inputs_overlap_it_is_darker():
    figure = upconvolution(PLAIN, inputs=((0, 0), (0, 1)))
    drawn = cells(figure.axes[1])
    alone, both, other, idle = (np.array(drawn[0, x].get_facecolor()[:3]) for x in (0, 1, 3, 4))
    of_input = cells(figure.axes[0])
    assert tuple(alone) == of_input[0, 0].get_facecolor()[:3]
    assert tuple(other) == of_input[0, 1].get_facecolor()[:3]
    assert (both < np.minimum(alone, other)).all()
    assert (idle > 0.9).all()
    assert letters(figure.axes[1])[0, 1] == "ab"
    assert "a+b" in [text.get_text() for text in figure.axes[1].texts]


def test_all_cells_are_squares_of_one_size():
    figure = upconvolution(PLAIN | {"wide": {"stride": 2, "padding": 0}})
    figure.draw_without_rendering()
    sizes = [cells(axes)[1, 1].get_window_extent() for axes in figure.axes]
    np.testing.assert_allclose([(box.width, box.height) for box in sizes], sizes[0].width)


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("size", [(3, 3), (2, 9)])
def test_a_page_is_legible(count, size):
    options = {"stride": 2, "padding": 1, "output_padding": 1}
    panels = {f"with stride and with padding {i}": options for i in range(count)}
    figure = upconvolution(panels, input_size=size, inputs=((0, 0), (0, 1), (1, 1)))
    assert_nothing_overlaps(figure)
    assert figure.get_figwidth() == 8
    assert min(text.get_fontsize() for text in figure.texts) >= 9
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        cell = cells(axes)[0, 0].get_window_extent(renderer)
        for text in axes.texts:
            box = text.get_window_extent(renderer)
            assert box.width < cell.width
            assert text.get_fontsize() >= 7 or size != (3, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"panels": {}}, ValueError, "got no panels, expected at least one"),
        ({"inputs": ()}, ValueError, "got 0 inputs, expected 1 to 6"),
        ({"inputs": INPUTS * 3}, ValueError, "got 9 inputs, expected 1 to 6"),
        ({"inputs": ((0, 3),)}, ValueError, r"got input \(0, 3\), expected one of a grid of 3 x 3"),
        ({"input_size": (0, 3)}, ValueError, r"input_size \(0, 3\), expected two numbers of at"),
        ({"kernel_size": 3}, ValueError, "got kernel_size 3, expected two numbers of at least 1"),
        ({"panels": {"a": {"padding": 3}}}, ValueError, "got padding 3 .*expected a smaller"),
        ({"panels": {"a": {"dilation": 2}}}, TypeError, "dilation"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    with pytest.raises(error, match=message):
        upconvolution(**({"panels": PLAIN} | change))
