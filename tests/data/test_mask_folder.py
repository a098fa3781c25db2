"""A user's own images with class masks become sets with names."""

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError
from jaxstruct.data.image_files import png
from tests.data import test_voc
from tests.data.written import image, write

SIZE = (4, 5)
CLASSES = b"road\ncar\n"
NAMES = ("a", "b", "c.d")


def mask(seed):
    """Classes 0 and 1, and void, drawn from a seed."""
    return np.random.default_rng(seed).choice([0, 1, 255], SIZE).astype(np.uint8)


def layout(images="images/", masks="masks/", names=NAMES):
    contents = {"classes.txt": CLASSES}
    for seed, name in enumerate(names):
        contents[f"{images}{name}.jpg"] = image(seed, SIZE)
        contents[f"{masks}{name}.png"] = png(mask(seed))
    return contents


LISTS = {"train.txt": b"a\nc.d.jpg\n", "val.txt": b"b.png\n\n"}
FOLDERS = {
    **layout("images/train/", "masks/train/", ("a", "c.d")),
    **{name.replace("a.", "b."): x for name, x in layout("images/val/", "masks/val/", "a").items()},
}
TURNED = {
    name if name == "classes.txt" else "/".join([name.split("/")[i] for i in (1, 0, 2)]): content
    for name, content in FOLDERS.items()
}
VOC = {
    **layout("JPEGImages/", "SegmentationClass/", ("a", "c.d")),
    **layout("JPEGImages/", "SegmentationClassAug/", ("b",)),
    "ImageSets/Segmentation/train.txt": b"a\nc.d\n",
    "ImageSets/Pack/segmentation_val.txt": b"b\n",
    "ImageSets/Main/val.txt": b"z\n",
}


@pytest.mark.parametrize(
    ("contents", "seeds"),
    [
        (layout() | LISTS, {"train": {"a": 0, "c.d": 2}, "val": {"b": 1}}),
        (FOLDERS, {"train": {"train/a": 0, "train/c.d": 1}, "val": {"val/b": 0}}),
        (TURNED, {"train": {"a": 0, "c.d": 1}, "val": {"b": 0}}),
        (layout(), {"train": {"a": 0, "b": 1, "c.d": 2}}),
        (layout(names=("s/a", "s/b")), {"train": {"s/a": 0, "s/b": 1}}),
        (VOC, {"train": {"a": 0, "c.d": 1}, "pack_val": {"b": 0}}),
    ],
    ids=["lists", "folders", "folders outside", "no split", "deeper", "PASCAL VOC"],
)
def test_layouts(tmp_path, contents, seeds, capsys):
    found = data.prepare_folder("mine", write(tmp_path / "raw", contents))
    assert found.splits == {split: len(names) for split, names in seeds.items()}
    for split, expected in seeds.items():
        reader = data.open_reader("mine", split)
        assert (reader.source.origin, reader.classes) == ("user", ("road", "car"))
        examples = reader(np.arange(reader.size))
        names = [name.decode() for name in examples["name"]]
        assert sorted(names) == sorted(expected)
        for name, class_map in zip(names, examples["class_map"], strict=True):
            np.testing.assert_array_equal(class_map, mask(expected[name]))
    said = capsys.readouterr().err
    assert f"mine: train: {len(seeds['train'])} images; road " in said
    assert "left out" not in said


def test_masks_without_an_image_are_counted(tmp_path, capsys):
    contents = layout() | LISTS | {"train.txt": b"a\n", "masks/._a.png": b"macOS"}
    data.prepare_folder("mine", write(tmp_path / "raw", contents))
    assert "left out, a mask of no listed image: 1 (c.d.png)" in capsys.readouterr().err


def test_boxes_and_masks_in_one_folder(tmp_path, capsys):
    contents = test_voc.layout() | {"classes.txt": CLASSES}
    contents["ImageSets/Segmentation/train.txt"] = b"a\n"
    contents["SegmentationClass/a.png"] = png(np.ones((20, 30), np.uint8))
    folder = write(tmp_path / "raw", contents)
    assert data.prepare_folder("mine", folder).classes == ("cat", "dog")
    assert "mine: boxes are read; --masks reads the class masks" in capsys.readouterr().err
    found = data.prepare_folder("mine", folder, masks=True)
    assert (found.splits, found.classes) == ({"train": 1}, ("road", "car"))


BINARY = png(np.array([[0, 255, 0, 0, 0]] * 4, np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            {"classes.txt": None},
            r"raw/classes\.txt: missing; expected a name in each line, that of",
        ),
        ({"classes.txt": b"road\n"}, r"classes\.txt: 1 names; expected 2 to 255, a name in each"),
        ({"classes.txt": b"a\na\n"}, r"classes\.txt: two classes are named 'a'"),
        ({"classes.txt": b"\xff\xfe"}, r"classes\.txt: no text"),
        ({"masks/b.png": None}, r"masks/b\.png: missing; expected a mask"),
        ({"masks/b.png": png(mask(0) * 0 + 7)}, r"masks/b\.png: the value 7 in row 0, column 0; e"),
        ({"masks/b.png": None, "masks/b.jpg": image(0, SIZE)}, r"masks/b\.jpg: JPEG changes the v"),
        ({"images/b.png": image(0, SIZE, "PNG")}, r"images/b: two images of this name; expected o"),
        ({"train.txt": b"a\nz\n"}, r"images/z\.jpg: missing; expected an image of the split train"),
        ({"train.txt": b""}, r"train\.txt: empty"),
        (
            {"images/val/z.jpg": image(0, SIZE)},
            "images/a: in no split; expected it in one of",
        ),
        (
            {f"masks/{name}.png": BINARY for name in NAMES},
            r"raw: the masks of train have the values 0 and 255 alone, and 255 is void; expected "
            "pixels of two classes: write objects as 1, not as 255",
        ),
        ({f"images/{name}.jpg": None for name in NAMES} | {"images/x.txt": b"x"}, "images: no ima"),
    ],
)
def test_what_is_refused(tmp_path, spoil, message):
    contents = {name: x for name, x in (layout() | spoil).items() if x is not None}
    with pytest.raises(DataError, match=message) as error:
        data.prepare_folder("mine", write(tmp_path / "raw", contents))
    assert str(error.value).startswith(str(tmp_path))
    assert "mine" not in [row["name"] for row in data.where()]


def test_masks_in_an_archive_are_not_taken_for_classes(tmp_path):
    archive = write(tmp_path / "raw.zip", layout())
    with pytest.raises(
        DataError, match=r"raw\.zip: images and masks in an archive or further down"
    ):
        data.prepare_folder("mine", archive)
    folder = write(tmp_path / "flowers", {"rose/a.jpg": image(), "lily/a.jpg": image()})
    with pytest.raises(DataError, match="flowers: no folder with class masks; expected images/x"):
        data.prepare_folder("mine", folder, masks=True)


def test_options_are_of_class_folders(tmp_path):
    folder = write(tmp_path / "raw", layout())
    with pytest.raises(ValueError, match="has masks, whose images stay as they are; expected no"):
        data.prepare_folder("mine", folder, size=8)
