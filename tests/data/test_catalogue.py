"""How sets are found: files of sets/ by their names."""

import sys

import pytest

from jaxstruct.data import CATALOGUE, catalogue, sets

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
