"""A training step of Faster R-CNN, Fast R-CNN and SPPnet in float64 NumPy, cell by cell.

Written from Girshick 2015 (Fast R-CNN), sections 2.1 to 2.3, Ren et al. 2015 (Faster R-CNN),
sections 3.1 to 3.3, He et al. 2017 (Mask R-CNN), section 3, and He et al. 2014 (SPPnet), sections
2.2 and 4.1 and appendix A. From the authors' code, not the papers, are: sigma 3 of the proposal
network's smooth L1, targets divided by .1 and .2, true boxes among the proposals, negatives of any
IoU below .5 in Faster R-CNN, and anchors across the border, which learn, too, as in torchvision.
Each term is the mean over what was sampled, where the paper weighs the sums. What was drawn is
given. Boxes are x1, y1, x2, y2. Layers and weights are those of detection_layers.
"""

import math
from typing import NamedTuple

import numpy as np

from tests.models.detection_layers import head, proposal_network

HEAD_WEIGHTS = 10.0, 10.0, 5.0, 5.0
RPN_SIGMA, HEAD_SIGMA = 3, 1


class Drawn(NamedTuple):
    """What an image of the batch teaches: the rows that were drawn, and what they should say."""

    anchors: list  # (row, 0 or 1, target or None)
    regions: list  # (box, class, target or None)


# Boxes.


def anchors_of(height, width, stride, scales, ratios):
    """[N, 4]: cell by cell, ratio by ratio (height / width), scale by scale, in whole pixels."""
    found = []
    for row in range(height):
        for column in range(width):
            for ratio in ratios:
                for scale in scales:
                    tall, wide = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
                    right, low = round(wide / 2), round(tall / 2)
                    x, y = column * stride, row * stride
                    found.append((x - right, y - low, x + right, y + low))
    return np.array(found, np.float64)


def iou(a, b):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return wide * tall / (area(a) + area(b) - wide * tall)


def centred(box):
    """Centre x, y, width and height."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def encode(box, anchor, weights=(1, 1, 1, 1)):
    x, y, wide, tall = centred(box)
    x_a, y_a, wide_a, tall_a = centred(anchor)
    t = (x - x_a) / wide_a, (y - y_a) / tall_a, math.log(wide / wide_a), math.log(tall / tall_a)
    return np.array(t) * weights


def decode(t, anchor):
    x_a, y_a, wide_a, tall_a = centred(anchor)
    x, y = x_a + t[0] * wide_a, y_a + t[1] * tall_a
    wide, tall = wide_a * math.exp(t[2]), tall_a * math.exp(t[3])
    return np.array([x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2])


def clip(box, height, width):
    x1, y1, x2, y2 = box
    inside = lambda value, end: min(max(value, 0), end)
    return inside(x1, width), inside(y1, height), inside(x2, width), inside(y2, height)


# What is learnt from.


def label_anchors(anchors, boxes):
    """1, 0 or -1 (neither) of each anchor, and its nearest true box."""
    overlap = [[iou(anchor, box) for box in boxes] for anchor in anchors]
    label, nearest = [], []
    for row in overlap:
        best = max(row)
        nearest.append(row.index(best))
        label.append(1 if best >= 0.7 else 0 if best < 0.3 else -1)
    for m in range(len(boxes)):
        column = [row[m] for row in overlap]
        for n, value in enumerate(column):
            if value == max(column) > 0:
                label[n] = 1
    return label, nearest


def label_proposals(proposals, boxes, classes, background=0.0):
    """The class, 0 (background) or -1 (neither) of each proposal, and its nearest true box."""
    label, nearest = [], []
    for proposal in proposals:
        row = [iou(proposal, box) for box in boxes]
        best = max(row)
        nearest.append(row.index(best))
        label.append(classes[nearest[-1]] if best >= 0.5 else 0 if best >= background else -1)
    return label, nearest


def admissible(label, rows, valid, size, share):
    """Whether rows may be drawn: positives first, up to a share, then as many negatives as fit."""
    rows, valid = [int(row) for row in rows], [bool(v) for v in valid]
    positives = min(sum(x > 0 for x in label), math.floor(size * share))
    negatives = min(sum(x == 0 for x in label), size - positives)
    chosen = rows[: positives + negatives]
    signs = [min(label[row], 1) for row in chosen]
    return (
        len(rows) == size
        and valid == [i < len(chosen) for i in range(size)]
        and len(set(chosen)) == len(chosen)
        and signs == [1] * positives + [0] * negatives
    )


def expected(row, label, nearest, candidates, boxes, weights=(1, 1, 1, 1)):
    """The label of a row, and the target of its box, if it has one."""
    if label[row] <= 0:
        return label[row], None
    return label[row], encode(boxes[nearest[row]], candidates[row], weights)


def propose(logits, deltas, anchors, size, most, threshold=0.7):
    """The best boxes [P, 4] within an image of a size, whose overlaps are at most a threshold."""
    boxes = [clip(decode(*pair), *size) for pair in zip(deltas, anchors, strict=True)]
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -logits[i]):
        x1, y1, x2, y2 = boxes[i]
        if x2 - x1 < 1e-3 or y2 - y1 < 1e-3:
            continue
        if all(iou(boxes[i], other) <= threshold for other in kept):
            kept.append(boxes[i])
    return np.array(kept[:most])


# The loss.


def smooth_l1(x, sigma):
    """0.5 x^2 near 0, |x| - 0.5 elsewhere, of an x that is scaled by sigma^2, and back."""
    total = 0.0
    for value in np.abs(x):
        near = value < 1 / sigma**2
        total += 0.5 * (sigma * value) ** 2 if near else value - 0.5 / sigma**2
    return total


def pooled(maps, drawn, pooling, cells=7, scale=1 / 16):
    """The regions of each image as arrays, by `pool`, `align` or, of levels, `pyramid`."""
    return [
        [pooling(x, region, cells, scale) for region, _, _ in regions]
        for x, (_, regions) in zip(maps, drawn, strict=True)
    ]


def terms(weights, maps, pools, drawn):
    """The four terms of a batch of maps, of the regions pooled from them, and of what was drawn."""
    return anchor_terms(weights, maps, drawn) | region_terms(weights, pools, drawn)


def anchor_terms(weights, maps, drawn):
    """The proposal network's two terms."""
    found = {"rpn_class": [], "rpn_box": []}
    for x, (anchors, _) in zip(maps, drawn, strict=True):
        logits, deltas = proposal_network(weights, x)
        for row, label, target in anchors:
            probability = 1 / (1 + math.exp(-logits[row]))
            found["rpn_class"].append(-math.log(probability if label else 1 - probability))
            found["rpn_box"].append(smooth_l1(deltas[row] - target, RPN_SIGMA) if label else 0)
    return {name: np.mean(values) for name, values in found.items()}


def region_terms(weights, pools, drawn):
    """The head's two terms."""
    found = {"class": [], "box": []}
    for arrays, (_, regions) in zip(pools, drawn, strict=True):
        for array, (_, label, target) in zip(arrays, regions, strict=True):
            logits, deltas = head(weights, array)
            found["class"].append(-math.log(np.exp(logits[label]) / np.exp(logits).sum()))
            found["box"].append(smooth_l1(deltas[label] - target, HEAD_SIGMA) if label else 0)
    return {name: np.mean(values) for name, values in found.items()}
