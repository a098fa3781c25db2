"""Prepared sets on disk, damaged in every way: commands read them, or name them in one line."""

import shutil
from functools import partial

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data.__main__ import main
from tests.data.conftest import _write_mnist
from tests.data.test_sources import users_set
from tests.data.written import image, write
from tests.fuzz import fuzzing
from tests.fuzz.raw_kinds import _coco

INPUTS = 10  # for each file
SETS = {
    "mnist": "prepared/mnist/1.0.0",
    "pets": "prepared/own/pets/1.0.0",
    "cells": "prepared/own/cells/1.0.0",
    "shapes": "tfds/shapes/2.1.0",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a prepared set of each origin, without the raw files."""
    root = tmp_path_factory.mktemp("whole")
    _write_mnist(root / "raw" / "mnist")
    write(root / "pets", {f"{name}/{i}.jpg": image(i) for name in ("cat", "dog") for i in range(3)})
    _coco(root / "cells")
    with pytest.MonkeyPatch.context() as patch, data.looking(root / "raw"):
        patch.setenv("JAXSTRUCT_PREPARED", str(root / "prepared"))
        data.load("mnist", "train")
        data.prepare_folder("pets", root / "pets")
        data.prepare_folder("cells", root / "cells")
        users_set(root / "tfds", file_format="array_record")
    for name in ("raw", "pets", "cells"):
        shutil.rmtree(root / name)
    return root


@pytest.fixture
def place(whole, tmp_path, monkeypatch):
    """A function that makes a new copy of it, whose sets are looked for."""

    def copy():
        root = tmp_path / "copy"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(whole, root)
        monkeypatch.setenv("JAXSTRUCT_PREPARED", str(root / "prepared"))
        monkeypatch.setenv("TFDS_DATA_DIR", str(root / "tfds"))
        return root

    return copy


def read_all(name):
    reader = data.open_reader(name, "train")
    reader(np.arange(reader.size))


def commands(name, root):
    """What is asked of a set: each command, and the statuses that it may end with."""
    return [
        (partial(main, ["list"]), {0}),
        (partial(main, ["describe", name]), {0, 1, 2}),
        (partial(read_all, name), {0, 1}),
        (partial(main, ["draw", name, "--out", str(root / "sheet.png")]), {0, 1}),
    ]


def faults_of(name, place, seeds):
    """What was found, by input."""
    found = {}
    for seed in seeds:
        root = place()
        draw = np.random.default_rng([*name.encode(), seed])
        folder = root / SETS[name]
        decoded = [p for p in (root / "prepared" / "decoded").rglob("*") if p.is_file()]
        files = sorted(p for p in folder.iterdir() if p.is_file())
        files += sorted(decoded) if name == "mnist" else []
        path = files[draw.integers(len(files))]
        ways = fuzzing.JSON if path.suffix == ".json" else fuzzing.BYTES
        way, content = fuzzing.damaged([*name.encode(), seed, 1], path.read_bytes(), ways)
        path.write_bytes(content)
        for i, (command, statuses) in enumerate(commands(name, root)):
            names = [str(root / "prepared"), str(root / "tfds"), name]
            judged = fuzzing.outcome(command, statuses=statuses, names=names, keeps=[folder])
            if judged.faults:
                found[f"{name}, seed {seed}, command {i}: {way} of {path.name}"] = judged.faults
    return found


@pytest.mark.parametrize("name", SETS)
def test_a_damaged_set_is_read_or_named(name, place):
    found = faults_of(name, place, fuzzing.seeds(INPUTS))
    assert not found, fuzzing.report(found)
