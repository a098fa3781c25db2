"""The sets with class maps: their imitations, and the real ones where they are."""

import shutil

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import CATALOGUE, DataError
from jaxstruct.data.image_files import png
from tests.data.written import image, write

SIZE = (96, 128)


def every(name, split, without=()):
    reader = data.open_reader(name, split, without=without)
    return reader, reader(np.arange(reader.size))


@pytest.mark.parametrize(
    ("name", "splits", "kinds"),
    [
        ("camvid", {"train": 24, "val": 8, "test": 8}, range(11)),
        (
            "voc2012_segmentation",
            {"pack_train": 24, "pack_val": 8, "train": 8, "val": 12},
            range(11),
        ),
        ("voc2007_segmentation", {"train": 12, "val": 6, "test": 6}, range(10)),
        ("penn_fudan_segmentation", {"train": 32, "test": 8}, range(2)),
    ],
)
def test_an_imitation_has_several_classes_and_their_names(name, splits, kinds):
    with data.looking(imitations=True):
        reader, examples = every(name, max(splits, key=splits.get))
    assert reader.source.record.splits == splits
    assert reader.classes == CATALOGUE[name].classes
    seen = np.zeros(256, int)
    for pixels, class_map, classes in zip(
        examples["image"], examples["class_map"], examples["classes"], strict=True
    ):
        assert class_map.dtype == np.uint8
        assert class_map.shape == pixels.shape[:2]
        assert np.unique(class_map[class_map < 255]).tolist() == list(classes)
        seen += np.bincount(class_map.ravel(), minlength=256)
    assert np.flatnonzero(seen[:255]).tolist() == list(kinds)
    assert max(map(len, examples["classes"])) >= min(len(kinds), 4)
    # Pedestrians have no border.
    assert (0.02 < seen[255] / seen.sum() < 0.1) == (name != "penn_fudan_segmentation")


def test_the_void_border_is_where_classes_meet():
    with data.looking(imitations=True):
        _, examples = every("camvid", "val")
    for class_map in examples["class_map"].astype(int):
        for a, b in ((class_map[1:], class_map[:-1]), (class_map[:, 1:], class_map[:, :-1])):
            assert ((a == b) | (a == 255) | (b == 255)).all()


@pytest.fixture
def raw(tmp_path):
    """The folder of an imitation of CamVid in SegNet's layout, taken for the real one."""
    folder = tmp_path / "raw" / "camvid"
    folder.mkdir(parents=True)
    CATALOGUE["camvid"].imitate(folder)
    return folder


def test_camvid_s_images_may_be_jpeg_where_the_list_says_png(raw):
    (raw / "train" / "000003.png").unlink()
    write(raw, {"train/000003.jpg": image(3, SIZE), "trainannot/000003.png": png(elevens())})
    with data.looking(raw.parent):
        reader, train = every("camvid", "train")
    assert reader.source.origin == "official"
    assert train["name"].tolist() == [f"{i:06}".encode() for i in range(24)]
    expected = np.where(elevens() == 11, 255, elevens())
    np.testing.assert_array_equal(train["class_map"][3], expected)


def elevens():
    values = np.zeros(SIZE, np.uint8)
    values[:5], values[9] = 11, 10
    return values


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            {"trainannot/000003.png": png(elevens() + 1)},
            "000003.png: the value 12 in row 0, column",
        ),
        ({"trainannot/000003.png": image(0, SIZE, "PNG")}, "000003.png: an image of mode RGB; exp"),
        ({"train/000003.png": image(0, (9, 12), "PNG")}, "128 x 96 pixels; expected 12 x 9, as th"),
        ({"train.txt": b"/x/train/77.png /x/trainannot/77.png"}, "train/77.png: missing; expected"),
        (
            {"val.txt": b"/x/val/000025.png\n"},
            "val.txt: the line '/x/val/000025.png'; expected a pa",
        ),
        ({"val.txt": b"\n"}, "camvid: no pixel of the split val has a class"),
    ],
)
def test_bad_files_of_camvid(raw, contents, message):
    write(raw, contents)
    with data.looking(raw.parent), pytest.raises(DataError, match=message) as error:
        data.prepare("camvid")
    assert str(error.value).startswith(str(raw))


def test_a_list_of_voc_without_masks(tmp_path):
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    folder.mkdir(parents=True)
    CATALOGUE["voc2012_segmentation"].imitate(folder)
    shutil.rmtree(folder / "SegmentationClassAug")
    with (
        data.looking(tmp_path),
        pytest.raises(DataError, match=r"Class/000021\.png: missing; expect"),
    ):
        data.prepare("voc2012_segmentation")
    shutil.rmtree(folder / "ImageSets")
    write(folder, {"ImageSets/Main/train.txt": b"000000\n"})
    with data.looking(tmp_path), pytest.raises(DataError, match="no list for segmentation; expect"):
        data.prepare("voc2012_segmentation")


@pytest.mark.real_data("camvid")
def test_real_camvid(real_data):
    """Of all images, so that each mask is checked; counts of pixels are SegNet's."""
    with data.looking(real_data):
        reader, train = every("camvid", "train", ("image",))
        sizes = [data.open_reader("camvid", split).size for split in ("val", "test")]
        counts = data.pixel_counts(reader)
    assert (reader.size, sizes) == (367, [101, 233])
    assert train["class_map"].shape == (367, 360, 480)
    assert reader.classes[np.argmax(counts.sum(0))] == "road"
    assert 0.03 < (train["class_map"] == 255).mean() < 0.05


@pytest.mark.real_data("penn_fudan")
def test_real_pedestrians_are_one_class(real_data):
    with data.looking(real_data):
        reader, test = every("penn_fudan_segmentation", "test", ("image",))
    assert reader.classes == ("background", "person")
    for class_map, classes in zip(test["class_map"], test["classes"], strict=True):
        assert np.unique(class_map).tolist() == list(classes) == [0, 1]
