"""The contact sheet, pixel by pixel."""

import numpy as np
import pytest

from jaxstruct.data import Examples
from jaxstruct.data.sheet import contact_sheet


def test_tiles_stand_row_by_row():
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.full((28, 28, 1), 50, np.uint8)
    sheet = np.asarray(contact_sheet(Examples({"image": images}), columns=2))
    # 28 pixels enlarged twice to 56, gaps of 4: 4 + 2 * 60 wide, two rows high.
    assert sheet.shape == (124, 124, 3)
    assert sheet[4, 4].tolist() == [0, 0, 0]
    assert sheet[59, 119].tolist() == [50, 50, 50]
    assert sheet[64, 4].tolist() == [100, 100, 100]
    assert sheet[100, 100].tolist() == [255, 255, 255]
    assert (sheet[60:64] == 255).all()


def test_labels_are_drawn_below():
    images = np.zeros((1, 56, 56, 3), np.uint8)
    plain = np.asarray(contact_sheet(Examples({"image": images})))
    labelled = np.asarray(
        contact_sheet(Examples({"image": images, "label": np.array([7], np.int32)}))
    )
    assert len(labelled) == len(plain) + 12
    assert (labelled[60:] < 128).any()


def test_a_class_is_named_as_far_as_there_is_room():
    images = np.zeros((2, 56, 56, 3), np.uint8)
    label = np.array([0, 1], np.int32)
    sheets = [
        np.asarray(contact_sheet(Examples({"image": images, "label": label}, None, classes)))
        for classes in ((), ("0", "1"), ("i" * 200, "1"), ("i" * 300, "1"))
    ]
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert (sheets[1][60:] != sheets[2][60:]).any()
    np.testing.assert_array_equal(sheets[2], sheets[3])
    assert (sheets[1][:, 64:] == sheets[2][:, 64:]).all()  # the neighbour's is as it was


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 1)), np.zeros((0, 8, 8, 1), np.uint8)],
)
def test_refuses_what_is_no_image(images):
    with pytest.raises(ValueError, match="expected"):
        contact_sheet(Examples({"image": images}))
