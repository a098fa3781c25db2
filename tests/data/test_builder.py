"""The one builder: what entries may hold, beyond an image and a label."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import CATALOGUE
from jaxstruct.data.builder import builder
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.image_files import png
from tests.data.written import image, pixels

PAIRS = 4


def features(tf):
    return {
        "image": tf.Image(shape=(None, None, 3)),
        "next_image": tf.Image(shape=(None, None, 3)),
        "class_map": tf.Image(shape=(None, None, 1)),
        "depth": tf.Image(shape=(None, None, 1), dtype=np.uint16),
        "boxes": tf.Tensor(shape=(None, 4), dtype=np.float32),
        "classes": tf.Sequence(tf.ClassLabel(names=("cat", "dog"))),
        "file": tf.Text(),
        "rotation": tf.Tensor(shape=(3, 3), dtype=np.float32),
    }


def class_map(seed):
    return np.random.default_rng(seed).integers(0, 256, (6 + seed, 8), np.uint8)


def boxes(count):
    return np.arange(4 * count, dtype=np.float32).reshape(count, 4)


def pairs(folder, numbers):
    for number in numbers:
        path = folder / "images" / f"{number}.jpg"
        yield (
            9 - number,  # keys that fall
            {
                "image": path,
                "next_image": image(number + 1, (6 + number, 8)),
                "class_map": png(class_map(number)),
                "depth": png(class_map(number).astype(np.uint16) * 257),
                "boxes": boxes(number),
                "classes": ["dog", "cat", "dog"][:number],
                "file": path.name,
                "rotation": np.eye(3, dtype=np.float32) * number,
            },
        )


def read(folder):
    return {"train": pairs(folder, [0, 1, 2]), "test": pairs(folder, [3])}


ENTRY = Entry(
    version="2.0.0",
    description="Pairs of images, with whatever else a set may have.",
    citation="Nobody.",
    classes=("cat", "dog"),
    files=(File("images"),),
    features=features,
    read=read,
    kinds={"next_image": "image", "depth": "class_map"},
)


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    """The folder of all raw files, with those of the set `pairs`."""
    monkeypatch.setitem(CATALOGUE, "pairs", ENTRY)
    folder = tmp_path / "raw" / "pairs" / "images"
    folder.mkdir(parents=True)
    for number in range(PAIRS):
        (folder / f"{number}.jpg").write_bytes(image(number, (6 + number, 8)))
    return tmp_path / "raw"


def test_several_images_masks_and_ragged_boxes_come_back(raw):
    with data.looking(raw):
        readers = data.open_reader("pairs", "train"), data.open_reader("pairs", "test")
    assert [reader.size for reader in readers] == [3, 1]
    assert (readers[0].source.version, readers[0].source.origin) == ("2.0.0", "official")
    assert readers[0].classes == ("cat", "dog")
    train, test = (reader(np.arange(reader.size)) for reader in readers)
    for number, (batch, at) in enumerate([(train, 0), (train, 1), (train, 2), (test, 0)]):
        np.testing.assert_array_equal(batch["image"][at], pixels(image(number, (6 + number, 8))))
        following = pixels(image(number + 1, (6 + number, 8)))
        np.testing.assert_array_equal(batch["next_image"][at], following)
        np.testing.assert_array_equal(batch["class_map"][at][..., 0], class_map(number))
        assert batch["depth"][at].dtype == np.uint16
        np.testing.assert_array_equal(
            batch["depth"][at][..., 0], class_map(number).astype(int) * 257
        )
        np.testing.assert_array_equal(batch["boxes"][at], boxes(number))
        assert np.asarray(batch["classes"][at]).tolist() == [1, 0, 1][:number]
        assert batch["file"][at] == f"{number}.jpg".encode()
        np.testing.assert_array_equal(batch["rotation"][at], np.eye(3) * number)


def test_a_set_without_an_order_has_one_drawn_from_its_keys(raw, monkeypatch):
    def numbered(folder):
        return {"train": pairs(folder, [0, 1, 2, 3])}

    found = {}
    for in_order in (True, False):
        entry = dataclasses.replace(
            ENTRY, read=numbered, in_order=in_order, version=f"{1 + in_order}.0.0"
        )
        monkeypatch.setitem(CATALOGUE, "pairs", entry)
        with data.looking(raw):
            batch = data.open_reader("pairs", "train")(np.arange(4))
        found[in_order] = [name.decode() for name in batch["file"]]
    assert found[True] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert found[False] != found[True]
    assert sorted(found[False]) == found[True]


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"normals": "values"}, "a kind is declared for 'normals', expected one of image, next"),
        ({"depth": "metres"}, "kind of 'depth' is 'metres', expected one of image, class_map"),
    ],
)
def test_a_wrong_kind_of_a_key_is_refused(kinds, message):
    with pytest.raises(ValueError, match=message):
        builder("pairs", dataclasses.replace(ENTRY, kinds=kinds))
