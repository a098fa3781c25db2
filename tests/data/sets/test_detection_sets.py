"""The sets with boxes: their imitations, and the real ones where they are."""

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError
from jaxstruct.data.sets import penn_fudan
from tests.data.written import image, write


def every(name, split):
    reader = data.open_reader(name, split)
    return reader, reader(np.arange(reader.size))


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("bccd", {"train": 24, "val": 8, "test": 8}),
        ("voc2007", {"train": 24, "val": 8, "test": 8}),
        ("voc2012", {"pack_train": 24, "pack_val": 8, "pack_test": 8, "train": 24, "val": 16}),
    ],
)
def test_an_imitation_has_boxes_of_every_class(name, splits):
    with data.looking(imitations=True):
        found = data.open_reader(name, "train")
        assert found.source.record.splits == splits
        _, examples = every(name, "train")
    assert found.source.origin == "imitation"
    kinds = np.unique(np.concatenate(examples["classes"]))
    assert len(kinds) == min(len(found.classes), 10)
    assert any(flags.any() for flags in examples["difficult"])
    assert max(map(len, examples["boxes"])) >= 4
    for picture, boxes in zip(examples["image"], examples["boxes"], strict=True):
        height, width = picture.shape[:2]
        assert (height, width) in ((96, 128), (128, 96))
        assert boxes.dtype == np.float32
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= (width, height)).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 4).all()


def test_masks_of_the_imitation_of_pedestrians_fill_their_boxes():
    with data.looking(imitations=True):
        _, examples = every("penn_fudan", "test")
    assert len(examples["boxes"]) == 8
    for masks, boxes in zip(examples["masks"], examples["boxes"], strict=True):
        assert masks.dtype == np.bool_
        for mask, box in zip(masks, boxes, strict=True):
            rows, columns = np.nonzero(mask)
            around = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert box.tolist() == list(around)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Annotation/FudanPed00002.txt", b"text", "0 boxes and . masks; expected an annotation of"),
        (
            "PedMasks/FudanPed00002_mask.png",
            image(0, (96, 128), "PNG"),
            "mode RGB; expected a m",
        ),
        ("PNGImages/FudanPed00002.png", image(0, (9, 12), "PNG"), "128 x 96 pixels; expected 12 x"),
    ],
)
def test_bad_files_of_pedestrians(tmp_path, file, content, message):
    folder = tmp_path / "penn_fudan"
    folder.mkdir()
    penn_fudan.imitate(folder)
    write(folder, {file: content})
    with data.looking(tmp_path), pytest.raises(DataError, match=message) as error:
        data.prepare("penn_fudan")
    assert "FudanPed00002" in str(error.value)


@pytest.mark.real_data("bccd")
def test_real_bccd(real_data, capsys):
    with data.looking(real_data):
        reader, train = every("bccd", "train")
        sizes = [data.open_reader("bccd", split).size for split in ("val", "test")]
    assert (reader.size, sizes) == (205, [87, 72])
    assert reader.classes == ("RBC", "WBC", "Platelets")
    assert train["image"].shape[1:] == (480, 640, 3)
    assert "left out: 2 boxes without area" in capsys.readouterr().err
    assert max(map(len, train["boxes"])) <= 30


@pytest.mark.real_data("VOCdevkit/VOC2007")
def test_real_voc2007(real_data):
    with data.looking(real_data):
        reader, test = every("voc2007", "test")
    assert reader.size == 7
    assert len(reader.classes) == 20
    assert test["name"].tolist()[0].decode().isdigit()


@pytest.mark.real_data("penn_fudan")
def test_real_pedestrians(real_data):
    with data.looking(real_data):
        (train, first), (test, second) = every("penn_fudan", "train"), every("penn_fudan", "test")
    assert (train.size, test.size) == (137, 33)
    count = sum(map(len, (*first["boxes"], *second["boxes"])))
    assert count == 423
