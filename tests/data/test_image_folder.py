"""A user's own images as a set: what comes out, and what is refused."""

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError, Source
from jaxstruct.data.image_files import png
from tests.data.written import image, write


def flowers(**more):
    contents = {
        f"{split}/{name}/{number}.jpg": image(100 * label + number, (20 + number, 30))
        for split, numbers in (("train", (0, 1)), ("val", (2,)))
        for label, name in enumerate(("lily", "rose"))
        for number in numbers
    }
    return contents | more


@pytest.mark.parametrize("kind", ["flowers", "flowers.zip"])
def test_images_of_a_users_own(tmp_path, capsys, kind):
    path = write(tmp_path / kind, flowers(**{"readme.txt": b"x", "train/rose/x.psd": b"x"}))
    made = data.prepare_folder("my_flowers2", str(path), size=16, crop=True)
    assert capsys.readouterr().err.splitlines() == [
        "my_flowers2: train: lily 2, rose 2",
        "my_flowers2: val: lily 1, rose 1",
        "my_flowers2: left out, no image by its name: 2 (readme.txt, train/rose/x.psd)",
    ]
    assert (made.splits, made.origin) == ({"train": 4, "val": 2}, "user")
    assert made.classes == ("lily", "rose")
    train = data.load("my_flowers2", "train")
    assert train["image"].shape == (4, 16, 16, 3)
    assert train.source == Source("my_flowers2", "1.0.0", "train", "user", 4)
    assert train.classes == ("lily", "rose")
    assert np.bincount(train["label"]).tolist() == [2, 2]
    row = data.where()[-1]
    assert (row["name"], row["classes"]) == ("my_flowers2", ("lily", "rose"))
    assert (row["path"], row["raw"], row["looked"]) == (made.path, None, [])


def test_a_slice_of_ones_own_images_has_all_classes(tmp_path):
    contents = {f"{name}/{i}.jpg": image(i, (8, 8)) for name in ("cat", "dog") for i in range(10)}
    data.prepare_folder("pets", write(tmp_path / "a", contents))
    assert set(data.load("pets", "train[:8]")["label"].tolist()) == {0, 1}


def test_images_of_different_sizes_stay_as_they_are(tmp_path):
    data.prepare_folder("flowers", write(tmp_path / "a", flowers()))
    with pytest.raises(DataError, match=r"differs in shape.*open_reader.*--size"):
        data.load("flowers", "train")
    reader = data.open_reader("flowers", "train")
    assert reader.classes == ("lily", "rose")
    shapes = {picture.shape for picture in reader(np.arange(4))["image"]}
    assert shapes == {(20, 30, 3), (21, 30, 3)}
    same = {name: image(seed, (8, 9)) for seed, name in enumerate(flowers())}
    data.prepare_folder("same", write(tmp_path / "b", same))
    assert data.load("same", "val")["image"].shape == (2, 8, 9, 3)


def test_grey_and_transparent_images_are_rgb(tmp_path):
    grey = np.full((8, 8), 7, np.uint8)
    clear = np.zeros((8, 8, 4), np.uint8)
    contents = {"c/grey.png": png(grey), "c/clear.png": png(clear)}
    data.prepare_folder("mixed", write(tmp_path / "a", contents))
    found = data.load("mixed", "train")["image"]
    assert found.shape == (2, 8, 8, 3)
    assert sorted(found.reshape(2, -1).mean(1)) == [7, 255]


def test_preparing_again_replaces(tmp_path):
    path = write(tmp_path / "a", flowers())
    data.prepare_folder("flowers", path, size=16)
    assert data.load("flowers", "train")["image"].shape == (4, 16, 16, 3)
    data.prepare_folder("flowers", path, size=8)
    assert data.load("flowers", "train")["image"].shape == (4, 8, 8, 3)
    write(path, {"train/rose/9.jpg": image(9)})
    data.prepare_folder("flowers", path, size=8)
    assert data.load("flowers", "train").size == 5


def test_unreadable_images_of_a_users_own(tmp_path, capsys):
    path = write(tmp_path / "a", flowers(**{"train/rose/bad.jpg": b"x"}))
    with pytest.raises(
        DataError, match=r"bad.jpg: no image \(of no kind that is known\); .*--skip"
    ):
        data.prepare_folder("flowers", path, size=8)
    assert "flowers" not in [row["name"] for row in data.where()]
    assert data.prepare_folder("flowers", path, size=8, skip_unreadable=True).splits["train"] == 4
    said = capsys.readouterr().err
    assert said.count("bad.jpg: no image (of no kind that is known): left") == 1
    assert "flowers: left out, cannot be read: 1 (train/rose/bad.jpg)\n" in said
    assert "flowers: train: lily 2, rose 2\n" in said


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {}, "the name 'mnist'; expected one of small letters.*none of .*mnist"),
        ("My Flowers", {}, "the name 'My Flowers'; expected"),
        ("../x", {}, "the name '../x'; expected"),
        ("x", {"crop": True}, "size None, crop True; expected a size above 0, and one for a crop"),
        ("x", {"size": 0}, "size 0, crop False; expected a size above 0"),
    ],
)
def test_prepare_folder_refuses(tmp_path, name, options, message):
    path = write(tmp_path / "a", flowers())
    with pytest.raises(ValueError, match=message):
        data.prepare_folder(name, path, **options)
