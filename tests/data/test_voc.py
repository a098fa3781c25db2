"""PASCAL VOC's layout: what is read, what is left out, and what is refused."""

import numpy as np
import pytest

from jaxstruct.data import DataError, voc
from tests.data.written import image, write

THING = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
    "<xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)


def thing(*sides, name="cat", difficult=0):
    return THING.format(*sides, name=name, difficult=difficult)


def xml(*things, size=(30, 20)):
    width, height = size
    return (
        f"<annotation><size><width>{width}</width><height>{height}</height></size>"
        f"{''.join(things)}</annotation>"
    ).encode()


def layout(**more):
    """Two images of 20 x 30 in train, one in val."""
    contents = {
        "JPEGImages/a.jpg": image(0, (20, 30)),
        "JPEGImages/b.jpg": image(1, (20, 30)),
        "JPEGImages/c.png": image(2, (20, 30), "PNG"),
        "Annotations/a.xml": xml(thing(1, 2, 10, 12), thing(5, 5, 30, 20, name="dog", difficult=1)),
        "Annotations/b.xml": xml(),
        "Annotations/c.xml": xml(thing(3.5, 4, 8, 9, name="dog")),
        "ImageSets/Main/train.txt": b"a\n\nb\n",
        "ImageSets/Main/val.txt": b"c",
    }
    return contents | {name.replace("__", "/"): x for name, x in more.items()}


def examples(folder, contents, classes=("cat", "dog")):
    found = voc.read(write(folder, contents), classes)
    return {split: dict(pairs) for split, pairs in found.items()}


def test_boxes_become_continuous(tmp_path, capsys):
    found = examples(tmp_path, layout())
    assert {split: list(names) for split, names in found.items()} == {
        "train": ["a", "b"],
        "val": ["c"],
    }
    a, b, c = *found["train"].values(), found["val"]["c"]
    assert a["boxes"].tolist() == [[0, 1, 10, 12], [4, 4, 30, 20]]
    assert (a["classes"], a["difficult"].tolist(), a["name"]) == ([0, 1], [False, True], "a")
    assert a["image"] == image(0, (20, 30))
    assert b["boxes"].shape == (0, 4)
    assert c["boxes"].tolist() == [[2.5, 3, 8, 9]]
    assert capsys.readouterr().err == ""


def test_lists_are_splits_by_name(tmp_path):
    more = {
        "ImageSets/Main/trainval.txt": b"a\nb\nc\n",
        "ImageSets/Main/cat_train.txt": b"a 1\nb -1\n",
        "ImageSets/Pack/test.txt": b"c\n",
        "ImageSets/Pack/empty.txt": b"\n",
        "ImageSets/Layout/train.txt": b"a 1\n",
        "ImageSets/Action/jumping.txt": b"a\n",
    }
    folder = write(tmp_path, layout() | more)
    assert voc.lists(folder) == {"train": ["a", "b"], "val": ["c"], "pack_test": ["c"]}
    assert voc.scan_classes(folder) == ("cat", "dog")
    assert voc.is_layout(folder)
    assert not voc.is_layout(folder / "ImageSets")


@pytest.mark.parametrize(
    ("contents", "boxes", "line"),
    [
        (
            # By VOC's counting of pixels it would be one pixel wide.
            {"Annotations__a.xml": xml(thing(7, 3, 7, 9), thing(1, 1, 2, 2))},
            [[0, 0, 2, 2]],
            "box 7, 3, 7, 9 has no area: left out|left out: 1 boxes without area",
        ),
        (
            {"Annotations__a.xml": xml(thing(9, 3, 7, 9))},
            [],
            "box 9, 3, 7, 9 has no area: left out|left out: 1 boxes without area",
        ),
        (
            {"Annotations__a.xml": xml(thing(25, 10, 35, 22))},
            [[24, 9, 30, 20]],
            "",
        ),
        (
            {"Annotations__a.xml": xml(thing(31, 3, 35, 9), thing(-9, 2, 0, 5))},
            [],
            "box 31, 3, 35, 9 is outside of 30 x 20 pixels: left out|"
            "left out: 2 boxes outside of their images",
        ),
    ],
)
def test_boxes_that_cannot_be_used_are_named_and_counted(tmp_path, capsys, contents, boxes, line):
    found = examples(tmp_path, layout(**contents))
    assert found["train"]["a"]["boxes"].tolist() == boxes
    said = capsys.readouterr().err.splitlines()
    of_file, _, counted = line.partition("|")
    if line:
        assert said[0] == f"{tmp_path / 'Annotations' / 'a.xml'}: {of_file}"
        assert said[-1] == f"{tmp_path}: {counted}"
    else:
        assert said == []


def test_a_name_that_is_listed_twice_is_read_once(tmp_path, capsys):
    found = examples(tmp_path, layout(ImageSets__Main__train=b"", **{
        "ImageSets__Main__train.txt": b"a\na\nb\n"
    }))  # fmt: skip
    assert list(found["train"]) == ["a", "b"]
    assert "a.xml: listed twice: left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"Annotations__a.xml": xml(thing(1, 1, 5, 5))[:-20]}, r"a\.xml: no whole XML file"),
        ({"Annotations__a.xml": b""}, r"a\.xml: empty"),
        (
            {"Annotations__a.xml": xml(thing(1, 1, 5, 5, name="cow"))},
            "class 'cow'; expected one",
        ),
        ({"Annotations__a.xml": xml(size=(31, 20))}, r"size 31 x 20; expected 30 x 20, as the im"),
        ({"Annotations__a.xml": xml(thing("x", 1, 5, 5))}, "<xmin> is 'x'; expected a number"),
        ({"Annotations__a.xml": xml(thing("nan", 1, 5, 5))}, "<xmin> is 'nan'; expected a number"),
        ({"Annotations__a.xml": xml("<object><name>cat</name></object>")}, "without bndbox"),
        ({"Annotations__a.xml": xml("<object><bndbox/></object>")}, "<object> without <name>"),
        ({"JPEGImages__a.jpg": image(0, (20, 30))[:200]}, r"a\.jpg: no image"),
        ({"JPEGImages__a.jpg": b"text"}, r"a\.jpg: no image"),
        ({"ImageSets__Main__train.txt": b"a\nz\n"}, r"z\.xml: missing"),
    ],
)
def test_what_would_make_the_set_wrong_is_refused(tmp_path, spoil, message):
    with pytest.raises(DataError, match=message) as error:
        examples(tmp_path, layout(**spoil))
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_an_image_that_is_missing(tmp_path):
    contents = layout()
    del contents["JPEGImages/b.jpg"]
    with pytest.raises(DataError, match=r"JPEGImages/b\.jpg: missing; expected an image"):
        examples(tmp_path, contents)


def test_without_a_list(tmp_path):
    contents = {k: x for k, x in layout().items() if not k.startswith("ImageSets/Main/")}
    folder = write(tmp_path, contents | {"ImageSets/Main/cat_train.txt": b"a 1\n"})
    with pytest.raises(DataError, match="ImageSets: no list of images; expected PASCAL VOC's"):
        voc.read(folder, ("cat",))


def test_boxes_have_their_dtype_without_an_object(tmp_path):
    b = examples(tmp_path, layout())["train"]["b"]
    assert (b["boxes"].dtype, b["difficult"].dtype) == (np.float32, np.bool_)
