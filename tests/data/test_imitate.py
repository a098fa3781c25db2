"""Imitations have the official layout and go through the same builders."""

import numpy as np
import pytest
import scipy.io

from jaxstruct import data
from jaxstruct.data import CATALOGUE, class_folders, imitate, shapes
from jaxstruct.data.builders import cifar10, frey_face, mnist
from tests.data.written import pixels


def test_mnist(tmp_path):
    imitate.mnist(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    splits = mnist.read(tmp_path, CATALOGUE["mnist"].files)
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


def test_sets_in_the_format_of_mnist(tmp_path):
    read = {}
    for name in ("mnist", "fashion_mnist", "kmnist"):
        (tmp_path / name).mkdir()
        getattr(imitate, name)(tmp_path / name)
        images, labels = mnist.read(tmp_path / name, CATALOGUE[name].files)["train"]
        np.testing.assert_array_equal(labels, imitate.digits()[1][:1437])
        read[name] = images
    assert read["fashion_mnist"].mean() > 2 * read["mnist"].mean()  # clothes fill the frame
    assert read["kmnist"][:, 2:26, 2:26].any((1, 2)).all()
    assert not read["kmnist"][:, :2].any()
    # A digit on its side is that digit again when it is turned back.
    shrunk = (
        np.rot90(read["kmnist"][:, 2:26, 2:26], -1, (1, 2)).reshape(-1, 8, 3, 8, 3).mean((2, 4))
    )
    assert np.abs(shrunk - imitate.digits()[0][:1437]).mean() < 20


def test_cifar10(tmp_path):
    imitate.cifar10(tmp_path)
    splits = cifar10.read(tmp_path / "cifar-10-batches-py")
    images, labels = splits["train"]
    assert np.bincount(labels).tolist() == [100] * 10
    assert np.bincount(splits["test"][1]).tolist() == [20] * 10
    for index in (0, 1, 205, 999):
        scene = shapes.scene(0, index)
        np.testing.assert_array_equal(images[index], scene.image)
        assert labels[index] == scene.label


def test_frey_face(tmp_path):
    imitate.frey_face(tmp_path)
    assert scipy.io.loadmat(tmp_path / "frey_rawface.mat")["ff"].shape == (560, 400)
    faces = frey_face.read(tmp_path).astype(int)
    steps = np.abs(np.diff(faces, axis=0)).mean()
    mixed = np.abs(np.diff(faces[np.random.default_rng(0).permutation(400)], axis=0)).mean()
    assert 0 < steps < mixed / 3  # a video: neighbours are alike, and nothing stands still


def test_cifar10_jpeg(tmp_path):
    imitate.cifar10_jpeg(tmp_path)
    (path,) = tmp_path.iterdir()
    found = class_folders.scan(path)
    assert found.classes == CATALOGUE["cifar10_jpeg"].classes
    for split, size in (("train", 100), ("test", 20)):
        assert np.bincount([*found.files[split].values()]).tolist() == [size] * 10


def test_houses64(tmp_path):
    imitate.houses64(tmp_path)
    found = class_folders.scan(tmp_path)
    assert found.classes == CATALOGUE["houses64"].classes
    assert len(found.files["train"]) == 400
    shown = list(class_folders.images(found, "train", shape=(64, 64)))
    colours = np.stack([pixels(content).mean((0, 1)) for _, _, content in shown])
    labels = np.array([label for _, label, _ in shown])
    means = np.stack([colours[labels == room].mean(0) for room in range(4)])
    nearest = np.linalg.norm(colours[:, None] - means, axis=2).argmin(1)
    assert (nearest == labels).mean() > 0.6  # rooms can be told apart


IMITATED = [name for name, entry in CATALOGUE.items() if entry.imitate]


@pytest.mark.parametrize("name", IMITATED)
def test_the_same_values_every_time(tmp_path, name):
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        CATALOGUE[name].imitate(folder)
        read = {
            # MATLAB's header has the date.
            path.relative_to(folder): path.read_bytes()[128 if path.suffix == ".mat" else 0 :]
            for path in folder.rglob("*")
            if path.is_file()
        }
        written.append(read)
    assert written[0] == written[1]


SHAPES = {
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "kmnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "frey_face": (28, 20, 1),
    "cifar10_jpeg": (32, 32, 3),
    "houses64": (64, 64, 3),
}


@pytest.mark.parametrize("name", IMITATED)
def test_through_the_builder(name):
    with data.looking(imitations=True):
        examples = data.load(name, "train")
        reader = data.open_reader(name, "train[:3]")
    assert examples["image"].shape[1:] == SHAPES[name]
    assert 300 <= examples.size <= 2000
    assert examples.source is not None
    assert examples.source.origin == reader.source.origin == "imitation"
    assert examples.classes == reader.classes == CATALOGUE[name].classes
    np.testing.assert_array_equal(reader(np.arange(3))["image"], examples["image"][:3])
    assert len({image.tobytes() for image in examples["image"]}) > 0.95 * examples.size
