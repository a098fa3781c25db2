"""Frey Face: what comes out, every way the file can be bad, the imitation."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from jaxstruct import data
from jaxstruct.data import DataError
from jaxstruct.data.sets import frey_face


def write_faces(folder: Path, **variables) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "frey_rawface.mat", variables)
    return folder / "frey_rawface.mat"


def test_frey_face_keeps_orientation_and_time(tmp_path):
    columns = np.random.default_rng(0).integers(0, 256, (560, 25), np.uint8)
    write_faces(tmp_path / "frey_face", ff=columns)
    with data.looking(tmp_path):
        faces = data.load("frey_face", "train")
        last = data.load("frey_face", "train[20:]")
    assert faces["image"].shape == (25, 28, 20, 1)
    assert faces["frame"].tolist() == list(range(25))
    assert faces["frame"].dtype == np.int32
    assert faces["image"][7, 3, 11, 0] == columns[3 * 20 + 11, 7]  # rows of 20 pixels
    assert last["frame"].tolist() == [20, 21, 22, 23, 24]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: write_faces(path.parent, gg=np.zeros(3)), "no `ff` in it"),
        (lambda path: write_faces(path.parent, ff=np.zeros((560, 2))), r"`ff` is float64 \[560, 2"),
        (
            lambda path: write_faces(path.parent, ff=np.zeros((2, 560), np.uint8)),
            r"`ff` is uint8 \[2, 560\]",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "cannot be read as MATLAB"),
        (lambda path: path.write_bytes(b"\0" * 500), "cannot be read as MATLAB"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    ],
)
def test_bad_frey_face(tmp_path, spoil, message):
    path = write_faces(tmp_path / "frey_face", ff=np.zeros((560, 2), np.uint8))
    spoil(path)
    expected = r".*expected a MATLAB file with `ff`, uint8 \[560,N\]"
    with data.looking(tmp_path), pytest.raises(DataError, match=message + expected) as error:
        data.load("frey_face", "train")
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.real_data("frey_face")
def test_real_frey_face(real_data):
    with data.looking(real_data):
        faces = data.load("frey_face", "train")
    assert faces.size == 1965
    assert faces["frame"].tolist() == list(range(1965))
    assert faces.source is not None
    assert faces.source.origin == "official"
    steps = np.abs(np.diff(faces["image"].astype(int), axis=0)).mean()
    mixed = np.abs(
        np.diff(faces["image"][np.random.default_rng(0).permutation(1965)].astype(int), axis=0)
    )
    assert steps < mixed.mean() / 2  # in the order of time, neighbours are alike


def test_the_imitation_is_a_video(tmp_path):
    frey_face.imitate(tmp_path)
    path = tmp_path / "frey_rawface.mat"
    assert scipy.io.loadmat(path)["ff"].shape == (560, 400)
    faces = frey_face.faces(path).astype(int)
    steps = np.abs(np.diff(faces, axis=0)).mean()
    mixed = np.abs(np.diff(faces[np.random.default_rng(0).permutation(400)], axis=0)).mean()
    assert 0 < steps < mixed / 3  # neighbours are alike, and nothing stands still
