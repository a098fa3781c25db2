"""Every test here has empty places of its own: nothing of the machine's data is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import idx, proposals
from jaxstruct.data.sets._scenes import imitate_voc
from tests.data.cells import SIZES


@pytest.fixture(autouse=True)
def places_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(tmp_path / "prepared"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


@pytest.fixture
def write_mnist():
    """A function of a folder and a seed that writes a small MNIST: 12 to train, 5 to test."""
    return _write_mnist


@pytest.fixture
def data_dir(tmp_path) -> Path:
    """A folder with a small MNIST (12 to train, 5 to test) in the official layout."""
    _write_mnist(tmp_path / "raw" / "mnist")
    return tmp_path / "raw"


@pytest.fixture
def save(tmp_path):
    """A function of an image and a name that writes the file, with Pillow's options."""

    def write(image, name="a.png", **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return write


def _write_mnist(folder: Path, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for stem, size in (("train", 12), ("t10k", 5)):
        images = rng.integers(0, 256, (size, 28, 28), np.uint8)
        idx.write(folder / f"{stem}-images-idx3-ubyte.gz", images)
        idx.write(folder / f"{stem}-labels-idx1-ubyte.gz", np.arange(size, dtype=np.uint8) % 10)


@pytest.fixture
def cells(tmp_path):
    """Images of 30 x 40 and 40 x 30 in PASCAL VOC's layout, prepared as `cells`."""
    folder = tmp_path / "raw"
    folder.mkdir()
    lists = {f"Main/{split}": size for split, size in SIZES.items()}
    imitate_voc(folder, classes=("dot", "ring"), size=(30, 40), lists=lists)
    data.prepare_folder("cells", folder)
    return folder


@pytest.fixture
def stored_in(cells):
    """Where proposals of `cells` are stored."""
    return data.places.prepared_root() / "proposals" / "cells"


@pytest.fixture
def searches(monkeypatch):
    """The options of all searches of proposals to come."""
    found = []

    def search(image, **options):
        found.append(options)
        return data.selective_search(image, **options)

    monkeypatch.setattr(proposals, "selective_search", search)
    return found
