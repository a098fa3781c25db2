"""A training step of FCN-8s and of DeepLab-LargeFOV in float64 NumPy, cell by cell.

Written from Long et al. 2015, sections 3.3 and 4.2, Chen et al. 2015, section 3.1, and Simonyan &
Zisserman 2015, table 1. Not the papers' are: images padded by their last row and column to whole
strides in place of by zeros, and a mean over labelled pixels in place of a sum. Each layer is a
function of what it sees and of a tape, on which it leaves how its gradient goes back. Maps are
[H, W, C]; weights are a dict of layers, of "kernel" and "bias" each.
"""

import itertools
import math

import numpy as np

VOID = 255


class Value:
    """An array, and the gradient by it."""

    def __init__(self, array):
        self.array = np.array(array, np.float64)
        self.gradient = np.zeros_like(self.array)


class Tape(list):
    """Functions that each take a gradient one layer back."""

    def back(self):
        for function in reversed(self):
            function()


def padded(image, stride):
    """An image whose sides are multiples of a stride: its last row and column again."""
    height, width, _ = image.shape
    rows, columns = (math.ceil(n / stride) * stride for n in (height, width))
    whole = np.empty((rows, columns, image.shape[2]))
    for row, column in np.ndindex(rows, columns):
        whole[row, column] = image[min(row, height - 1), min(column, width - 1)]
    return whole


def convolve(tape, x, layer, rate=1):
    """A convolution [H, W, C] -> [H, W, D] whose border is padded with 0, by an odd kernel."""
    kernel, bias = layer["kernel"], layer["bias"]
    height, width, channels = x.array.shape
    size = len(kernel.array)
    reach = size // 2 * rate
    around = np.zeros((height + 2 * reach, width + 2 * reach, channels))
    inside = slice(reach, reach + height), slice(reach, reach + width)
    around[inside] = x.array
    seen = lambda whole, row, column: whole[
        row : row + 2 * reach + 1 : rate, column : column + 2 * reach + 1 : rate
    ]
    out = Value(np.empty((height, width, len(bias.array))))
    for row, column in np.ndindex(height, width):
        out.array[row, column] = bias.array + np.tensordot(
            seen(around, row, column), kernel.array, 3
        )

    def back():
        by_around = np.zeros_like(around)
        for row, column in np.ndindex(height, width):
            gradient = out.gradient[row, column]
            bias.gradient += gradient
            kernel.gradient += seen(around, row, column)[..., None] * gradient
            seen(by_around, row, column)[...] += kernel.array @ gradient
        x.gradient += by_around[inside]

    tape.append(back)
    return out


def relu(tape, x):
    out = Value(np.maximum(x.array, 0))

    def back():
        x.gradient += np.where(x.array > 0, out.gradient, 0)

    tape.append(back)
    return out


def pool(tape, x, size, stride, before=0):
    """The maximum of each window, of which `before` rows and columns may lie before the map."""
    height, width, channels = x.array.shape
    number = [(n + 2 * before - size) // stride + 1 for n in (height, width)]
    out, places = Value(np.empty((*number, channels))), {}
    for row, column, c in np.ndindex(*number, channels):
        cells = [
            (i, j, c)
            for i in range(row * stride - before, row * stride - before + size)
            for j in range(column * stride - before, column * stride - before + size)
            if 0 <= i < height and 0 <= j < width
        ]
        places[row, column, c] = max(cells, key=lambda cell: x.array[cell])
        out.array[row, column, c] = x.array[places[row, column, c]]

    def back():
        for place, cell in places.items():
            x.gradient[cell] += out.gradient[place]

    tape.append(back)
    return out


def doubled(tape, x, kernel):
    """Each cell adds the kernel [4, 4, C, D], turned, where it lies at twice the size."""
    (height, width, _), turned = x.array.shape, kernel.array[::-1, ::-1]
    whole = np.zeros((2 * height + 2, 2 * width + 2, turned.shape[3]))
    for row, column in np.ndindex(height, width):
        place = whole[2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
        place += np.einsum("ijcd,c->ijd", turned, x.array[row, column])
    out = Value(whole[1:-1, 1:-1])

    def back():
        by_whole = np.pad(out.gradient, ((1, 1), (1, 1), (0, 0)))
        for row, column in np.ndindex(height, width):
            place = by_whole[2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
            x.gradient[row, column] += np.einsum("ijcd,ijd->c", turned, place)
            by_kernel = np.einsum("c,ijd->ijcd", x.array[row, column], place)
            kernel.gradient += by_kernel[::-1, ::-1]

    tape.append(back)
    return out


def added(tape, x, y):
    out = Value(x.array + y.array)

    def back():
        x.gradient += out.gradient
        y.gradient += out.gradient

    tape.append(back)
    return out


def interpolated(tape, x, factor, size):
    """Bilinear interpolation at the centres of pixels, of an image's pixels alone."""
    out, shares = Value(np.zeros((*size, x.array.shape[2]))), {}
    for place in np.ndindex(*size):
        axes = []
        for p, n in zip(place, x.array.shape, strict=False):
            at = min(max((p + 0.5) / factor - 0.5, 0), n - 1)
            low = min(math.floor(at), n - 1)
            axes.append([(low, 1 - at + low), (min(low + 1, n - 1), at - low)])
        shares[place] = [((i, j), a * b) for (i, a), (j, b) in itertools.product(*axes)]
        for cell, share in shares[place]:
            out.array[place] += share * x.array[cell]

    def back():
        for place, cells in shares.items():
            for cell, share in cells:
                x.gradient[cell] += share * out.gradient[place]

    tape.append(back)
    return out


def cross_entropy(tape, logits, labels, class_weights, count):
    """The sum over the labelled pixels of one image, divided by a count."""
    total = 0.0

    def each():
        for place in np.ndindex(*labels.shape):
            if labels[place] != VOID:
                exponents = np.exp(logits.array[place] - logits.array[place].max())
                yield place, labels[place], exponents / exponents.sum()

    for _, label, probabilities in each():
        total -= class_weights[label] * math.log(probabilities[label]) / count

    def back():
        for place, label, probabilities in each():
            probabilities[label] -= 1
            logits.gradient[place] += class_weights[label] * probabilities / count

    tape.append(back)
    return total


def trunk(tape, weights, image, blocks, stride=32):
    """VGG's poolings by name; behind a stride of 8 they do not halve, and blocks are dilated."""
    x, maps, at = Value(image), {}, 1
    for block, layers in enumerate(blocks, 1):
        rate = max(1, 2 ** (block - 1) // stride)
        for i in range(1, layers + 1):
            x = relu(tape, convolve(tape, x, weights[f"conv{block}_{i}"], rate))
        if at < stride:
            x, at = pool(tape, x, 2, 2), 2 * at
        else:
            x = pool(tape, x, 3, 1, before=1)
        maps[f"pool{block}"] = x
    return maps


def fcn8(tape, weights, image, blocks):
    """Logits [H, W, classes] of an image."""
    maps = trunk(tape, weights["trunk"], padded(image, 32), blocks)
    hidden = relu(tape, convolve(tape, maps["pool5"], weights["head"]["fc6"]))
    hidden = relu(tape, convolve(tape, hidden, weights["head"]["fc7"]))
    x = convolve(tape, hidden, weights["score32"])
    for stride, name in ((16, "pool4"), (8, "pool3")):
        x = doubled(tape, x, weights[f"up{stride}"]["kernel"])
        x = added(tape, x, convolve(tape, maps[name], weights[f"score{stride}"]))
    return interpolated(tape, x, 8, image.shape[:2])


def large_fov(tape, weights, image, blocks, rate=12):
    """Logits [H, W, classes] of an image."""
    maps = trunk(tape, weights["trunk"], padded(image, 8), blocks, stride=8)
    head = weights["head"]["fc"]
    hidden = relu(tape, convolve(tape, maps["pool5"], head["fc6"], rate))
    hidden = relu(tape, convolve(tape, hidden, head["fc7"]))
    return interpolated(tape, convolve(tape, hidden, weights["head"]["score"]), 8, image.shape[:2])


def step(network, weights, images, labels, blocks, class_weights):
    """The loss of a batch, its logits, and the gradients by all weights, in a tree like them."""
    tree = lambda node: (
        {name: tree(value) for name, value in node.items()}
        if isinstance(node, dict)
        else Value(node)
    )
    weights, tape, total, logits = tree(weights), Tape(), 0.0, []
    count = sum(class_weights[label] for label in labels.ravel() if label != VOID)
    for image, label in zip(images, labels, strict=True):
        logits.append(network(tape, weights, image, blocks))
        total += cross_entropy(tape, logits[-1], label, class_weights, count)
    tape.back()
    gradients = lambda node: (
        {name: gradients(value) for name, value in node.items()}
        if isinstance(node, dict)
        else node.gradient
    )
    return total, [x.array for x in logits], gradients(weights)
