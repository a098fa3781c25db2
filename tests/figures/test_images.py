"""Grids of images, checked in the pixels that are drawn."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxstruct.figures import image_grid, side_by_side, signed_images

LETTERS = ("original", "reconstruction")


def drawn(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def text_boxes(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [text.get_window_extent(renderer) for text in figure.texts]


def assert_texts_are_readable(figure):
    """Every text lies on the page, over no other text and over no picture."""
    page, texts = figure.bbox, text_boxes(figure)
    pictures = [axes.get_window_extent() for axes in figure.axes]
    for i, box in enumerate(texts):
        assert box.x0 > page.x0 - 1
        assert box.x1 < page.x1 + 1
        assert box.y0 > page.y0 - 1
        assert box.y1 < page.y1 + 1
        assert not any(box.overlaps(other) for other in texts[i + 1 :] + pictures)


def test_grid_by_hand():
    # Two rows of one 1 x 2 image, a white pixel between them: three rows in all.
    images = np.array([[[[0, 255]]], [[[128, 64]]]], np.uint8)
    pixels = drawn(image_grid(images, gap=1))[..., 0]
    scale = pixels.shape[1] // 2
    assert pixels.shape == (3 * scale, 2 * scale)
    expected = np.array([[0, 255], [255, 255], [128, 64]]).repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("shape", [(3, 4, 7, 5), (20, 20, 28, 28), (2, 9, 28, 20), (1, 1, 333, 9)])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_every_pixel_is_a_sharp_square(shape, channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (*shape, *channels), np.uint8)
    pixels = drawn(image_grid(images))
    rows, columns, height, width = shape
    grid = images.reshape(*shape, -1).swapaxes(1, 2).reshape(rows * height, columns * width, -1)
    scale = pixels.shape[0] // len(grid)
    expected = np.broadcast_to(grid.repeat(scale, 0).repeat(scale, 1), pixels.shape)
    np.testing.assert_array_equal(pixels, expected)


def test_labels_do_not_blur_the_pixels():
    images = np.random.default_rng(1).integers(0, 256, (2, 10, 28, 28), np.uint8)
    figure = image_grid(images, title="Reconstructions", row_labels=LETTERS)
    pixels = drawn(figure)[..., 0]
    grid = images.swapaxes(1, 2).reshape(56, 280)
    expected = grid.repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(pixels[-224:, -1120:], expected)


def test_floats_are_clipped_to_0_and_1(caplog):
    pixels = drawn(image_grid(np.array([[[[-3.0, 0.2, 7.0]]]], np.float32)))
    assert np.unique(pixels).tolist() == [0, 51, 255]
    assert not caplog.records


def test_nan_is_white():
    assert np.unique(drawn(image_grid(np.array([[[[0.2, np.nan]]]])))).tolist() == [51, 255]


def test_texts_are_readable():
    images = np.zeros((2, 10, 28, 28), np.float32)
    for column_labels in (list("0123456789"), [f"class number {i}" for i in range(10)]):
        figure = image_grid(
            images, title="Some title", row_labels=LETTERS, column_labels=column_labels, gap=1
        )
        assert len(figure.texts) == 13
        assert_texts_are_readable(figure)
    assert_texts_are_readable(
        image_grid(images[:, :1, :, :5], title="A title wider than its picture by far")
    )


def test_column_labels_stand_over_their_columns():
    figure = image_grid(np.zeros((1, 4, 8, 8)), column_labels=list("abcd"))
    picture = figure.axes[0].get_window_extent()
    centres = [(box.x0 + box.x1) / 2 for box in text_boxes(figure)]
    expected = picture.x0 + picture.width * (np.arange(4) + 0.5) / 4
    np.testing.assert_allclose(centres, expected, atol=1.5)


def test_row_labels_stand_beside_their_rows():
    figure = image_grid(np.zeros((3, 4, 8, 8)), row_labels=list("ace"))
    picture = figure.axes[0].get_window_extent()
    centres = [(box.y0 + box.y1) / 2 for box in text_boxes(figure)]
    expected = picture.y1 - picture.height * (np.arange(3) + 0.5) / 3
    np.testing.assert_allclose(centres, expected, atol=1.5)


def test_side_by_side():
    panels = {
        "2-D": np.zeros((4, 4, 28, 28)),
        "5-D": np.full((2, 3, 28, 28), 0.4),
        "a name too long for its panel": np.full((1, 1, 28, 28, 3), 0.8),
    }
    figure = side_by_side(panels, title="Samples")
    assert [text.get_text() for text in figure.texts] == ["Samples", *panels]
    assert_texts_are_readable(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    # One magnification: widths as 4, 3 and 1 images; and no panel over another.
    np.testing.assert_allclose([box.width / boxes[2].width for box in boxes], [4, 3, 1], rtol=1e-6)
    assert boxes[0].x1 < boxes[1].x0
    assert boxes[1].x1 < boxes[2].x0
    for box, grey, pixels in zip(boxes, (0, 102, 204), [drawn(figure)] * 3, strict=True):
        height = len(pixels)
        inside = pixels[
            round(height - box.y1) : round(height - box.y0), round(box.x0) : round(box.x1)
        ]
        assert np.all(inside == grey)


def test_a_page_is_legible_at_readme_width():
    for shape in [(20, 20, 28, 28), (1, 2, 3, 3), (1, 1, 900, 1900)]:
        figure = image_grid(np.zeros(shape), title="Some title")
        width = max(800, figure.get_figwidth() * figure.dpi)
        assert text_boxes(figure)[0].height * 800 / width > 10


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (np.zeros((2, 8, 8)), {}, ValueError, r"images \(2, 8, 8\), expected \[R, C, H, W"),
        (np.zeros((1, 1, 8, 8, 2)), {}, ValueError, r"\(1, 1, 8, 8, 2\)"),
        (np.zeros((0, 1, 8, 8)), {}, ValueError, r"\(0, 1, 8, 8\)"),
        (np.zeros((1, 1, 8, 8), int), {}, TypeError, "int64, expected floating or uint8"),
        (np.zeros((1, 1, 8, 8)), {"gap": -1}, ValueError, "gap=-1"),
        (np.zeros((2, 1, 8, 8)), {"row_labels": ["a"]}, ValueError, "1 row_labels, expected 2"),
        (np.zeros((2, 1, 8, 8)), {"column_labels": "ab"}, ValueError, "2 column_labels"),
    ],
)
def test_errors_name_what_was_given(images, options, error, message):
    with pytest.raises(error, match=message):
        image_grid(images, **options)


def test_side_by_side_errors():
    with pytest.raises(ValueError, match="no panels"):
        side_by_side({})
    with pytest.raises(ValueError, match=r"5-D \(3, 3\)"):
        side_by_side({"5-D": np.zeros((3, 3))})


def test_figures_leave_pyplot_alone():
    code = "import sys, jaxstruct.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_signed_images_have_zero_in_the_middle_and_their_own_scale():
    values = np.array([[[[0.0], [2.0]], [[-1.0], [1.0]]], [[[0.0], [0.0]], [[0.0], [-0.1]]]])
    images = signed_images(values)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, ..., 0], [[0.5, 1.0], [0.25, 0.75]])
    np.testing.assert_allclose(images[1, ..., 0], [[0.5, 0.5], [0.5, 0.0]], atol=1e-6)
    np.testing.assert_array_equal(signed_images(np.zeros((1, 2, 2, 1))), 0.5)
    with pytest.raises(ValueError, match=r"\(2, 2\), expected \[\.\.\., H, W, C\]"):
        signed_images(np.zeros((2, 2)))
