"""DCGAN on rooms and fronts of houses at 64x64 (Radford, Metz & Chintala, ICLR 2016).

The paper's bedrooms are LSUN's 3,033,042; these are 1,712 images of four kinds of rooms.

python -m experiments.dcgan_rooms
python -m experiments.dcgan_rooms arithmetic --a 3 8 21 --b 40 41 42 --c 7 9 90
"""

from dataclasses import dataclass

from experiments import _dcgan
from jaxstruct import data
from jaxstruct.training import Experiment, main


@dataclass(frozen=True)
class Config(_dcgan.Config):
    """The defaults: half an hour on two cores."""

    features: int = 32  # channels of the discriminator's first layer (the paper: 128)
    epochs: float = 250  # passes of the discriminator through the 1,712 training images
    evaluations: int = 30  # how often the value function is measured during training


SMOKE = Config(features=4, latent=8, epochs=2, batch_size=32, evaluations=2, parts=2, fid_images=0)
PAPER = Config(**_dcgan.PAPER)


def experiment(config: Config) -> Experiment:
    train, test = data.load("houses64", "train"), data.load("houses64", "test")
    return _dcgan.experiment(config, train, test, sum_of=("bedroom", "bathroom", "kitchen"))


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
