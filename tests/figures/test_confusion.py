"""Confusion matrices: which share stands where, what has room, and what is refused."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxstruct.figures import confusion_matrix
from tests.figures.laid_out import assert_nothing_overlaps

COUNTS = np.array([[6, 2, 0], [0, 0, 0], [1, 250, 749]], np.float32)
NAMES = ("sky", "road", "car")


def written(axes):
    return {tuple(text.get_position()): text.get_text() for text in axes.texts}


def test_rows_are_shares_of_the_true_class():
    figure = confusion_matrix(COUNTS, NAMES, title="CamVid")
    axes, bar = figure.axes
    shares = axes.collections[0].get_array()
    np.testing.assert_allclose(shares[0], [75, 25, 0])
    np.testing.assert_allclose(shares[2], [0.1, 25, 74.9])
    assert np.ma.getmaskarray(shares)[1].all()
    # In the middle of a cell (x, y); what rounds to 0 is left out.
    assert written(axes) == {
        (0.5, 0.5): "75",
        (1.5, 0.5): "25",
        (1.5, 1.5): "absent",
        (1.5, 2.5): "25",
        (2.5, 2.5): "75",
    }
    assert axes.yaxis_inverted()
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [text.get_text() for text in labels] == [*NAMES]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert figure.get_suptitle() == "CamVid"
    assert bar.get_ylim() == (0, 100)


@pytest.mark.parametrize("count", [1, 2, 7, 11, 21, 60])
def test_a_page_is_legible(count):
    names = [f"{'a potted plant' if i % 3 else 'car'} {i}" for i in range(count)]
    counts = np.full((count, count), 3.0) + 1e6 * np.eye(count)
    counts[0] = 1
    figure = confusion_matrix(counts, names, title="a title")
    assert_nothing_overlaps(figure)
    assert figure.get_figwidth() == 8
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.axes[0]
    cells = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent(renderer)
        assert box.width < cells.width / count
        assert box.height < cells.height / count
        assert text.get_fontsize() >= 7
    # A diagonal of 100; the first row's shares round to 0 in the largest table alone.
    assert [text.get_text() for text in axes.texts].count("100") == {1: 1, 60: 0}.get(
        count, count - 1
    )
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [text.get_window_extent(renderer) for text in labels]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.ones((3, 2)), r"got counts \(3, 2\) of 3 names, expected one shape \[C, C\]"),
        (np.ones((2, 2)), r"got counts \(2, 2\) of 3 names"),
        (np.zeros((3, 3)), "counts of 0 alone, expected at least one labelled pixel"),
        (COUNTS - 1, "got counts from -1.0 to 748.0, expected at least 0"),
        (np.full((3, 3), np.nan), "got counts from nan to nan"),
    ],
)
def test_what_cannot_be_drawn_is_named(counts, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(counts, NAMES)


def test_no_class_at_all():
    with pytest.raises(ValueError, match="of 0 names, expected at least one"):
        confusion_matrix(np.zeros((0, 0)), ())
