"""Tables of pairs of classes: colours by sign, numbers where there is room, what is refused."""

import numpy as np
import pytest

from jaxstruct.figures import pair_table
from tests.figures.laid_out import assert_nothing_overlaps

VALUES = np.array([[0.0, 2.04], [-1.0, -0.02]])
LABELS = {"quantity": "cost", "row_label": "a pixel", "column_label": "its neighbour"}


def test_numbers_stand_where_their_pair_is():
    figure = pair_table(VALUES, ("sky", "road"), **LABELS, title="CamVid")
    axes, bar = figure.axes
    np.testing.assert_allclose(axes.collections[0].get_array(), VALUES)
    assert axes.yaxis_inverted()
    words = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert words == {(0.5, 0.5): "0.0", (1.5, 0.5): "2.0", (0.5, 1.5): "−1.0", (1.5, 1.5): "0.0"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("its neighbour", "a pixel")
    assert bar.get_ylim() == (-2.04, 2.04)  # 0 is white
    assert figure.get_suptitle() == "CamVid"


@pytest.mark.parametrize("count", [1, 11, 60])
def test_a_page_is_legible(count):
    names = [f"{'a potted plant' if i % 3 else 'car'} {i}" for i in range(count)]
    figure = pair_table(np.full((count, count), -10.5), names, **LABELS)
    assert_nothing_overlaps(figure)
    assert len(figure.axes[0].texts) == (count**2 if count < 60 else 0)
    assert all(text.get_fontsize() >= 7 for text in figure.axes[0].texts)


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (np.zeros((2, 3)), ("a", "b"), r"got values \(2, 3\) of 2 names, expected one shape"),
        (np.zeros((0, 0)), (), r"got values \(0, 0\) of 0 names, expected at least one"),
        (np.full((1, 1), np.nan), ("a",), "got values that are not finite"),
    ],
)
def test_what_is_refused(values, names, message):
    with pytest.raises(ValueError, match=message):
        pair_table(values, names, **LABELS)
