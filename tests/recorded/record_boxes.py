"""Records torchvision's answers of the box operations: python tests/recorded/record_boxes.py

Needs torch and torchvision, writes ops_boxes.npz beside this file; the tests need neither.
"""

from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

rng = np.random.default_rng(0)
answers: dict[str, np.ndarray] = {}


def random_boxes(count, extent, smallest, largest):
    centre = rng.uniform(0, extent, (count, 2))
    size = rng.uniform(smallest, largest, (count, 2))
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)


def suppression():
    # Scores of two digits: most of them are tied.
    for name, boxes in {
        "crowded": random_boxes(400, 120, 10, 80),
        "spread": random_boxes(300, 900, 10, 60),
        # Whole pixels: many IoUs are simple fractions, such as exactly 1/2.
        "pixels": np.round(random_boxes(400, 20, 3, 8)),
    }.items():
        scores = np.round(rng.random(len(boxes)), 2).astype(np.float32)
        answers.update({f"nms_{name}_boxes": boxes, f"nms_{name}_scores": scores})
        for threshold in (0.3, 0.5, 0.7):
            kept = torchvision.ops.nms(*map(torch.from_numpy, (boxes, scores)), threshold)
            answers[f"nms_{name}_{threshold}"] = kept.numpy().astype(np.int16)


def last_digits(threshold=0.7, pairs=600):
    """Pairs of boxes whose IoU is within a few units in the last place of the threshold."""
    found = []
    while sum(map(len, found)) < pairs:
        first = random_boxes(200_000, 100, 20, 90).astype(np.float64)
        shift = (first[:, 2] - first[:, 0]) * (1 - threshold) / (1 + threshold)
        shift *= 1 + rng.uniform(-3e-7, 3e-7, len(first))
        second = first + np.stack([shift, 0 * shift, shift, 0 * shift], axis=1)
        a, b = first.astype(np.float32), second.astype(np.float32)
        side = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        inter = side[:, 0] * side[:, 1]
        area = [(x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b)]
        iou = inter / (area[0] + area[1] - inter)
        near = np.abs(iou - np.float32(threshold)) < 1.5e-7
        found.append(np.stack([a, b], axis=1)[near])
    boxes = np.concatenate(found)[:pairs].reshape(-1, 4)
    labels = np.repeat(np.arange(pairs), 2)
    scores = rng.permutation(2 * pairs).astype(np.float32) / (2 * pairs)
    # More than 1000 boxes: torchvision goes class by class and moves no coordinate.
    kept = torchvision.ops.batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), threshold)
    answers.update(digits_boxes=boxes, digits_scores=scores, digits_kept=kept.numpy())


def classes():
    boxes = random_boxes(1100, 150, 10, 80)
    scores = (rng.permutation(1100) / 1100).astype(np.float32)
    labels = rng.integers(0, 6, 1100)
    kept = torchvision.ops.batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), 0.5)
    answers.update(
        classes_boxes=boxes,
        classes_scores=scores,
        classes_labels=labels.astype(np.int32),
        classes_kept=kept.numpy().astype(np.int16),
    )


def geometry():
    a, b = random_boxes(30, 100, 5, 60), random_boxes(20, 100, 5, 60)
    deltas = rng.normal(0, 1.5, (30, 4)).astype(np.float32)
    weights = (10.0, 10.0, 5.0, 5.0)
    ta, tb, td = map(torch.from_numpy, (a, b, deltas))
    moved = np.roll(a, 7, axis=0)
    coder = BoxCoder(weights)
    answers.update(
        a=a,
        b=b,
        deltas=deltas,
        area=torchvision.ops.box_area(ta).numpy(),
        iou=torchvision.ops.box_iou(ta, tb).numpy(),
        clipped=torchvision.ops.clip_boxes_to_image(ta, (60, 80)).numpy(),
        encoded=coder.encode_single(torch.from_numpy(moved), ta).numpy(),
        decoded=coder.decode_single(td, ta).numpy(),
    )


def anchors():
    generator = AnchorGenerator(((32, 90.5, 128),), ((0.5, 1.0, 2.0),))
    images = ImageList(torch.zeros(1, 3, 64, 80), [(64, 80)])
    (grid,) = generator(images, [torch.zeros(1, 1, 4, 5)])
    answers["anchors"] = grid.numpy()


def matching():
    truth, proposals = random_boxes(5, 100, 20, 60), random_boxes(200, 100, 10, 70)
    iou = torchvision.ops.box_iou(*map(torch.from_numpy, (truth, proposals)))
    answers["match_iou"] = iou.numpy().T
    for name, high, low, force in (("rpn", 0.7, 0.3, True), ("head", 0.5, 0.5, False)):
        found = Matcher(high, low, allow_low_quality_matches=force)(iou).numpy()
        # -1 is below both thresholds and negative, -2 is between them and ignored.
        answers[f"match_{name}_label"] = np.where(found >= 0, 1, np.where(found == -1, 0, -1))
        answers[f"match_{name}_index"] = found


for record in (suppression, last_digits, classes, geometry, anchors, matching):
    record()
path = Path(__file__).with_name("ops_boxes.npz")
np.savez_compressed(path, **answers)
print(f"{path.name}: {path.stat().st_size} bytes, torchvision {torchvision.__version__}")
