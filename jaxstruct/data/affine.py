"""Affine maps of the image plane: one map of an example moves its image, its label maps, its boxes.

Points are (x, y) in continuous pixel coordinates: the pixel in row i and column j covers
[j, j + 1] x [i, i + 1], and its centre is (j + 0.5, i + 0.5). Boxes are (x1, y1, x2, y2) with width
x2 - x1. Sizes and canvases are (height, width) in pixels.

What may be added: another map by name, another distribution that maps are drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True, eq=False)
class Affine:
    """An invertible affine map: (x', y') = matrix @ (x, y, 1).

    Attributes:
        matrix: [2, 3], kept as float64.

    Raises:
        ValueError: the matrix has another shape, is not finite or has no inverse.
    """

    matrix: np.ndarray

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, np.float64)
        if matrix.shape != (2, 3):
            raise ValueError(f"matrix of shape {matrix.shape}, expected (2, 3)")
        if not np.isfinite(matrix).all() or np.linalg.det(matrix[:, :2]) == 0:
            raise ValueError(f"matrix {matrix.tolist()}, expected finite numbers and an inverse")
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)

    def then(self, second: Affine) -> Affine:
        """The map that applies this one first and the second one to its result."""
        linear, offset = second.matrix[:, :2], second.matrix[:, 2]
        matrix = linear @ self.matrix
        matrix[:, 2] += offset
        return Affine(matrix)

    def inverse(self) -> Affine:
        """The map that takes results back; of predictions on a canvas, to the original image."""
        linear = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([linear, -linear @ self.matrix[:, 2]]))

    @staticmethod
    def identity() -> Affine:
        """The map that moves nothing."""
        return Affine.scale(1)

    @staticmethod
    def flip(width: float) -> Affine:
        """Mirrors an image of this width, left to right."""
        return Affine(np.array([[-1.0, 0, width], [0, 1, 0]]))

    @staticmethod
    def scale(factor: float) -> Affine:
        """Enlarges by a factor; the top left corner stays."""
        return Affine(np.array([[factor, 0.0, 0], [0, factor, 0]]))

    @staticmethod
    def shift(x: float, y: float) -> Affine:
        """Moves x pixels to the right and y down."""
        return Affine(np.array([[1.0, 0, x], [0, 1, y]]))

    @staticmethod
    def crop(box: np.ndarray, canvas: Size) -> Affine:
        """Takes a box (x1, y1, x2, y2) to the whole canvas, each axis with a scale of its own."""
        x1, y1, x2, y2 = np.asarray(box, np.float64).tolist()
        if not (x1 < x2 and y1 < y2):
            raise ValueError(f"box {(x1, y1, x2, y2)}, expected x1 < x2 and y1 < y2")
        x, y = canvas[1] / (x2 - x1), canvas[0] / (y2 - y1)
        return Affine(np.array([[x, 0.0, -x * x1], [0, y, -y * y1]]))

    @staticmethod
    def letter_box(size: Size, canvas: Size) -> Affine:
        """Scales an image so that it just fits on the canvas, its top left corner on the canvas's.

        Raises ValueError for a size or canvas of no pixels.
        """
        if min(*size, *canvas) < 1:
            raise ValueError(
                f"image of {size[0]}x{size[1]} and canvas of {canvas[0]}x{canvas[1]} pixels, "
                "expected a height and a width of at least 1"
            )
        return Affine.scale(min(canvas[0] / size[0], canvas[1] / size[1]))


def draw_affine(
    generator: np.random.Generator,
    size: Size,
    canvas: Size,
    *,
    flip: float = 0.5,
    scale: tuple[float, float] = (1.0, 1.0),
    shift: float = 1.0,
) -> Affine:
    """Draws the map of one image onto a canvas: mirrored or not, its scale, its place.

    Four numbers are drawn from [0, 1), whatever the options, so that an option changes nothing but
    its own effect. The image is mirrored left to right with probability `flip`. Its scale is the
    letter box's times a factor that is uniform in `scale`. On each axis the image's offset is
    uniform from 0 to `shift` times the room, canvas minus scaled image: where there is room left,
    the image lies anywhere in it, and where the image is larger than the canvas, the canvas shows
    any crop of it. The offset is then rounded so that shifts are of whole pixels of the canvas: a
    shrunk image stays as sharp as a letter-boxed one.

    Args:
        generator: the example's own.
        size: height and width of the image.
        canvas: height and width of what the map leads to.
        flip: a probability.
        scale: the least and the largest factor, above 0.
        shift: from 0 to 1; 0 is the letter box's place, the top left corner.

    Raises:
        ValueError: an option lies outside of its range.
    """
    least, largest = scale
    if not 0 < least <= largest:
        raise ValueError(f"scale {scale}, expected two factors above 0, the smaller one first")
    for name, share in {"flip": flip, "shift": shift}.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} {share}, expected a number from 0 to 1")
    mirrored, size_draw, *place_draws = generator.random(4)
    factor = Affine.letter_box(size, canvas).matrix[0, 0]
    factor *= least + (largest - least) * size_draw
    height, width = factor * np.array(size)
    x, y = (
        shift * draw * (room - extent)
        for draw, room, extent in zip(place_draws, canvas[::-1], (width, height), strict=True)
    )
    if mirrored < flip:
        return Affine(np.array([[-factor, 0, np.round(x + width)], [0, factor, np.round(y)]]))
    return Affine(np.array([[factor, 0, np.round(x)], [0, factor, np.round(y)]]))


def move_boxes(boxes: np.ndarray, affine: Affine) -> np.ndarray:
    """Moves boxes [..., 4]: float32 [..., 4], the upright boxes around the moved ones, not clipped.

    Raises ValueError for another shape.
    """
    boxes = np.asarray(boxes, np.float64)
    if boxes.shape[-1:] != (4,):
        raise ValueError(
            f"boxes of shape {boxes.shape}, expected [..., 4] (zeros((0, 4)) for none)"
        )
    corners = boxes.reshape(*boxes.shape[:-1], 2, 1, 2)  # [..., corner, 1, x or y]
    terms = corners * affine.matrix[:, :2]  # [..., corner, moved x or y, x or y]
    low, high = terms.min(-3).sum(-1), terms.max(-3).sum(-1)
    offset = np.tile(affine.matrix[:, 2], 2)
    return (np.concatenate([low, high], -1) + offset).astype(np.float32)
