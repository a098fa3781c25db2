"""DCGAN on rooms and fronts of houses at 64x64 (Radford, Metz & Chintala, ICLR 2016).

The paper's bedrooms are LSUN's 3,033,042; these are 1,712 images of four kinds of rooms.

python -m experiments.dcgan_rooms
python -m experiments.dcgan_rooms --paper                # LSUN, prepared with TFDS: 43 GB
python -m experiments.dcgan_rooms --dataset flowers      # a set of your own, prepared --size 64
python -m experiments.dcgan_rooms arithmetic --a 3 8 21 --b 40 41 42 --c 7 9 90
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import _dcgan, _gan
from jaxstruct import data
from jaxstruct.training import Experiment, main


@dataclass(frozen=True)
class Config(_dcgan.Config):
    """The defaults: an hour on two cores."""

    dataset: str = "houses64"  # or lsun/bedroom, or a prepared set of images of 64x64 by class
    splits: tuple[str, str] = ("train", "test")  # of it; without a test: train[:90%] train[90%:]
    features: int = 32  # channels of the discriminator's first layer (the paper: 128)
    epochs: float = 160  # passes of the discriminator through the 1,712 training images
    evaluations: int = 30  # how often the value function is measured during training


SMOKE = Config(features=4, latent=8, epochs=2, batch_size=32, evaluations=2, parts=2, fid_images=0)
PAPER = Config(
    **_dcgan.PAPER, dataset="lsun/bedroom", splits=("train", "validation"), epochs=5
)  # figure 3
CLAIMS = [_dcgan.DIRECTIONS, _gan.equilibrium("D knows the 1,712 images by heart")]
SIZE = 64
ROOMS = ("bedroom", "bathroom", "kitchen")
HELD = 10_000  # images of a set that is read during training, for what is compared with samples


def experiment(config: Config) -> Experiment:
    if config.dataset.startswith("lsun/"):
        return of_lsun(config)
    train, test = (data.load(config.dataset, split) for split in config.splits)
    if train["image"].shape[1:] != (SIZE, SIZE, 3):
        raise data.DataError(
            f"{config.dataset}: images of {train['image'].shape[1:]}, expected {(SIZE, SIZE, 3)}; "
            f"prepare a folder of images with --size {SIZE}"
        )
    names = ROOMS if config.dataset == "houses64" else train.classes[:3]
    sum_of = names if len(names) == 3 else None
    return _dcgan.experiment(config, train, test, sum_of=sum_of, claims=CLAIMS)


@dataclass(frozen=True)
class Squares:
    """The middle squares of a prepared set's images, resized as they are read."""

    reader: data.Reader
    side: int

    @property
    def size(self) -> int:
        """How many images there are."""
        return self.reader.size

    @property
    def source(self) -> data.Source:
        """The source of the images, which a run writes down."""
        return self.reader.source

    def __call__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The images uint8 [M, side, side, 3] at indices [M]."""
        images = self.reader(indices)["image"]
        return {"image": np.stack([data.middle_square(image, self.side) for image in images])}


def of_lsun(config: Config) -> Experiment:
    """LSUN's records have no labels, and are read and resized while the game goes on."""
    readers = [Squares(data.open_reader(config.dataset, split), SIZE) for split in config.splits]
    train, test = (_first(images, min(HELD, images.size)) for images in readers)
    return _dcgan.experiment(config, train, test, sum_of=None, reader=readers[0], claims=CLAIMS)


def _first(images: Squares, count: int) -> data.Examples:
    """The first images of a reader, which are read when they are used."""
    read = lambda: images(np.arange(count))["image"]
    later: Any = data.Later((count, SIZE, SIZE, 3), np.uint8, read)
    return data.Examples({"image": later}, images.source)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
