"""A user's own images with boxes become sets with names."""

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError
from tests.data import test_coco, test_voc
from tests.data.written import write


def test_pascal_voc_s_layout(tmp_path):
    found = data.prepare_folder("mine", write(tmp_path / "raw", test_voc.layout()))
    assert (found.splits, found.classes) == ({"train": 2, "val": 1}, ("cat", "dog"))
    reader = data.open_reader("mine", "train")
    assert reader.source.origin == "user"
    examples = reader(np.arange(2))
    assert [x.tolist() for x in examples["boxes"]] == [[[0, 1, 10, 12], [4, 4, 30, 20]], []]
    assert [x.tolist() for x in examples["classes"]] == [[0, 1], []]
    assert [x.dtype for x in examples["classes"]] == [np.int64, np.int64]
    assert examples["name"].tolist() == [b"a", b"b"]


def test_coco_s_layout(tmp_path):
    found = data.prepare_folder("mine", write(tmp_path / "raw", test_coco.layout()))
    assert (found.splits, found.classes) == ({"val2017": 2}, ("cat", "dog"))
    examples = data.open_reader("mine", "val2017")(np.arange(2))
    assert [len(x) for x in examples["boxes"]] == [0, 2]


def test_options_are_of_class_folders(tmp_path):
    folder = write(tmp_path / "raw", test_voc.layout())
    with pytest.raises(ValueError, match="has boxes, whose images stay as they are; expected no"):
        data.prepare_folder("mine", folder, size=8)


def test_a_bad_file_leaves_no_set(tmp_path):
    folder = write(tmp_path / "raw", test_voc.layout(Annotations__c=b"") | {
        "Annotations/c.xml": b"<annotation>"
    })  # fmt: skip
    with pytest.raises(DataError, match=r"c\.xml: no whole XML file"):
        data.prepare_folder("mine", folder)
    assert "mine" not in [row["name"] for row in data.where()]
