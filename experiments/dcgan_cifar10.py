"""DCGAN on CIFAR-10 at 32x32 (Radford, Metz & Chintala, ICLR 2016).

python -m experiments.dcgan_cifar10
python -m experiments.dcgan_cifar10 arithmetic --a 3 8 21 --b 40 41 42 --c 7 9 90
"""

from dataclasses import dataclass

from experiments import _dcgan, _gan
from jaxstruct import data
from jaxstruct.training import Claim, Experiment, Reference, main


@dataclass(frozen=True)
class Config(_dcgan.Config):
    """The defaults: an hour on two cores."""

    features: int = 32  # channels of the discriminator's first layer (the paper: 128)
    epochs: float = 16  # passes of the discriminator through the 50,000 training images
    evaluations: int = 30  # how often the value function is measured during training


SMOKE = Config(features=4, latent=8, epochs=1, batch_size=32, evaluations=2, parts=2, fid_images=8)
PAPER = Config(**_dcgan.PAPER, epochs=100)
CLAIMS = [
    Claim(
        "D's features classify CIFAR-10 (% right)",
        values=[
            Reference("svm_accuracy", "higher", value=82.8, source="Radford et al. 2016, table 1")
        ],
        why="a quarter of the width; D saw CIFAR-10 alone, not ImageNet",
    ),
    _dcgan.DIRECTIONS,
    _gan.equilibrium("D stays ahead of G"),
]


def experiment(config: Config) -> Experiment:
    train, test = data.load("cifar10_jpeg", "train"), data.load("cifar10_jpeg", "test")
    return _dcgan.experiment(
        config, train, test, sum_of=("ship", "airplane", "automobile"), claims=CLAIMS
    )


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
