"""How sets are found: files of sets/ by their names."""

import re
import sys
from pathlib import Path

import pytest

from jaxstruct import data
from jaxstruct.data import CATALOGUE, DataError, catalogue, sets, shapes
from tests.data.written import image, write

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"

SET = """
from jaxstruct.data.entry import Entry

ENTRY = Entry("1.0.0", "A set.", "A paper.", features=dict, read=dict)
"""


def test_the_catalogue_holds_the_files_in_alphabetical_order():
    (folder,) = sets.__path__
    assert list(CATALOGUE) == list(catalogue.find()) == sorted(CATALOGUE)
    assert {"mnist", "cifar10", "frey_face"} <= set(CATALOGUE)
    for name, entry in CATALOGUE.items():
        module = sys.modules[f"jaxstruct.data.sets.{name}"]
        assert module.ENTRY is entry
        assert module.__file__.startswith(folder)


@pytest.fixture
def more_sets(tmp_path, monkeypatch):
    """A folder in which sets are looked for, too."""
    (tmp_path / "sets").mkdir()
    monkeypatch.setattr(sets, "__path__", [*sets.__path__, str(tmp_path / "sets")])
    before = set(sys.modules)
    yield tmp_path / "sets"
    for module in set(sys.modules) - before:
        if module.startswith(f"{sets.__name__}."):
            del sys.modules[module]
            delattr(sets, module.rpartition(".")[2])


def test_a_file_is_a_set_unless_its_name_begins_with_an_underscore(more_sets):
    (more_sets / "kittens.py").write_text(SET)
    (more_sets / "_shared.py").write_text("raise AssertionError('imported')\n")
    (more_sets / "notes.txt").write_text("no set\n")
    found = catalogue.find()
    assert list(found) == sorted([*CATALOGUE, "kittens"])
    assert found["kittens"].description == "A set."


def test_a_file_without_an_entry_is_named(more_sets):
    (more_sets / "kittens.py").write_text("")
    with pytest.raises(AttributeError, match=r"jaxstruct.data.sets.kittens.*ENTRY"):
        catalogue.find()


@pytest.fixture
def leaves(more_sets, monkeypatch):
    """The set that docs/data.md shows, as one file where sets are looked for."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (example,) = (block for block in blocks if "ENTRY = " in block)
    (more_sets / "leaves.py").write_text(example)
    monkeypatch.setitem(CATALOGUE, "leaves", catalogue.find()["leaves"])
    return CATALOGUE["leaves"]


def test_the_set_of_the_document_is_prepared_from_a_folder(leaves, tmp_path):
    (tmp_path / "raw" / "leaves").mkdir(parents=True)
    leaves.imitate(tmp_path / "raw" / "leaves")
    with data.looking(tmp_path / "raw"):
        train, test = data.load("leaves", "train"), data.load("leaves", "test")
        assert data.where()[list(CATALOGUE).index("leaves")]["splits"] == {"train": 20, "test": 10}
    assert train.source == data.Source("leaves", "1.0.0", "train", "official", 20)
    assert train["image"].shape == (20, 48, 64, 3)
    assert test["mask"].shape == (10, 48, 64, 1)
    truth = {shapes.scene(0, number, (48, 64)).mask.tobytes() for number in range(20, 30)}
    assert {(mask[..., 0] > 0).tobytes() for mask in test["mask"]} == truth


def test_the_set_of_the_document_has_an_imitation(leaves):
    with data.looking(imitations=True):
        assert data.load("leaves", "train").source.origin == "imitation"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"masks/21.png": image(0, (48, 64), "PNG")}, "masks/21.png: an image of mode RGB; expect"),
        ({"images/3.jpg": image(0, (48, 60))}, r"masks/3.png: \(48, 64\); expected \(48, 60\)"),
        ({"images/3.jpg": b"x"}, "images/3.jpg: no image .*; expected an image of a leaf"),
        ({"test.txt": b"20 99"}, "images/99.jpg: missing; expected an image of a leaf"),
    ],
)
def test_the_set_of_the_document_refuses_bad_files(leaves, tmp_path, spoil, message):
    (tmp_path / "leaves").mkdir()
    leaves.imitate(tmp_path / "leaves")
    write(tmp_path / "leaves", spoil)
    with data.looking(tmp_path), pytest.raises(DataError, match=message) as error:
        data.load("leaves", "train")
    assert str(error.value).startswith(str(tmp_path / "leaves"))
    assert "\n" not in str(error.value)


def test_the_document_names_files_that_are_there():
    text = DOCUMENT.read_text()
    paths = [
        path for path in re.findall(r"`((?:jaxstruct|tests)/[^`]+)`", text) if "NAME" not in path
    ]
    assert len(paths) >= 3
    for path in paths:
        assert (DOCUMENT.parents[1] / path).exists(), path
