"""Class maps beside their images: where they are drawn, in which colours, and their legend."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from jaxstruct.figures import class_map_panels, label_colors
from tests.figures.laid_out import assert_nothing_overlaps

NAMES = ("sky", "road", "car", "tree")
COLORS = np.array([[0, 0, 250], [250, 0, 0], [0, 250, 0], [9, 9, 9]], np.uint8)
VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)


def images():
    return [np.full((40, 60, 3), 200, np.uint8), np.full((90, 30, 3), 100, np.uint8)]


def halves(left, right, dtype=np.uint8):
    """A class map of each image: one class to the left, one to the right."""
    found = []
    for image in images():
        labels = np.full(image.shape[:2], left, dtype)
        labels[:, labels.shape[1] // 2 :] = right
        found.append(labels)
    return found


def halves_drawn(figure, axes):
    """The colours in the middle of the left and of the right half of a panel."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    box = axes.get_window_extent()
    row = round((box.y0 + box.y1) / 2)
    return [pixels[row, round(box.x0 + box.width * at)].tolist() for at in (0.25, 0.75)]


def legend(figure):
    (found,) = figure.legends
    colors = [patch.get_facecolor()[:3] for patch in found.get_patches()]
    words = [text.get_text() for text in found.get_texts()]
    return {
        word: np.round(255 * np.array(c)).tolist() for word, c in zip(words, colors, strict=True)
    }


def test_each_class_is_drawn_in_its_colour_under_its_title():
    maps = {"truth": halves(1, 255), "8s": halves(1, 2, np.int32)}
    figure = class_map_panels(images(), maps, NAMES, colors=COLORS, title="CamVid")
    assert [text.get_text() for text in figure.texts] == ["CamVid", "image", "truth", "8s"]
    assert len(figure.axes) == 6
    by_column = [figure.axes[i : i + 2] for i in (0, 2, 4)]
    for row, grey in enumerate((200, 100)):
        assert halves_drawn(figure, by_column[0][row]) == [[grey] * 3] * 2
        assert halves_drawn(figure, by_column[1][row]) == [[250, 0, 0], [225] * 3]
        assert halves_drawn(figure, by_column[2][row]) == [[250, 0, 0], [0, 250, 0]]
    # Classes that occur, and no other.
    assert legend(figure) == {"road": [250, 0, 0], "car": [0, 250, 0], "void": [225] * 3}
    places = [[axes.get_window_extent() for axes in column] for column in by_column]
    for row, image in enumerate(images()):
        for title, column in zip(figure.texts[1:], places, strict=True):
            assert column[row].width / column[row].height == pytest.approx(
                image.shape[1] / image.shape[0]
            )
            assert title.get_position()[0] * figure.bbox.width == pytest.approx(
                (column[row].x0 + column[row].x1) / 2
            )
    assert places[0][0].y0 > places[0][1].y1


def test_classes_over_the_grey_of_the_image():
    maps = {"8s": halves(1, 255)}
    figure = class_map_panels(images(), maps, NAMES, colors=COLORS, over_image=True, opacity=0.5)
    assert halves_drawn(figure, figure.axes[2]) == [[225, 100, 100], [200] * 3]
    # Void is the image, and the legend is mixed with a middle grey.
    assert legend(figure) == {"road": [189, 64, 64]}


def test_boxes_have_the_colours_of_their_classes():
    boxes = [([[10, 5, 30, 25]], [2], ["car 0.9"]), (np.zeros((0, 4)), [], [])]
    maps = {"8s": halves(1, 1)}
    figure = class_map_panels(images(), maps, NAMES, boxes={"detector": boxes})
    assert [text.get_text() for text in figure.texts] == ["image", "8s", "detector"]
    axes = figure.axes[4]
    (outline,) = [p for p in axes.patches if isinstance(p, Rectangle)]
    assert outline.get_bbox().extents.tolist() == [9.5, 4.5, 29.5, 24.5]
    np.testing.assert_allclose(outline.get_edgecolor()[:3], label_colors(3)[2] / 255)
    assert [text.get_text() for text in axes.texts] == ["car 0.9"]
    np.testing.assert_array_equal(axes.images[0].get_array(), images()[0])
    assert [*legend(figure)] == ["road", "car"]
    upon = class_map_panels(images(), maps, NAMES, boxes={"image": boxes})
    assert len(upon.axes) == 4
    assert len(upon.axes[0].patches) == 1


@pytest.mark.parametrize("count", [1, 11, 21])
@pytest.mark.parametrize("columns", [1, 5, 7])
def test_a_page_is_legible(count, columns):
    every = [np.arange(40 * 60).reshape(40, 60) % count, np.full((90, 30), 255)]
    maps = {f"after {'the ' * i}dense CRF": every for i in range(columns)}
    figure = class_map_panels(images(), maps, VOC[:count], title="a title")
    assert_nothing_overlaps(figure)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [*VOC[:count], "void"]
    assert figure.get_figwidth() == 8
    assert min(text.get_fontsize() for text in figure.legends[0].get_texts()) >= 9
    assert min(text.get_fontsize() for text in figure.texts) >= 9


def test_a_title_of_one_long_word_is_not_cut():
    maps = {f"EfficientNet-lite0-{i}": halves(0, 1) for i in range(7)}
    assert_nothing_overlaps(class_map_panels(images(), maps, NAMES))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": []}, ValueError, "got no images, expected at least one"),
        (
            {"images": [np.zeros((40, 60), np.uint8)]},
            ValueError,
            r"image \(40, 60\) in row 0, expected \[H, W, 3\]",
        ),
        (
            {"images": [np.zeros((40, 60, 3))]},
            TypeError,
            "image of row 0 has dtype float64, expected uint8",
        ),
        ({"maps": {"8s": halves(0, 1)[:1]}}, ValueError, "got 1 rows of '8s', expected 2, one an"),
        (
            {"maps": {"8s": halves(0, 1)[::-1]}},
            ValueError,
            r"class map \(90, 30\) in '8s', row 0, expected \(40, 60\), as its image",
        ),
        ({"maps": {"8s": halves(0, 1, float)}}, TypeError, "'8s', row 0 has dtype float64"),
        (
            {"maps": {"8s": halves(0, 4)}},
            ValueError,
            "got class 4 in '8s', row 0, expected 0 to 3, which have names, or 255 for void",
        ),
        ({"maps": {"8s": halves(0, -1, int)}}, ValueError, "got class -1 in '8s'"),
        ({"colors": COLORS[:3]}, ValueError, r"colors \(3, 3\), expected \[4, 3\], one a class"),
        ({"boxes": {"x": []}}, ValueError, "got 0 rows of 'x', expected 2"),
        (
            {"boxes": {"x": [(np.zeros((2, 4)), [1], ["a", "b"])] * 2}},
            ValueError,
            "got 2 boxes, 1 classes and 2 labels in 'x', row 0; expected as many of each",
        ),
        (
            {"boxes": {"x": [(np.zeros((1, 4)), [4], ["a"])] * 2}},
            ValueError,
            r"boxes of classes \[4\] in 'x', row 0; expected 0 to 3",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    given = {"images": images(), "maps": {"8s": halves(0, 1)}, "names": NAMES}
    with pytest.raises(error, match=message):
        class_map_panels(**(given | change))
