"""The houses: what comes out, what is refused, the imitation."""

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError, class_folders
from jaxstruct.data.sets import houses64
from tests.data.written import drop, image, pixels, write

ROOMS = houses64.ENTRY.classes


def houses():
    return {
        f"{room}/{house:03}.jpg": image(100 * label + house, (64, 64))
        for label, room in enumerate(ROOMS)
        for house in (1, 4, 5, 9, 10)
    }


def test_houses64_are_split_by_house(tmp_path):
    write(tmp_path / "houses64", houses())
    with data.looking(tmp_path):
        train, test = data.load("houses64", "train"), data.load("houses64", "test")
    assert train["image"].shape == (12, 64, 64, 3)
    assert train.classes == ROOMS == ("bathroom", "bedroom", "frontal", "kitchen")
    assert set(train["house"].tolist()) == {1, 4, 9}
    assert set(test["house"].tolist()) == {5, 10}
    assert train["house"].dtype == np.int32
    for examples in (train, test):
        for at in range(examples.size):
            label, house = examples["label"][at], examples["house"][at]
            written = pixels(image(100 * label + house, (64, 64)))
            np.testing.assert_array_equal(examples["image"][at], written)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: {**c, "bedroom/a12.jpg": image(0, (64, 64))}, "/bedroom/a12.jpg: expected the"),
        (lambda c: {**c, "attic/001.jpg": image(0, (64, 64))}, ": classes attic, bath.*; expected"),
        (lambda c: {**c, "bedroom/001.jpg": image(0, (64, 63))}, "64 x 63 pixels; expected 64 x 6"),
        (lambda c: drop(c, "kitchen"), r"kitchen: missing; expected .*beside.*; shrink the middle"),
    ],
)
def test_bad_houses64(tmp_path, spoil, message):
    path = write(tmp_path / "houses64", spoil(houses()))
    with data.looking(tmp_path, imitations=True), pytest.raises(DataError, match=message) as error:
        data.load("houses64", "train")
    assert str(error.value).startswith(str(path))


def test_a_folder_that_changes_is_prepared_again(tmp_path):
    path = write(tmp_path / "houses64", houses())
    with data.looking(tmp_path):
        assert data.load("houses64", "train").size == 12
        (path / "kitchen" / "011.jpg").write_bytes(image(0, (64, 64)))
        assert data.load("houses64", "train").size == 13
        (path / "kitchen" / "011.jpg").write_bytes(image(77, (64, 64)))
        shown = [picture.tobytes() for picture in data.load("houses64", "train")["image"]]
        assert pixels(image(77, (64, 64))).tobytes() in shown


@pytest.mark.real_data("houses64")
def test_real_houses64(real_data):
    with data.looking(real_data):
        train, test = data.load("houses64", "train"), data.load("houses64", "test")
    assert np.bincount(train["label"]).tolist() == [428] * 4
    assert np.bincount(test["label"]).tolist() == [107] * 4
    assert not set(train["house"]) & set(test["house"])
    assert sorted({*train["house"].tolist(), *test["house"].tolist()}) == list(range(1, 536))


def test_rooms_of_the_imitation_can_be_told_apart(tmp_path):
    houses64.imitate(tmp_path)
    found = class_folders.scan(tmp_path)
    assert found.classes == ROOMS
    assert len(found.files["train"]) == 400
    shown = list(class_folders.images(found, "train", shape=(64, 64)))
    colours = np.stack([pixels(content).mean((0, 1)) for _, _, content in shown])
    labels = np.array([label for _, label, _ in shown])
    means = np.stack([colours[labels == room].mean(0) for room in range(4)])
    nearest = np.linalg.norm(colours[:, None] - means, axis=2).argmin(1)
    assert (nearest == labels).mean() > 0.6
