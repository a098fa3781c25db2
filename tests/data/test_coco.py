"""COCO's layout: what is read, what is left out, and what is refused."""

import json

import pytest

from jaxstruct.data import DataError, coco
from tests.data.written import image, write


def content(**changes):
    made = {
        "images": [
            {"id": 4, "file_name": "a.jpg", "width": 30, "height": 20},
            {"id": 9, "file_name": "b.jpg", "width": 30, "height": 20},
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 2, 10, 5.5], "area": 40,
             "iscrowd": 1},
            {"id": 2, "image_id": 9, "category_id": 2, "bbox": [0, 0, 30, 20]},
        ],
    }  # fmt: skip
    return made | changes


def layout(made=None):
    return {
        "annotations/instances_val2017.json": json.dumps(made or content()).encode(),
        "val2017/a.jpg": image(0, (20, 30)),
        "val2017/b.jpg": image(1, (20, 30)),
    }


def examples(folder, contents, classes=("cat", "dog")):
    found = coco.read(write(folder, contents), classes)
    return {split: dict(pairs) for split, pairs in found.items()}


def test_boxes_by_their_corners_and_classes_by_their_numbers(tmp_path):
    assert coco.scan_classes(write(tmp_path, layout())) == ("cat", "dog")
    found = examples(tmp_path, layout())["val2017"]
    assert list(found) == ["a.jpg", "b.jpg"]
    assert found["a.jpg"]["boxes"].shape == (0, 4)
    b = found["b.jpg"]
    assert b["boxes"].tolist() == [[1, 2, 11, 7.5], [0, 0, 30, 20]]
    assert (b["classes"], b["crowd"].tolist()) == ([1, 0], [True, False])
    assert b["areas"].tolist() == [40, 600]


def test_a_file_among_the_images(tmp_path):
    contents = {
        "train/_annotations.coco.json": json.dumps(content()).encode(),
        "train/a.jpg": image(0, (20, 30)),
        "train/b.jpg": image(1, (20, 30)),
    }
    assert list(examples(tmp_path, contents)["train"]) == ["a.jpg", "b.jpg"]
    assert coco.files(tmp_path / "train") == {}


def test_boxes_that_cannot_be_used_are_named_and_counted(tmp_path, capsys):
    boxes = [[1, 1, 0, 5], [40, 1, 5, 5], [25, 15, 10, 10]]
    things = [{"id": i, "image_id": 4, "category_id": 2, "bbox": b} for i, b in enumerate(boxes)]
    found = examples(tmp_path, layout(content(annotations=things)))["val2017"]
    assert found["a.jpg"]["boxes"].tolist() == [[25, 15, 30, 20]]
    said = capsys.readouterr().err
    assert "box 1, 1, 0, 5 has no area: left out" in said
    assert said.splitlines()[-1].endswith(
        "left out: 1 boxes outside of their images, 1 boxes without area"
    )


THING = {"id": 3, "image_id": 4, "category_id": 2, "bbox": [0, 0, 5, 5]}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (content(annotations=[THING | {"image_id": 5}]), "annotation 3 is of image 5; expected"),
        (content(annotations=[THING | {"category_id": 1}]), "is of category 1; expected one of"),
        (content(annotations=[THING | {"bbox": [0, 0, 5]}]), r"with bbox \[0, 0, 5\]; expected"),
        (content(annotations=[THING | {"bbox": [0, 0, 5, "5"]}]), "with bbox .*; expected x, y"),
        (content(annotations={}), "annotations is no list of objects"),
        (content(images=[{"id": "x", "file_name": "a.jpg"}]), "images without whole numbers as id"),
        (content(images=content()["images"] * 2), "image 4 is there twice; expected it once"),
        (content(images=[{"id": 9}], annotations=[]), "image 9 without file_name"),
        (
            content(images=[{"id": 4, "file_name": "a.jpg", "width": 20, "height": 30}],
                    annotations=[]),
            "a.jpg of 20 x 30; expected 30 x 20",
        ),
        (
            content(images=[{"id": 4, "file_name": "z.jpg"}], annotations=[]),
            r"val2017/z\.jpg: missing",
        ),
        (content(categories=[{"id": 2, "name": "cow"}]), "categories cow; expected cat, dog"),
    ],
)  # fmt: skip
def test_what_would_make_the_set_wrong_is_refused(tmp_path, made, message):
    with pytest.raises(DataError, match=message):
        examples(tmp_path, layout(made))


@pytest.mark.parametrize("text", [b"{", b"[]", b'"x"'])
def test_a_file_that_is_no_such_json(tmp_path, text):
    contents = layout() | {"annotations/instances_val2017.json": text}
    with pytest.raises(DataError, match=r"instances_val2017\.json: .*expected COCO's layout"):
        examples(tmp_path, contents)


def test_splits_have_the_same_categories(tmp_path):
    other = json.dumps(content(categories=[{"id": 2, "name": "cow"}])).encode()
    folder = write(tmp_path, layout() | {"annotations/instances_train2017.json": other})
    with pytest.raises(DataError, match=r"categories cat, dog; expected those of .*, cow"):
        coco.scan_classes(folder)
    with pytest.raises(DataError, match="no JSON file; expected COCO's layout"):
        coco.scan_classes(folder / "val2017")
