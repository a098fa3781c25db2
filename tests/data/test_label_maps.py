"""Label maps: which label each pixel has, and the file that says the same again."""

import numpy as np
import pytest
from PIL import Image

from jaxstruct.data import DataError, read_labels, voc_colors, write_labels

# Three labels and two pixels of none.
COLORS = np.array([[0, 0, 0], [10, 200, 0], [10, 0, 200], [250, 0, 0]], np.uint8)
INDEX = np.array([[1, 1, 2], [0, 3, 3], [1, 0, 2]], np.uint8)
LABELS = np.array([[1, 1, 0], [255, 2, 2], [1, 255, 0]])  # in the order of their colors


def palette_image(index, colors=COLORS):
    image = Image.fromarray(index)
    image.putpalette(colors.ravel().tolist())
    return image


def assert_same_file(path, other):
    ours, theirs = Image.open(path), Image.open(other)
    assert ours.mode == theirs.mode
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    np.testing.assert_array_equal(
        np.asarray(ours.convert("RGB")), np.asarray(theirs.convert("RGB"))
    )


@pytest.mark.parametrize(
    ("image", "values"),
    [
        (Image.fromarray(COLORS[INDEX]), COLORS[[2, 1, 3]]),
        (palette_image(INDEX), [2, 1, 3]),
    ],
    ids=["rgb", "palette"],
)
def test_labels_are_colors_and_black_is_none(save, tmp_path, image, values):
    found = read_labels(save(image))
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(found.colors, COLORS[[2, 1, 3]])
    np.testing.assert_array_equal(found.values, values)
    write_labels(tmp_path / "again.png", np.where(LABELS == 255, 1, LABELS), found)
    wanted = np.where(INDEX == 0, 1, INDEX)
    assert_same_file(
        tmp_path / "again.png",
        save(
            palette_image(wanted) if image.mode == "P" else Image.fromarray(COLORS[wanted]), "b.png"
        ),
    )


def test_labels_are_grey_values(save, tmp_path):
    grey = np.array([[0, 1, 2], [2, 7, 1]], np.uint8)
    found = read_labels(save(Image.fromarray(grey)))
    np.testing.assert_array_equal(found.labels, [[255, 0, 1], [1, 2, 0]])
    np.testing.assert_array_equal(found.values, [1, 2, 7])
    write_labels(tmp_path / "again.png", np.array([[0, 0, 1], [1, 2, 0]]), found)
    again = Image.open(tmp_path / "again.png")
    assert again.mode == "L"
    np.testing.assert_array_equal(np.asarray(again), [[1, 1, 2], [2, 7, 1]])
    bits = read_labels(save(Image.fromarray(grey > 1), "bits.png"), None)
    np.testing.assert_array_equal(bits.labels, [[0, 0, 1], [1, 1, 0]])


def test_what_is_unknown_is_said(save):
    path = save(palette_image(INDEX))
    np.testing.assert_array_equal(read_labels(path, None).labels, [[2, 2, 1], [0, 3, 3], [2, 0, 1]])
    np.testing.assert_array_equal(
        read_labels(path, (250, 0, 0)).labels, [[2, 2, 1], [0, 255, 255], [2, 0, 1]]
    )
    clear = np.dstack([COLORS[INDEX], np.where(INDEX == 3, 0, 255).astype(np.uint8)])
    found = read_labels(save(Image.fromarray(clear), "clear.png"))
    np.testing.assert_array_equal(found.labels, np.where(LABELS == 2, 255, LABELS))


def test_what_is_no_label_map_is_named(save, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    one = Image.new("RGB", (3, 2), "red")
    for path, unknown, reason in (
        (tmp_path / "no.png", None, "does not exist"),
        (save(one), (0, 0, 0), r"holds the one label \(255, 0, 0\) beside \(0, 0, 0\)"),
        (save(one), None, r"holds the one label .* nothing is unknown; expected at least two"),
        (save(one), (255, 0, 0), "holds no label beside"),
        (save(Image.fromarray(noise), "noise.png"), None, r"400 colors .* at most 255 labels"),
        (save(Image.fromarray(noise[..., 0].astype(np.uint16)), "deep.png"), None, "8 bits"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            read_labels(path, unknown)
        assert str(path) in str(caught.value)


def test_the_colours_of_voc():
    # The devkit's table: background, aeroplane, bicycle, cat, tvmonitor.
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [64, 0, 0], [0, 64, 128]]
    colors = voc_colors(21)
    assert (colors.shape, colors.dtype) == ((21, 3), np.uint8)
    assert colors[[0, 1, 2, 8, 20]].tolist() == expected
    assert voc_colors()[255].tolist() == [224, 224, 192]
    with pytest.raises(ValueError, match="got count=257, expected 0 to 256"):
        voc_colors(257)
