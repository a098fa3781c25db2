"""Imitations: small files in a set's official layout, of a package's real images or of shapes.

They let every builder, command and test run on a machine without data; a number that was measured
on them says nothing about the real set.

What may be added: the imitation of another set. Each is a function of the folder to write into,
draws nothing at random but the shapes of seed 0, and gives the same values every time.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

from jaxstruct.data import idx, shapes

REVISION = "r1"
"""Names the folder of imitations; raise it when an imitation changes, so that old ones are left."""

_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

TRAIN_DIGITS = 1437
"""How many of scikit-learn's 1,797 digits, in their order, are the train split."""


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, no imitation: uint8 [1797,8,8], 0..16 scaled to 0..255, and labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.uint8)


def mnist(folder: Path) -> None:
    """Write MNIST's four IDX files: scikit-learn's digits, 20 x 20 in the middle of 28 x 28.

    1,437 to train and 360 to test. Real MNIST has its digits in such a box too.
    """
    small, labels = digits()
    images = np.zeros((len(small), 28, 28), np.uint8)
    images[:, 4:24, 4:24] = _resize(small, 20, 20)
    _write_idx(folder, images, labels)


def fashion_mnist(folder: Path) -> None:
    """Write Fashion-MNIST's four IDX files: the digits as striped cloth that fills the frame."""
    small, labels = digits()
    broad = np.minimum(2.5 * _resize(small, 28, 28), 255)
    rows = np.arange(28)[None, :, None] / (1 + labels % 3)[:, None, None]
    _write_idx(folder, (broad * (0.75 + 0.25 * np.cos(rows))).astype(np.uint8), labels)


def kmnist(folder: Path) -> None:
    """Write Kuzushiji-MNIST's four IDX files: the digits on their side, 24 x 24 of 28 x 28."""
    small, labels = digits()
    images = np.zeros((len(small), 28, 28), np.uint8)
    images[:, 2:26, 2:26] = _resize(np.ascontiguousarray(np.rot90(small, axes=(1, 2))), 24, 24)
    _write_idx(folder, images, labels)


def _write_idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for stem, part in (("train", slice(TRAIN_DIGITS)), ("t10k", slice(TRAIN_DIGITS, None))):
        idx.write(folder / f"{stem}-images-idx3-ubyte.gz", images[part])
        idx.write(folder / f"{stem}-labels-idx1-ubyte.gz", labels[part])


def frey_face(folder: Path) -> None:
    """Write frey_rawface.mat: 400 frames of scikit-image's portrait of Eileen Collins (NASA).

    A window wanders over the face and the light changes, slowly, as in a video.
    """
    import scipy.io
    from skimage import data

    portrait = np.asarray(data.astronaut()[:300, 100:350], np.float64) @ [0.299, 0.587, 0.114]
    time = np.arange(400) / 20
    tops = np.round(12 + 10 * np.sin(time)).astype(int)
    lefts = np.round(50 + 14 * np.sin(0.6 * time + 1)).astype(int)
    light = 0.85 + 0.15 * np.sin(0.3 * time)
    windows = [
        portrait[top : top + 196, left : left + 140] * brightness
        for top, left, brightness in zip(tops, lefts, light, strict=True)
    ]
    faces = _resize(np.clip(windows, 0, 255).astype(np.uint8), 28, 20)
    columns = faces.reshape(len(faces), 560).T
    scipy.io.savemat(folder / "frey_rawface.mat", {"ff": columns}, do_compression=True)


def cifar10(folder: Path) -> None:
    """Write CIFAR-10's batches for Python: shapes of ten classes, six times 200."""
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    (folder / "cifar-10-batches-py").mkdir()
    for start, name in enumerate(names):
        scenes = [shapes.scene(0, index) for index in range(200 * start, 200 * (start + 1))]
        planes = np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2)
        batch = {
            "batch_label": name,
            "labels": [scene.label for scene in scenes],
            "data": planes.reshape(200, 3072),
            "filenames": [f"{index:05}.png" for index in range(200)],
        }
        content = pickle.dumps(batch, protocol=3)  # the last that writes arrays as the first did
        (folder / "cifar-10-batches-py" / name).write_bytes(content)


def cifar10_jpeg(folder: Path) -> None:
    """Write cifar10_jpeg.tar.xz: shapes of ten classes, 100 each to train and 20 to test."""
    with tarfile.open(folder / "cifar10_jpeg.tar.xz", "w:xz", preset=1) as archive:
        for index in range(1200):
            image, label, _ = shapes.scene(0, index)
            number = index // 10
            split, number = ("train", number) if number < 100 else ("test", number - 100)
            content = _jpeg(image)
            member = tarfile.TarInfo(f"{split}/{_CIFAR10[label]}/{number:04}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def houses64(folder: Path) -> None:
    """Write four class folders of 100 images each: windows of four of scikit-image's photographs.

    The window, which is the same in all images of a house, and the light wander slowly.
    """
    from skimage import data

    photographs = {
        "bathroom": data.chelsea(),
        "bedroom": data.coffee(),
        "frontal": data.rocket(),
        "kitchen": data.astronaut(),
    }
    for room, photograph in photographs.items():
        (folder / room).mkdir()
        height, width = photograph.shape[0] - 200, photograph.shape[1] - 200
        for house in range(1, 101):
            top = round(height * (0.5 + 0.5 * np.sin(0.61 * house)))
            left = round(width * (0.5 + 0.5 * np.sin(0.37 * house + 1)))
            light = 0.8 + 0.2 * np.sin(0.23 * house)
            window = photograph[top : top + 200, left : left + 200] * light
            image = _resize(window.astype(np.uint8)[None], 64, 64)[0]
            (folder / room / f"{house:03}.jpg").write_bytes(_jpeg(image))


def _resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 [N,H,W], or [N,H,W,3], to [N,height,width]."""
    from PIL import Image

    return np.stack(
        [
            np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
            for image in images
        ]
    )


def _jpeg(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
