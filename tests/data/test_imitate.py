"""Imitations have the official layout and go through the same builders."""

import numpy as np
import pytest
import scipy.io

from jaxstruct import data
from jaxstruct.data import imitate
from jaxstruct.data.builders import frey_face, mnist


def test_mnist(tmp_path):
    imitate.mnist(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    splits = mnist.read(tmp_path)
    images, labels = splits["train"]
    assert (len(images), len(splits["test"][0])) == (1437, 360)
    small, truth = imitate.digits()
    np.testing.assert_array_equal(labels, truth[:1437])
    assert not images[:, :4].any()  # the box of 20 x 20 has a border of 4
    assert not images[:, :, 24:].any()
    # Shrunk again, an image is the digit that it was made of.
    blocks = images[:, 4:24, 4:24].reshape(-1, 4, 5, 4, 5).mean((2, 4))
    coarse = small[:1437].reshape(-1, 4, 2, 4, 2).mean((2, 4))
    nearest = [np.argmin(((coarse - block) ** 2).sum((1, 2))) for block in blocks[:100]]
    assert np.mean(nearest == np.arange(100)) > 0.95


def test_frey_face(tmp_path):
    imitate.frey_face(tmp_path)
    assert scipy.io.loadmat(tmp_path / "frey_rawface.mat")["ff"].shape == (560, 400)
    faces = frey_face.read(tmp_path).astype(int)
    steps = np.abs(np.diff(faces, axis=0)).mean()
    mixed = np.abs(np.diff(faces[np.random.default_rng(0).permutation(400)], axis=0)).mean()
    assert 0 < steps < mixed / 3  # a video: neighbours are alike, and nothing stands still


@pytest.mark.parametrize("name", ["mnist", "frey_face"])
def test_the_same_values_every_time(tmp_path, name):
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        getattr(imitate, name)(folder)
        read = mnist.read(folder)["train"][0] if name == "mnist" else frey_face.read(folder)
        written.append(read)
    np.testing.assert_array_equal(*written)


@pytest.mark.parametrize(("name", "shape"), [("mnist", (28, 28, 1)), ("frey_face", (28, 20, 1))])
def test_through_the_builder(name, shape):
    with data.looking(imitations=True):
        examples = data.load(name, "train")
        reader = data.open_reader(name, "train[:3]")
    assert examples["image"].shape[1:] == shape
    assert examples.source is not None
    assert examples.source.origin == reader.source.origin == "imitation"
    np.testing.assert_array_equal(reader(np.arange(3))["image"], examples["image"][:3])
