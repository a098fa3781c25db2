"""The layers of detectors in float64 NumPy, cell by cell; for detection_reference.

Maps are [H, W, C]; weights are a dict of layers, of "kernel" and "bias" each.
"""

import math

import numpy as np

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels
PYRAMID = 6, 3, 2, 1
OUTPUTS = "class_logits", "class_deltas"


def trunk(weights, image, size, blocks):
    """VGG's last convolution [H / 16, W / 16, C] of an image on a canvas, 0 beyond its size."""
    height, width = size
    x = np.zeros(image.shape)
    x[:height, :width] = (image[:height, :width] - MEAN) / DEVIATION
    for block, layers in enumerate(blocks, 1):
        if block > 1:
            x = halved(x)
        for i in range(1, layers + 1):
            x = relu(convolve(x, weights[f"conv{block}_{i}"]))
    return x


def halved(x):
    """The maximum of each 2 x 2 cells."""
    height, width, channels = x.shape
    return x.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))


def convolve(x, layer):
    """A convolution [H, W, C] -> [H, W, D] whose border is padded with 0, by an odd kernel."""
    height, width, _ = x.shape
    reach = len(layer["kernel"]) // 2
    out = np.zeros((height, width, len(layer["bias"])))
    for row in range(height):
        for column in range(width):
            out[row, column] = layer["bias"]
            for i in range(-reach, reach + 1):
                for j in range(-reach, reach + 1):
                    if 0 <= row + i < height and 0 <= column + j < width:
                        kernel = layer["kernel"][i + reach, j + reach]
                        out[row, column] += x[row + i, column + j] @ kernel
    return out


def relu(x):
    return np.where(x > 0, x, 0)


def proposal_network(weights, x):
    """Logits [N] and deltas [N, 4] of the anchors of a map [H, W, C]."""
    hidden = relu(convolve(x, weights["rpn_conv"]))
    logits, deltas = (convolve(hidden, weights[name]) for name in ("rpn_logits", "rpn_deltas"))
    return logits.reshape(-1), deltas.reshape(-1, 4)


def pool(x, region, cells, scale):
    """The maximum [T, T, C] of the whole cells in each of T x T windows of a region."""
    nearest = lambda value: math.floor(value * scale + 0.5)  # of coordinates from 0 on
    x1, y1, x2, y2 = (nearest(value) for value in region)
    wide, tall = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    window = lambda start, size, i: range(
        start + i * size // cells, start - (-(i + 1) * size // cells)
    )
    out = np.zeros((cells, cells, x.shape[-1]))
    for i in range(cells):
        for j in range(cells):
            inside = [
                x[row, column]
                for row in window(y1, tall, i)
                for column in window(x1, wide, j)
                if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]
            ]
            if inside:
                out[i, j] = np.max(inside, axis=0)
    return out


def cells_within(start, end, stride):
    """The cells whose centres are inside of an interval; without any, the cell nearest to it.

    Of two that are equally near it is the second, which the paper does not say.
    """
    centre = lambda k: (k + 0.5) * stride
    near = range(math.floor(start / stride) - 2, math.ceil(end / stride) + 3)
    inside = [k for k in near if start < centre(k) < end]
    return inside or [min(near, key=lambda k: (abs(centre(k) - (start + end) / 2), -k))]


def pyramid(x, region, levels, scale):
    """The maximum [bins, C] of each bin of the levels, n x n bins each, of a region's cells."""
    x1, y1, x2, y2 = region
    rows, columns = cells_within(y1, y2, 1 / scale), cells_within(x1, x2, 1 / scale)
    part = lambda cells, i, n: cells[
        math.floor(i * len(cells) / n) : math.ceil((i + 1) * len(cells) / n)
    ]
    out = []
    for n in levels:
        for i in range(n):
            for j in range(n):
                inside = [
                    x[row, column]
                    for row in part(rows, i, n)
                    for column in part(columns, j, n)
                    if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]
                ]
                out.append(np.max(inside, axis=0) if inside else np.zeros(x.shape[-1]))
    return np.array(out)


def align(x, region, cells, scale, samples=2):
    """The mean [T, T, C] of S x S bilinear samples in each of T x T windows of a region."""
    x1, y1, x2, y2 = (value * scale for value in region)
    wide, tall = max(x2 - x1, 1) / cells, max(y2 - y1, 1) / cells
    out = np.zeros((cells, cells, x.shape[-1]))
    for i in range(cells):
        for j in range(cells):
            for a in range(samples):
                for b in range(samples):
                    row = y1 + tall * (i + (a + 0.5) / samples)
                    column = x1 + wide * (j + (b + 0.5) / samples)
                    out[i, j] += bilinear(x, row, column) / samples**2
    return out


def bilinear(x, row, column):
    height, width, channels = x.shape
    if not (-1 <= row <= height and -1 <= column <= width):
        return np.zeros(channels)
    row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    top, left = min(int(row), height - 2), min(int(column), width - 2)
    down, right = row - top, column - left
    upper = (1 - right) * x[top, left] + right * x[top, left + 1]
    lower = (1 - right) * x[top + 1, left] + right * x[top + 1, left + 1]
    return (1 - down) * upper + down * lower


def head(weights, pooled):
    """Logits [C + 1] and deltas [C + 1, 4] of a region: [T, T, D], or a pyramid [50, D]."""
    dense = lambda x, layer: x @ layer["kernel"].reshape(len(x), -1) + layer["bias"]
    hidden = relu(dense(pooled.reshape(-1), weights["head"]["fc6"]))
    hidden = relu(dense(hidden, weights["head"]["fc7"]))
    of_boxes = hidden
    if pooled.ndim == 2:  # He et al. 2014, section 4.1
        of_boxes = 20 * pooled.reshape(-1) / (np.sqrt(np.sum(pooled**2)) or 1)
    deltas = dense(of_boxes, weights["class_deltas"])
    return dense(hidden, weights["class_logits"]), deltas.reshape(-1, 4)
