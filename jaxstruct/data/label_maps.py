"""Label maps: images whose pixels are labels or classes, read and written without loss.

What may be added: another form in which a file holds labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxstruct.data.errors import DataError
from jaxstruct.data.image_files import name_transparent
from jaxstruct.data.places import given
from jaxstruct.data.user_images import opened_image

VOID = 255  # of a class map: no label


class LabelMap(NamedTuple):
    """Which label each pixel has, and how the file writes a label.

    Attributes:
        labels: int32 [H, W], from 0 on in the order of the colors; 255 where no label is known.
        colors: uint8 [L, 3], as the labels look.
        values: uint8 [L] or [L, 3]: grey values, indices into the palette, or colors.
        palette: of the indices, None without.
    """

    labels: np.ndarray
    colors: np.ndarray
    values: np.ndarray
    palette: list[int] | None


def read_labels(path: str | Path, unknown: tuple[int, int, int] | None = (0, 0, 0)) -> LabelMap:
    """A label map: each color is a label, be it of RGB, of a palette, or grey.

    Args:
        path: an image file without loss. Transparent pixels have no label.
        unknown: the color of pixels without a label (a grey value thrice); None where all have one.

    Raises:
        DataError: the file is missing or no image, has more than 8 bits, or does not have 2 to 255
            labels.
    """
    with opened_image(path) as opened:
        name_transparent(opened)
        mode, palette = opened.mode, opened.getpalette("RGB") if opened.mode == "P" else None
        pixels = np.asarray(opened.convert("RGBA")).reshape(-1, 4)
        kept = opened if palette else opened.convert("L" if mode in ("1", "L") else "RGB")
        written = np.asarray(kept)
    if mode.startswith("I") or mode == "F":
        raise DataError(f"{path} has more than 8 bits a pixel; expected a label map of 8 bits")
    known = pixels[:, 3] > 0
    if unknown is not None:
        known &= (pixels[:, :3] != unknown).any(1)
    colors, first, labels = np.unique(
        pixels[known, :3], axis=0, return_index=True, return_inverse=True
    )
    aside = f"beside {unknown}, which is unknown" if unknown else "and nothing is unknown"
    if len(colors) < 2:
        alone = f"the one label {tuple(colors[0].tolist())}" if len(colors) else "no label"
        raise DataError(f"{path} holds {alone} {aside}; expected at least two labels")
    if len(colors) > VOID:
        raise DataError(
            f"{path} has {len(colors):,} colors {aside}; expected at most {VOID} labels, without "
            "smooth edges, and in a format without loss (PNG, not JPEG)"
        )
    every = np.full(len(pixels), VOID, np.int32)
    every[known] = labels.ravel()
    values = written.reshape(len(pixels), -1)[known][first]
    values = values if written.ndim == 3 else values[:, 0]
    return LabelMap(every.reshape(written.shape[:2]), colors, values, palette)


def write_labels(path: str | Path, labels: np.ndarray, like: LabelMap) -> None:
    """Writes labels [H, W], integers, as the file that `like` was read from writes them.

    ~ in the path is the home folder. Raises DataError for a path that is refused, see
    `places.expanded`, OSError where the file cannot be written, and ValueError for an ending that
    Pillow does not know.
    """
    from PIL import Image

    path = given(path)
    image = Image.fromarray(like.values[labels])
    if like.palette:
        image.putpalette(like.palette)
    image.save(path)


def write_class_map(path: Path, labels: np.ndarray, colors: np.ndarray | None = None) -> None:
    """Writes class indices uint8 [H, W] as an index PNG, one pixel each.

    `colors` are uint8 [L, 3]; without them, and for indices beyond them, those of PASCAL VOC's
    files.
    """
    from PIL import Image

    palette = voc_colors()
    given = np.zeros((0, 3), np.uint8) if colors is None else np.asarray(colors, np.uint8)
    palette[: len(given)] = given
    image = Image.fromarray(labels)
    image.putpalette(palette.ravel().tolist())
    image.save(path)


def voc_colors(count: int = 256) -> np.ndarray:
    """The colours [count, 3] uint8 of PASCAL VOC's index PNGs; 255 is void's.

    Bits 0, 3, 6 of the index are red's highest bits, and the next two green's and blue's.

    Raises ValueError for a count outside of 0 to 256.

    Source: the development kit of PASCAL VOC 2012, VOClabelcolormap.
    """
    if not 0 <= count <= 256:
        raise ValueError(f"got count={count}, expected 0 to 256, as many as an index PNG has")
    index = np.arange(count)[:, None]
    bits = [((index >> (3 * i + np.arange(3)[None])) & 1) << (7 - i) for i in range(3)]
    return np.sum(bits, axis=0).astype(np.uint8)
