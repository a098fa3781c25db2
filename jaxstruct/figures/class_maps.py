"""Images and the class of each of their pixels, side by side, with one legend of names.

What may be added here: another thing that is shown of a class map (its boundaries, its errors).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from jaxstruct.figures import _style
from jaxstruct.figures._box_drawing import draw_boxes
from jaxstruct.figures._picture_rows import picture_rows, pictures_of
from jaxstruct.figures.labels import VOID, label_colors, label_overlay

Instances = tuple[ArrayLike, ArrayLike, Sequence[str]]

_VOID_GREY = 225
_HANDLE = 1.2  # a legend's patch, and
_SPACES = 2.6  # the spaces before and after its name, in the size of type


def class_map_panels(
    images: Sequence[ArrayLike],
    maps: Mapping[str, Sequence[ArrayLike]],
    names: Sequence[str],
    *,
    colors: ArrayLike | None = None,
    over_image: bool = False,
    opacity: float = 0.7,
    boxes: Mapping[str, Sequence[Instances]] | None = None,
    title: str | None = None,
) -> Figure:
    """Draws a row for each image: the image, then its class maps, under the columns' titles.

    Below is one legend, with the classes that occur in some map or box.

    Args:
        images: uint8 [H, W, 3] each, of any sizes.
        maps: title of a column -> for each image integers [H, W], its pixels' classes. 255 (void)
            is light grey.
        names: of the classes, C in all.
        colors: [C or more, 3] uint8, as of the data set; by default `label_colors`.
        over_image: draws the classes over the grey of the image; void is then the image itself.
        opacity: of the classes' colours over the image, from 0 to 1.
        boxes: title of a column -> for each image (boxes, classes, labels): [n, 4] as
            (x1, y1, x2, y2) in its pixels, integers [n], n words. A title that is none of the
            others ("image" is the first) makes a further column of the images.
        title: above all.

    Returns:
        a Figure.

    Raises:
        ValueError: no image, columns of another length, maps of another shape than their image,
            or a class without a name or a colour. TypeError: other dtypes.

    Source: Long et al. 2015 (FCN), figure 4; Chen et al. 2015 (DeepLab), figure 7.
    """
    boxes = boxes or {}
    pictures = pictures_of(images, maps, boxes)
    classes = {
        column: [_classes(x, column, i, pictures[i], len(names)) for i, x in enumerate(values)]
        for column, values in maps.items()
    }
    table = label_colors(len(names)) if colors is None else np.asarray(colors)
    if table.ndim != 2 or table.shape[1] != 3 or len(table) < len(names):
        raise ValueError(f"got colors {table.shape}, expected [{len(names)}, 3], one a class")
    shown = {"image": pictures} | {
        column: [
            label_overlay(
                picture if over_image else np.full_like(picture, _VOID_GREY),
                labels,
                opacity=opacity if over_image else 1.0,
                colors=table,
            )
            for picture, labels in zip(pictures, values, strict=True)
        ]
        for column, values in classes.items()
    }
    shown |= {column: pictures for column in boxes if column not in shown}
    occur = _occurring(classes, boxes, len(names))
    # Over the image, the legend shows colours as they are over a middle grey.
    mixed = (opacity * table + (1 - opacity) * 128 if over_image else table) / 255
    entries = [(names[k], mixed[k]) for k in occur if k != VOID]
    if VOID in occur and not over_image:
        entries.append(("void", np.full(3, _VOID_GREY / 255)))
    count = _legend_columns([name for name, _ in entries])
    below = (-(-len(entries) // count) * 1.5 + 1.2) * _style.TICK_POINTS / 72
    figure, rows = picture_rows([x.shape[:2] for x in pictures], [*shown], title=title, below=below)
    for column, (name, values) in enumerate(shown.items()):
        for i, picture in enumerate(values):
            axes = rows[i][column]
            axes.imshow(picture, aspect="auto")
            axes.set_autoscale_on(False)
            if name in boxes:
                found, kinds, words = boxes[name][i]
                draw_boxes(axes, found, table[np.asarray(kinds, int)] / 255, words)
    figure.legend(
        [Patch(facecolor=color, edgecolor="0.4", linewidth=0.5) for _, color in entries],
        [name for name, _ in entries],
        loc="lower center",
        ncols=count,
        fontsize=_style.TICK_POINTS,
        frameon=False,
        handlelength=_HANDLE,
        handleheight=1.0,
        borderaxespad=0.3,
        columnspacing=1.4,
    )
    return figure


def _classes(
    labels: ArrayLike, column: str, row: int, picture: np.ndarray, count: int
) -> NDArray[np.integer]:
    index = np.asarray(labels)
    where = f"{column!r}, row {row}"
    if index.shape != picture.shape[:2]:
        raise ValueError(
            f"got a class map {index.shape} in {where}, expected {picture.shape[:2]}, as its image"
        )
    if index.dtype.kind not in "iu":
        raise TypeError(f"the class map in {where} has dtype {index.dtype}, expected integers")
    strange = index[(index != VOID) & ((index < 0) | (index >= count))]
    if strange.size:
        raise ValueError(
            f"got class {strange[0]} in {where}, expected 0 to {count - 1}, which have names, or "
            f"{VOID} for void"
        )
    return index


def _occurring(
    classes: Mapping[str, Sequence[np.ndarray]],
    boxes: Mapping[str, Sequence[Instances]],
    count: int,
) -> list[int]:
    """The classes of all maps and boxes, in order, and 255 where a pixel is void."""
    of_maps = [np.unique(labels) for values in classes.values() for labels in values]
    for column, rows in boxes.items():
        for i, (found, kinds, words) in enumerate(rows):
            index, count_of_boxes = np.asarray(kinds, int), np.shape(found)[0]
            if not count_of_boxes == len(index) == len(words):
                raise ValueError(
                    f"got {count_of_boxes} boxes, {len(index)} classes and {len(words)} labels in "
                    f"{column!r}, row {i}; expected as many of each"
                )
            if np.any((index < 0) | (index >= count)):
                raise ValueError(
                    f"got boxes of classes {index.tolist()} in {column!r}, row {i}; expected 0 to "
                    f"{count - 1}, which have names"
                )
            of_maps.append(index)
    return np.unique(np.concatenate(of_maps)).tolist() if of_maps else []


def _legend_columns(names: Sequence[str]) -> int:
    """As many columns as fit on the page, and no more than fill the rows that these need."""
    points = _style.TICK_POINTS
    widest = max((_style.text_inches(name, points) for name in names), default=0.0)
    fit = int(_style.PAGE_INCHES / (widest + (_HANDLE + _SPACES) * points / 72))
    rows = -(-len(names) // max(fit, 1))
    return -(-len(names) // max(rows, 1)) or 1
