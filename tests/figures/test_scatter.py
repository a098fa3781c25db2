"""Panels of points: who is where, in which colour, and what is refused."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jaxstruct.figures import scatter_panels

POINTS = {str(i): np.random.default_rng(i).normal(size=(5 + i, 2)) for i in range(10)}


def test_every_group_is_drawn_where_it_is():
    figure = scatter_panels({"left": POINTS, "right": {"3": POINTS["3"]}}, x_label="x", y_label="y")
    left, right = figure.axes
    assert [axes.get_title() for axes in (left, right)] == ["left", "right"]
    assert len(left.collections) == 10
    for drawn, points in zip(left.collections, POINTS.values(), strict=True):
        np.testing.assert_array_equal(drawn.get_offsets(), points)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [*POINTS]


def test_a_name_has_one_colour_and_names_differ():
    figure = scatter_panels({"left": POINTS, "right": {"3": POINTS["3"]}})
    left, right = figure.axes
    colours = [tuple(drawn.get_facecolor()[0]) for drawn in left.collections]
    assert len(set(colours)) == 10
    assert tuple(right.collections[0].get_facecolor()[0]) == colours[3] == to_rgba("C3")


def test_one_group_needs_no_legend():
    assert not scatter_panels({"": {"all": POINTS["0"]}}).legends


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least one"):
        scatter_panels({})
    with pytest.raises(ValueError, match="at least one"):
        scatter_panels({"empty": {}})
    with pytest.raises(ValueError, match=r"\(4, 3\) of 'a', expected \[N, 2\]"):
        scatter_panels({"": {"a": np.zeros((4, 3))}})
    with pytest.raises(ValueError, match="11 names"):
        scatter_panels({"": POINTS | {"more": np.zeros((1, 2))}})
