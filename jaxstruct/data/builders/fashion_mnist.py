"""Fashion-MNIST, whose files are as MNIST's."""

import tensorflow_datasets as tfds

from jaxstruct.data.builders.mnist import Mnist
from jaxstruct.data.catalogue import CATALOGUE


class FashionMnist(Mnist, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of Fashion-MNIST; `manual_dir` holds the four files."""

    VERSION = tfds.core.Version(CATALOGUE["fashion_mnist"].version)


BUILDER = FashionMnist
