"""Slow references of the ops over regions."""

import math

import numpy as np


def name(case):
    return ",".join(str(value).replace(" ", "")[:6] for value in case[0].values())


def _round(x):
    return math.floor(abs(float(x)) + 0.5) * (1 if x > 0 else -1)


def pool_bins(low, high, count, size, scale):
    """The (start, end) of each bin along an axis, in float32 as C computes it."""
    f = np.float32
    start, end = (_round(f(f(v) * f(scale))) for v in (low, high))
    bin_size = f(f(max(end - start + 1, 1)) / f(count))
    return [
        (
            min(max(math.floor(f(j) * bin_size) + start, 0), size),
            min(max(math.ceil(f(j + 1) * bin_size) + start, 0), size),
        )
        for j in range(count)
    ]


def pool(features, rois, output_size, spatial_scale):
    """Values [R, Ty, Tx, C] and the flat cell of each maximum, -1 for none."""
    height, width = np.broadcast_to(output_size, 2)
    rows, columns, channels = features.shape
    out = np.zeros((len(rois), height, width, channels), features.dtype)
    index = np.full(out.shape, -1)
    for r, (x1, y1, x2, y2) in enumerate(rois):
        if not np.all(np.isfinite(rois[r])):
            continue
        for i, (top, bottom) in enumerate(pool_bins(y1, y2, height, rows, spatial_scale)):
            for j, (left, right) in enumerate(pool_bins(x1, x2, width, columns, spatial_scale)):
                if bottom <= top or right <= left:
                    continue
                for c in range(channels):
                    out[r, i, j, c] = np.finfo(np.float32).min
                    for y in range(top, bottom):
                        for x in range(left, right):
                            if features[y, x, c] > out[r, i, j, c]:
                                out[r, i, j, c] = features[y, x, c]
                                index[r, i, j, c] = y * columns + x
    return out, index


def scatter(index, pulled, shape):
    """The gradient [H, W, C] of a pooling whose maxima are at `index`."""
    total = np.zeros((shape[0] * shape[1], shape[2]))
    for at in np.ndindex(index.shape):
        if index[at] >= 0:
            total[index[at], at[-1]] += pulled[at]
    return total.reshape(shape)


def _sample(size, at):
    """[(cell, weight)] of a position along an axis."""
    if not -1 <= at <= size:
        return []
    at = min(max(at, 0.0), size - 1.0)
    low = math.floor(at)
    return [(low, 1 - (at - low)), (min(low + 1, size - 1), at - low)]


def align_weights(roi, size, counts, scale, ratio, aligned):
    """[Ty, Tx, H, W] in float64: what each bin takes of each cell."""
    weights = np.zeros((*counts, *size))
    axes = []
    for low, high, count in ((roi[1], roi[3], counts[0]), (roi[0], roi[2], counts[1])):
        start, end = (float(v) * scale - (0.5 if aligned else 0) for v in (low, high))
        length = end - start if aligned else max(end - start, 1.0)
        samples = ratio or math.ceil(length / count)
        steps = [(i + 0.5) * length / count / samples for i in range(samples)]
        axes.append([[start + j * length / count + step for step in steps] for j in range(count)])
    for i, ys in enumerate(axes[0]):
        for j, xs in enumerate(axes[1]):
            for y in ys:
                for x in xs:
                    for row, row_weight in _sample(size[0], y):
                        for column, weight in _sample(size[1], x):
                            weights[i, j, row, column] += row_weight * weight / len(ys) / len(xs)
    return weights


def align(features, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """Values [R, Ty, Tx, C] and weights [R, Ty, Tx, H, W] in float64."""
    counts = tuple(np.broadcast_to(output_size, 2))
    weights = np.zeros((len(rois), *counts, *features.shape[:2]))
    for r, roi in enumerate(rois):
        if np.all(np.isfinite(roi)):
            weights[r] = align_weights(
                roi, features.shape[:2], counts, spatial_scale, sampling_ratio, aligned
            )
    return np.einsum("rijhw,hwc->rijc", weights, features.astype(np.float64)), weights
