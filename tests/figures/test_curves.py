"""Curves: what is drawn, in which style, and that nothing is drawn over anything else."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxstruct.figures import curve_panels, curves

X = np.geomspace(1e5, 1e8, 10)
NAMES = ["AEVB (test)", "AEVB (train)", "wake-sleep (test)", "wake-sleep (train)"]
DASHED = {"AEVB (train)": "AEVB (test)", "wake-sleep (train)": "wake-sleep (test)"}
LABELS = {"x_label": "images seen", "y_label": "bound (nats)"}


def lines(offset=0.0):
    return {name: (X, np.log(X) + i + offset) for i, name in enumerate(NAMES)}


def boxes(figure):
    """The page's texts, its legends and its panels with their own texts, once laid out."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    labels = [figure._supxlabel, figure._supylabel]
    return [a.get_tightbbox(renderer) for a in [*labels, *figure.legends, *figure.axes]]


def assert_nothing_overlaps(figure):
    found, page = boxes(figure), figure.bbox
    for i, box in enumerate(found):
        assert box.x0 > page.x0 - 1
        assert box.x1 < page.x1 + 1
        assert box.y0 > page.y0 - 1
        assert box.y1 < page.y1 + 1
        assert not any(box.overlaps(other) for other in found[i + 1 :])


def test_lines_are_drawn_as_given():
    figure = curves(lines(), title="MNIST", dashed=DASHED, log_x=True, **LABELS)
    (axes,) = figure.axes
    assert axes.get_title() == "MNIST"
    assert axes.get_xscale() == "log"
    assert [line.get_label() for line in axes.lines] == NAMES
    for line, (x, y) in zip(axes.lines, lines().values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), x)
        np.testing.assert_array_equal(line.get_ydata(), y)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == NAMES


def test_a_dashed_line_is_lighter_and_has_the_colour_of_its_companion():
    solid, dashed, other, _ = curves(lines(), dashed=DASHED, **LABELS).axes[0].lines
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert solid.get_color() == dashed.get_color() != other.get_color()
    assert dashed.get_alpha() < solid.get_alpha()


def test_a_name_has_one_colour_in_all_panels():
    some = lines()
    panels = {"all": some, "last": {NAMES[2]: some[NAMES[2]]}}
    first, last = curve_panels(panels, **LABELS).axes
    assert last.lines[0].get_color() == first.lines[2].get_color()


def test_more_lines_than_the_palette_has_colours():
    many = {str(i): (X, X + i) for i in range(12)}
    drawn = curves(many, **LABELS).axes[0].lines
    assert len({line.get_color() for line in drawn}) == 12


def test_a_lone_point_is_a_dot_and_a_lone_line_needs_no_legend():
    figure = curves({"test": ([1.0], [2.0])}, **LABELS)
    assert figure.axes[0].lines[0].get_marker() == "o"
    assert not figure.legends


def test_limits():
    figure = curves(lines(), y_limits=(10, 12), **LABELS)
    assert figure.axes[0].get_ylim() == (10, 12)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("log_x", [False, True])
def test_panels_overlap_nothing(count, log_x):
    panels = {f"Frey Face, $N_z$ = {i}": lines(i) for i in range(count)}
    figure = curve_panels(panels, dashed=DASHED, log_x=log_x, **LABELS)
    assert [axes.get_title() for axes in figure.axes] == list(panels)
    assert_nothing_overlaps(figure)


def test_the_lowest_panel_of_every_column_has_its_numbers():
    figure = curve_panels({str(i): lines() for i in range(9)}, **LABELS)
    FigureCanvasAgg(figure).draw()
    ticks = [axes.xaxis.get_major_ticks()[0] for axes in figure.axes]
    assert [tick.label1.get_visible() for tick in ticks] == [False] * 4 + [True] * 5


def test_a_long_legend_stays_on_the_page():
    many = {f"a line with the long name {i}": (X, X + i) for i in range(9)}
    assert_nothing_overlaps(curves(many, title="Lines", **LABELS))


def test_panels_share_their_y_axis_unless_told():
    panels = {"low": lines(), "high": lines(100)}
    low, high = curve_panels(panels, **LABELS).axes
    assert low.get_ylim() == high.get_ylim()
    low, high = curve_panels(panels, share_y=False, **LABELS).axes
    assert low.get_ylim() != high.get_ylim()


def test_errors_name_what_was_given():
    with pytest.raises(ValueError, match="no lines"):
        curves({}, **LABELS)
    with pytest.raises(ValueError, match="no lines"):
        curve_panels({}, **LABELS)
    with pytest.raises(ValueError, match=r"x \(2,\) and y \(3,\) of 'a'"):
        curves({"a": ([1, 2], [1, 2, 3])}, **LABELS)
    with pytest.raises(ValueError, match=r"\['train'\], expected some of \['test'\]"):
        curves({"test": (X, X)}, dashed={"train": "test"}, **LABELS)


def test_large_numbers_of_a_linear_axis_are_short():
    figure = curves({"a": ([0, 2.5e6], [0, 1])}, x_label="images", y_label="y")
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert {"0", "400k", "1.2M", "2M"} <= set(labels)
    assert not figure.axes[0].xaxis.get_offset_text().get_text()


@pytest.mark.parametrize(
    ("x", "some"),
    [([2, 10, 64], {"2", "5", "10", "20", "50"}), ([300, 2000], {"500", "1k", "2k"})],
)
def test_a_logarithmic_axis_of_less_than_two_decades_has_ticks_between_them(x, some):
    figure = curves({"a": (x, x)}, log_x=True, **LABELS)
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert some <= set(labels)
    assert len(labels) < 9
