"""Scenes without end, with exact truth: textured shapes that cast shadows on textured ground.

A scene is a pure function of (seed, index), the same at any size, and made of operations that IEEE
754 rounds correctly, so that it has the same bits on every machine.

What may be added: more truth of the same scenes (boxes, depth, flow), more things in a scene, and
motion. All of it follows from `_Thing`, which says what is where, before anything is painted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

CLASSES = (
    *("bar", "crescent", "cross", "disc", "frame"),
    *("heart", "ring", "square", "star", "triangle"),
)
"""What the labels 0 to 9 mean."""

_LATTICE = 9  # points along each side of the noise that makes clouds


class Scene(NamedTuple):
    """A picture and the truth about it.

    Attributes:
        image: uint8 [H, W, 3].
        label: an index into `CLASSES`.
        mask: bool [H, W], whether the centre of a pixel is inside of the shape.
    """

    image: np.ndarray
    label: int
    mask: np.ndarray


class Group(NamedTuple):
    """A picture of n shapes, the later ones in front of the earlier, and the truth about it.

    Attributes:
        image: uint8 [H, W, 3].
        labels: int32 [n], indices into `CLASSES`.
        masks: bool [n, H, W], where the centre of a pixel shows the shape.
        boxes: float32 [n, 4], (x1, y1, x2, y2) around the pixels of the masks.
        visible: float64 [n], the share of the shape's pixels that no other hides.
    """

    image: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    visible: np.ndarray


class _Paint(NamedTuple):
    """A pattern of two colours [2, 3]: how it is turned and moved, its period, and its clouds."""

    pattern: int
    colors: np.ndarray
    turn: tuple[float, float]
    phase: np.ndarray
    period: float
    clouds: np.ndarray


class _Thing(NamedTuple):
    """What is where, in units of half the shorter side of the image, from its middle."""

    label: int
    x: float
    y: float
    radius: float
    turn: tuple[float, float]  # cosine and sine
    paint: _Paint


def scene(seed: int, index: int, size: tuple[int, int] = (32, 32)) -> Scene:
    """The scene of an index (the classes take turns) at a size (height, width).

    Raises ValueError if one of them is negative or the size is not positive.
    """
    if seed < 0 or index < 0 or min(size) < 1:
        raise ValueError(
            f"seed {seed}, index {index}, size {size}; expected none below 0, a size above it"
        )
    rng = np.random.default_rng([seed, index])
    bright = rng.random() < 0.5
    ground = _paint(rng, bright, vivid=False)
    thing = _thing(rng, index % len(CLASSES), _paint(rng, not bright, vivid=True))
    light = _direction(rng)
    x, y, pixel = _points(size)
    image, distance = _added(_painted(ground, x, y, pixel), thing, light, x, y, pixel)
    return Scene(_stored(image), thing.label, distance < 0)


def group(
    seed: int, index: int, size: tuple[int, int] = (96, 128), *, classes: int = 10, most: int = 5
) -> Group:
    """One to `most` shapes of the first `classes` at a size (height, width), some behind others.

    Those that are hidden to the last pixel are left out. Raises ValueError if seed or index are
    negative, the size is not positive, or there are not 1 to 10 classes and at least one shape.
    """
    if seed < 0 or index < 0 or min(size) < 1 or not 1 <= classes <= len(CLASSES) or most < 1:
        raise ValueError(
            f"seed {seed}, index {index}, size {size}, classes {classes}, most {most}; expected "
            f"none below 0, a size above it, 1 to {len(CLASSES)} classes, at least one shape"
        )
    rng = np.random.default_rng([seed, index, 1])
    bright = rng.random() < 0.5
    ground, light = _paint(rng, bright, vivid=False), _direction(rng)
    x, y, pixel = _points(size)
    image, distances, labels = _painted(ground, x, y, pixel), [], []
    for _ in range(1 + rng.integers(most)):
        label = int(rng.integers(classes))
        made = _thing(rng, label, _paint(rng, not bright, vivid=True))
        across, down = (2 * rng.random(2) - 1) * np.array([x[0, -1], y[-1, 0]])
        thing = made._replace(x=0.8 * across, y=0.8 * down, radius=0.25 + 1.4 * (made.radius - 0.5))
        image, distance = _added(image, thing, light, x, y, pixel)
        distances.append(distance)
        labels.append(label)
    whole = np.stack(distances) < 0
    # What lies in front hides; the last shape is in front of all.
    in_front = np.cumsum(whole[::-1], axis=0)[::-1] - whole > 0
    masks = whole & ~in_front
    shown = masks.any((1, 2))
    share = masks.sum((1, 2))[shown] / whole.sum((1, 2))[shown]
    boxes = [_around(mask) for mask in masks[shown]]
    return Group(
        _stored(image),
        np.array(labels, np.int32)[shown],
        masks[shown],
        np.array(boxes, np.float32).reshape(-1, 4),
        share,
    )


def _points(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, float]:
    """The pixels' centres [1, W] and [H, 1], and a pixel's side, in units of `_Thing`."""
    height, width = size
    pixel = 2 / min(size)
    x = (np.arange(width) + 0.5 - width / 2)[None, :] * pixel
    y = (np.arange(height) + 0.5 - height / 2)[:, None] * pixel
    return x, y, pixel


def _added(
    image: np.ndarray,
    thing: _Thing,
    light: tuple[float, float],
    x: np.ndarray,
    y: np.ndarray,
    pixel: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The image [H, W, 3] with a thing in front and its shadow, and how far points are outside."""
    distance = _distance(thing, x, y)
    cast = _distance(thing, x - 0.14 * light[0], y - 0.14 * light[1])
    shadow = np.clip(0.5 - cast / 0.22, 0, 1) * 0.5
    image = image * (1 - shadow)[..., None]
    # Darker towards its edge, and where the light does not come from, a shape looks round.
    edge = np.clip(-distance / (0.4 * thing.radius), 0, 1)
    lit = 0.72 + 0.28 * edge - 0.18 * ((x - thing.x) * light[0] + (y - thing.y) * light[1])
    inside = np.clip(0.5 - distance / pixel, 0, 1)[..., None]
    image += inside * (_painted(thing.paint, x, y, pixel) * lit[..., None] - image)
    return image, distance


def _stored(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _around(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box (x1, y1, x2, y2) around the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _thing(rng: np.random.Generator, label: int, paint: _Paint) -> _Thing:
    x, y, radius = rng.random(3)
    radius = 0.5 + 0.25 * radius
    room = 1 - 0.8 * radius
    return _Thing(label, (2 * x - 1) * room, (2 * y - 1) * room, radius, _direction(rng), paint)


def _paint(rng: np.random.Generator, bright: bool, vivid: bool) -> _Paint:
    hue, shift, saturation, value, period = rng.random(5)
    saturation = 0.6 + 0.35 * saturation if vivid else 0.1 + 0.35 * saturation
    value = 0.75 + 0.25 * value if bright else 0.2 + 0.25 * value
    colors = np.stack(
        [
            _rgb(hue, saturation, value),
            _rgb(hue + 0.15 * (shift - 0.5), 0.7 * saturation, value * (0.75 if bright else 1.4)),
        ]
    )
    pattern = int(rng.integers(4))
    clouds = rng.random((_LATTICE, _LATTICE))
    return _Paint(pattern, colors, _direction(rng), rng.random(2), 0.3 + 0.25 * period, clouds)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """From hue (a turn is 1), saturation and value to RGB [3], all in [0, 1]."""
    wheel = np.clip(np.abs((6 * hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - wheel))


def _direction(rng: np.random.Generator) -> tuple[float, float]:
    """A unit vector, without a cosine, whose last bit differs between machines."""
    t, sign = 2 * rng.random() - 1, 1 if rng.random() < 0.5 else -1
    return sign * (1 - t * t) / (1 + t * t), sign * 2 * t / (1 + t * t)


def _painted(paint: _Paint, x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """The colours [H, W, 3] of a paint."""
    cosine, sine = paint.turn
    u = (cosine * x + sine * y) / paint.period + paint.phase[0]
    v = (cosine * y - sine * x) / paint.period + paint.phase[1]
    sharp = paint.period / pixel  # periods to pixels

    def stripes(along: np.ndarray) -> np.ndarray:
        return np.clip(0.5 + (np.abs(along % 1 - 0.5) - 0.25) * sharp, 0, 1)

    clouds = _clouds(paint.clouds, x, y)
    if paint.pattern == 0:
        mixed = clouds
    elif paint.pattern == 1:
        mixed = stripes(u)
    elif paint.pattern == 2:
        a, b = stripes(u), stripes(v)
        mixed = a + b - 2 * a * b
    else:
        from_middle = np.sqrt((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2)
        mixed = np.clip(0.5 + (0.3 - from_middle) * sharp, 0, 1)
    first, second = paint.colors
    colors = first + mixed[..., None] * (second - first)
    return colors * (0.85 + 0.3 * clouds)[..., None]


def _clouds(lattice: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise [H, W] in [0, 1] from random values on a lattice, four points to a unit."""
    rows, down = _between(y[:, 0])
    columns, right = _between(x[0])
    above, below = lattice[rows], lattice[(rows + 1) % _LATTICE]
    lines = above + down[:, None] * (below - above)
    left = lines[:, columns]
    return left + right * (lines[:, (columns + 1) % _LATTICE] - left)


def _between(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The point of the lattice before a position, and the way to the next, eased."""
    cell = np.floor(4 * position)
    way = 4 * position - cell
    return cell.astype(int) % _LATTICE, way * way * (3 - 2 * way)


def _distance(thing: _Thing, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far [H, W] points are outside of a thing; negative inside."""
    cosine, sine = thing.turn
    right, down = (x - thing.x) / thing.radius, (y - thing.y) / thing.radius
    u, v = cosine * right + sine * down, cosine * down - sine * right
    return thing.radius * _OUTLINES[CLASSES[thing.label]](u, v)


def _length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y)


def _box(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A square that stands on a corner, with half discs on its upper sides."""
    a = 0.52
    x, y = x + 0.2, y + 0.2
    discs = np.minimum(_length(x - a, y), _length(x, y - a)) - a
    return np.minimum(_box(x, y, a, a), discs)


def _from_sides(x: np.ndarray, y: np.ndarray, sides: int) -> np.ndarray:
    """How far [sides, H, W] points are from the middle towards each side of a regular polygon."""
    return np.stack([a * x + b * y for a, b in _NORMALS[sides]])


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points: what is beyond at most one side of the pentagon in the middle."""
    return np.sort(_from_sides(x, y, 5), axis=0)[3] - _NORMALS[5][1][0]


_C1, _C2 = (math.sqrt(5) - 1) / 4, -(math.sqrt(5) + 1) / 4  # cosines of 72 and 144 degrees
_S1, _S2 = math.sqrt(10 + 2 * math.sqrt(5)) / 4, math.sqrt(10 - 2 * math.sqrt(5)) / 4
_NORMALS = {
    3: ((1.0, 0.0), (-0.5, math.sqrt(0.75)), (-0.5, -math.sqrt(0.75))),
    5: ((1.0, 0.0), (_C1, _S1), (_C2, _S2), (_C2, -_S2), (_C1, -_S1)),
}

# Signed distances in units of the thing's radius, exact near the outline but at some corners.
_OUTLINES = {
    "bar": lambda x, y: _box(x, y, 1.0, 0.33),
    "crescent": lambda x, y: np.maximum(_length(x, y) - 0.95, 0.75 - _length(x - 0.45, y)),
    "cross": lambda x, y: np.minimum(_box(x, y, 0.95, 0.3), _box(x, y, 0.3, 0.95)),
    "disc": lambda x, y: _length(x, y) - 0.85,
    "frame": lambda x, y: np.abs(_box(x, y, 0.62, 0.62)) - 0.18,
    "heart": _heart,
    "ring": lambda x, y: np.abs(_length(x, y) - 0.72) - 0.23,
    "square": lambda x, y: _box(x, y, 0.75, 0.75),
    "star": _star,
    "triangle": lambda x, y: _from_sides(x, y, 3).max(0) - 0.5,
}
