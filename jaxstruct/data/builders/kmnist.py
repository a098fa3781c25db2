"""Kuzushiji-MNIST, whose files are as MNIST's."""

import tensorflow_datasets as tfds

from jaxstruct.data.builders.mnist import Mnist
from jaxstruct.data.catalogue import CATALOGUE


class Kmnist(Mnist, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of Kuzushiji-MNIST; `manual_dir` holds the four files."""

    VERSION = tfds.core.Version(CATALOGUE["kmnist"].version)


BUILDER = Kmnist
