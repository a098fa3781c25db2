"""Images, boxes and weights that torchvision's Faster R-CNN and ours are given alike."""

import json

import numpy as np

from tests.models import weights

CLASSES = 20
SHORTER, LONGER = 160, 224
EVERY = 64  # channel of a map that is recorded
EVERY_ANCHOR = 13


def images():
    """Uint8 images by name: of the size they keep, cut at the longer side, and resized."""
    return {
        "kept": photograph(0, 160, 213),
        "longer": photograph(1, 147, 224),
        "resized": photograph(2, 375, 500),
    }


def photograph(seed, height, width):
    """Uint8 [height, width, 3] of smooth noise on three scales."""
    rng = np.random.default_rng([7, seed])
    total = np.zeros((height, width, 3))
    for cells in (4, 12, 40):
        coarse = rng.random((cells + 1, cells + 1, 3))
        y, x = (np.linspace(0, cells - 1e-6, n) for n in (height, width))
        rows, columns = y.astype(int), x.astype(int)
        down, across = (y - rows)[:, None, None], (x - columns)[None, :, None]
        above, below = coarse[rows], coarse[rows + 1]
        lines = above + down * (below - above)
        total += lines[:, columns] + across * (lines[:, columns + 1] - lines[:, columns])
    return np.clip(np.round(total / 3 * 255), 0, 255).astype(np.uint8)


def training_example():
    """An image, its true boxes [3, 4] and their classes [3]."""
    boxes = np.array([[20, 30, 90, 120], [100, 10, 200, 80], [60, 70, 130, 150]], np.float32)
    return photograph(3, 160, 213), boxes, np.array([3, 7, 3])


SMALLER = {"bn3.weight": 0.2, "fpn": 0.5, "cls_logits": 0.3, "bbox_pred": 0.05, "fc6": 0.5}


def drawn(shapes):
    """Weights by torchvision's names, of sizes that leave numbers of about one everywhere."""
    found = {name: weights.draw(name, tuple(shape)) for name, shape in shapes.items()}
    for part, factor in SMALLER.items():
        found |= {name: x * np.float32(factor) for name, x in found.items() if part in name}
    # What all regions have in common favours no class, so that several are found.
    name = "roi_heads.box_predictor.cls_score.weight"
    found[name] = 3 * (found[name] - found[name].mean(1, keepdims=True))
    return found


def stored_shapes(state):
    """The shapes of a state dict as one array of text."""
    return np.array(json.dumps({name: tuple(x.shape) for name, x in state.items() if x.ndim}))


def products(name, gradient):
    """A gradient as two numbers: its norm, and its product with a vector drawn from its name."""
    gradient = np.asarray(gradient, np.float64)
    vector = np.random.default_rng(len(name)).standard_normal(gradient.size)
    return np.linalg.norm(gradient), gradient.ravel() @ vector / np.sqrt(gradient.size)
