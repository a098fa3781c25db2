"""Sets made of class folders: what comes out, and what is refused."""

import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxstruct import data
from jaxstruct.data import CATALOGUE, DataError, Examples, Source, prepared
from jaxstruct.data.builders import png
from tests.data.written import image, pixels, write

CIFAR10 = CATALOGUE["cifar10_jpeg"].classes
ROOMS = CATALOGUE["houses64"].classes


def cifar(top=""):
    """Three images of each class to train and one to test, all different."""
    return {
        f"{top}{split}/{name}/{number:04}.jpg": image(100 * label + number, (32, 32))
        for split, numbers in (("train", (0, 1, 2)), ("test", (3,)))
        for label, name in enumerate(CIFAR10)
        for number in numbers
    }


def houses():
    return {
        f"{room}/{house:03}.jpg": image(100 * label + house, (64, 64))
        for label, room in enumerate(ROOMS)
        for house in (1, 4, 5, 9, 10)
    }


def by_content(examples: Examples) -> dict[bytes, int]:
    pairs = zip(examples["image"], examples["label"], strict=True)
    return {picture.tobytes(): int(label) for picture, label in pairs}


@pytest.mark.parametrize(
    ("name", "top"),
    [
        ("cifar10_jpeg.tar.xz", ""),  # beside the folders of other sets
        ("cifar10_jpeg.zip", ""),
        ("cifar10_jpeg/cifar10_jpeg.tar.xz", "cifar10/"),
        ("cifar10_jpeg/CIFAR-10-images-master.zip", "CIFAR-10-images-master/"),
        ("cifar10_jpeg", ""),
    ],
)
def test_cifar10_jpeg(tmp_path, name, top):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name, {**cifar(top), f"{top}README.md": b"about"})
    with data.looking(tmp_path):
        train, test = data.load("cifar10_jpeg", "train"), data.load("cifar10_jpeg", "test")
    assert (train["image"].shape, train["image"].dtype) == ((30, 32, 32, 3), np.uint8)
    assert train.source == Source("cifar10_jpeg", "1.0.0", "train", "official", 30)
    assert train.classes == test.classes == CIFAR10
    assert by_content(train) == {
        pixels(image(100 * label + number, (32, 32))).tobytes(): label
        for label in range(10)
        for number in range(3)
    }
    assert sorted(test["label"]) == list(range(10))
    assert train["label"].tolist() != sorted(train["label"])  # a slice has all classes


def test_the_order_is_that_of_the_names_whatever_holds_them(tmp_path):
    write(tmp_path / "a" / "cifar10_jpeg", cifar())
    (tmp_path / "b").mkdir()
    write(tmp_path / "b" / "cifar10_jpeg.tar.xz", dict(reversed(cifar().items())))
    found = []
    for root in ("a", "b"):
        with data.looking(tmp_path / root):
            found.append(data.load("cifar10_jpeg", "train")["image"].copy())
    np.testing.assert_array_equal(*found)


def test_a_jpeg_is_stored_as_it_is(tmp_path):
    write(tmp_path / "cifar10_jpeg", cifar())
    with data.looking(tmp_path):
        found = data.prepare("cifar10_jpeg")
    source = tfds.builder_from_directory(found.path).as_data_source(
        split="train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    assert {row["image"] for row in source} == {
        content for name, content in cifar().items() if name.startswith("train")
    }


def drop(contents, name):
    return {key: content for key, content in contents.items() if not key.startswith(name)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: {**c, "train/cat/0001.jpg": b""}, "/train/cat/0001.jpg: no image .*expected an"),
        (
            lambda c: {**c, "test/dog/0003.jpg": image(0, (32, 31))},
            "/test/dog/0003.jpg: 32 x 31 pixels; expected 32 x 32",
        ),
        (lambda c: drop(c, "test/"), ": splits train; expected train, test"),
        (lambda c: drop(drop(c, "train/cat"), "test/cat"), ": classes .*bird, deer.*; expected"),
        (lambda c: drop(c, "train/cat"), "/train/cat: no image; expected some"),
        (lambda c: {**c, "1.jpg": image()}, "/1.jpg: in no class folder"),
    ],
)
@pytest.mark.parametrize("kind", ["cifar10_jpeg", "cifar10_jpeg.tar.xz"])
def test_bad_cifar10_jpeg(tmp_path, spoil, message, kind):
    path = write(tmp_path / kind, spoil(cifar()))
    with (
        data.looking(tmp_path, imitations=True),  # an imitation must not hide it
        pytest.raises(DataError, match=message) as error,
    ):
        data.load("cifar10_jpeg", "train")
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "prepared" / "cifar10_jpeg").exists()


def test_a_cut_archive(tmp_path):
    path = write(tmp_path / "cifar10_jpeg.tar.xz", cifar())
    path.write_bytes(path.read_bytes()[:-500])
    with data.looking(tmp_path), pytest.raises(DataError, match=r"cifar10_jpeg.tar.xz: cannot be"):
        data.load("cifar10_jpeg", "train")


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


@pytest.mark.parametrize("name", ["cifar10_jpeg", "houses64"])
def test_what_cannot_be_downloaded_says_where_it_is(name, tmp_path):
    for call in (lambda: data.load(name, "train"), lambda: data.prepare(name)):
        with pytest.raises(DataError, match=r"not found; looked for .*https://github.com") as error:
            call()
        assert "prepare" not in str(error.value).split("TFDS")[1]
    assert not (tmp_path / "prepared" / "downloads").exists()


def test_only_what_is_called_as_the_set_lies_beside_its_folder(tmp_path):
    write(tmp_path / "cifar10_jpeg", cifar())
    shutil.move(tmp_path / "cifar10_jpeg" / "train", tmp_path / "train")  # another set's
    shutil.rmtree(tmp_path / "cifar10_jpeg")
    with data.looking(tmp_path):
        assert prepared.find_raw("cifar10_jpeg") is None
        write(tmp_path / "cifar10_jpeg.tar", cifar())
        assert prepared.find_raw("cifar10_jpeg") == tmp_path


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
    assert capsys.readouterr().err == (
        f"{path}: no images by their names, so left out: readme.txt and 1 more\n"
    )
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
    assert capsys.readouterr().err.count("bad.jpg: no image (of no kind that is known): left") == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {}, "the name 'mnist'; expected one of small letters.*none of mnist"),
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


@pytest.mark.real_data
@pytest.mark.slow
def test_real_cifar10_jpeg(real_data):
    with data.looking(real_data):
        train, test = data.load("cifar10_jpeg", "train"), data.load("cifar10_jpeg", "test")
    assert np.bincount(train["label"]).tolist() == [5000] * 10
    assert np.bincount(test["label"]).tolist() == [1000] * 10
    # CIFAR-10's mean colour, as is often subtracted: (125.3, 123.0, 113.9).
    np.testing.assert_allclose(train["image"].mean((0, 1, 2)), [125.3, 123.0, 113.9], atol=0.5)
    first = np.bincount(train["label"][:1000], minlength=10)
    assert first.min() > 60  # a slice has all classes


@pytest.mark.real_data
def test_real_houses64(real_data):
    with data.looking(real_data):
        train, test = data.load("houses64", "train"), data.load("houses64", "test")
    assert np.bincount(train["label"]).tolist() == [428] * 4
    assert np.bincount(test["label"]).tolist() == [107] * 4
    assert not set(train["house"]) & set(test["house"])
    assert sorted({*train["house"].tolist(), *test["house"].tolist()}) == list(range(1, 536))
