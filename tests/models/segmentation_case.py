"""Images and weights that torchvision's segmentation networks and ours are given alike."""

import numpy as np

from tests.models import weights

CLASSES = 5
SIZES = (41, 301), (64, 80)  # 38 cells of stride 8 see taps that are 36 apart
EVERY = 6  # pixel that is recorded
NETWORKS = "fcn_resnet50", "deeplabv3_resnet50"
SMALLER = {"bn3.weight": 0.2}


def image(height, width):
    """[1, height, width, 3], float32, as if normalised."""
    rng = np.random.default_rng(height)
    return rng.standard_normal((1, height, width, 3)).astype(np.float32)


def drawn(shapes):
    """Weights by torchvision's names, of sizes that leave numbers of about one everywhere."""
    found = {name: weights.draw(name, tuple(shape)) for name, shape in shapes.items()}
    for part, factor in SMALLER.items():
        found |= {name: x * np.float32(factor) for name, x in found.items() if part in name}
    return found
