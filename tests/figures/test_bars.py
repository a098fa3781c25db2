"""Bars: their lengths, parts and numbers, and that the same thing is in the same row."""

import pytest

from jaxstruct.figures import bar_panels

PANELS = {
    "AP50": {"one": 0.5, "the other": 0.625},
    "seconds": {"the other": {"network": 0.5, "search": 1.5}, "one": {"network": 0.25}},
}


def test_bars_are_as_long_as_their_values_say():
    precision, seconds = bar_panels(PANELS).axes
    assert [text.get_text() for text in precision.get_yticklabels()] == ["one", "the other"]
    assert [(bar.get_x(), bar.get_width()) for bar in precision.patches] == [(0, 0.5), (0, 0.625)]
    found = [(bar.get_x(), bar.get_width()) for bar in seconds.patches]
    assert found == [(0, 0.25), (0, 0.5), (0.5, 1.5)]
    assert [text.get_text() for text in precision.texts] == ["0.5", "0.625"]
    assert [text.get_text() for text in seconds.texts] == ["0.25", "2"]
    # The first row is above, and the longest bar with its number is within the panel.
    assert precision.yaxis_inverted()
    assert seconds.get_xlim()[1] > 2


def test_a_part_has_one_colour_and_a_name():
    figure = bar_panels(PANELS)
    one, network, search = figure.axes[1].patches
    assert one.get_facecolor() == network.get_facecolor() != search.get_facecolor()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["network", "search"]
    assert not bar_panels({"AP50": PANELS["AP50"]}).legends


def test_a_value_of_0_has_a_bar_and_a_number():
    (axes,) = bar_panels({"AP50": {"one": 0.0}}).axes
    assert [text.get_text() for text in axes.texts] == ["0"]
    assert axes.get_xlim() == (0, 1)


@pytest.mark.parametrize(
    ("panels", "message"),
    [
        ({}, "got no bars, expected at least one panel with one"),
        ({"AP50": {}}, "got no bars"),
        (
            {**PANELS, "AP": {"one": 0.5}},
            r"bars \['one'\] of 'AP', expected \['one', 'the other'\]",
        ),
        ({"AP50": {"one": -0.5}}, "got -0.5 of 'one', expected a finite value of at least 0"),
        ({"AP50": {"one": float("nan")}}, "got nan of 'one'"),
    ],
)
def test_what_cannot_be_drawn_is_named(panels, message):
    with pytest.raises(ValueError, match=message):
        bar_panels(panels)
