"""What an upconvolution adds where: the outputs that single inputs reach.

What may be added here: the same picture of another op between grids (convolution, pooling).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxstruct import ops
from jaxstruct.figures import _style
from jaxstruct.figures._box_drawing import BRIGHTNESS
from jaxstruct.figures._picture_rows import wrapped

_CELL_INCHES = 0.4  # the most
_LINE = 0.18  # inches
_LEAST_POINTS = 7  # of letters with signs between them
_LETTERS = "abcdef"
_IDLE = to_rgb("0.93")
_TINT = 0.55  # white in a colour that is laid over a cell


class _Reach(NamedTuple):
    """Which cells of the whole grid each chosen input reaches, and which cells the output has."""

    touched: np.ndarray  # bool [inputs, h, w]
    top: int
    left: int
    output: tuple[int, int]


def upconvolution(
    panels: Mapping[str, Mapping[str, Any]],
    *,
    input_size: tuple[int, int] = (3, 3),
    kernel_size: tuple[int, int] = (3, 3),
    inputs: Sequence[tuple[int, int]] = ((0, 0), (0, 1)),
) -> Figure:
    """Draws the input's grid, the output's below it, and which outputs the chosen inputs touch.

    Inputs have a colour and a letter, outputs the letters of the inputs that reach them; where
    several do, their colours darken each other. What padding cuts off is dashed. All of it is
    read off `ops.upconv`, which is called with one input of 1 at a time.

    Args:
        panels: title of a panel -> options of `ops.upconv` ("stride", "padding",
            "output_padding"); the stride is 1 by default.
        input_size: rows and columns of the input.
        kernel_size: (down, across).
        inputs: the chosen inputs, (row, column) each, six at most.

    Returns:
        a Figure.

    Raises:
        ValueError: no panel, sizes that are not two numbers, no input, more than six, one outside
            of the grid, or what `ops.upconv` refuses. TypeError: an option that it does not have.

    Source: Long et al. 2015 (FCN), section 3.3; Dumoulin & Visin 2016, A guide to convolution
    arithmetic, section 4, draws such grids.
    """
    if not panels:
        raise ValueError("got no panels, expected at least one")
    for name, size in (("input_size", input_size), ("kernel_size", kernel_size)):
        if np.shape(size) != (2,) or min(size) < 1:
            raise ValueError(f"got {name} {size}, expected two numbers of at least 1")
    rows, columns = input_size
    if not 1 <= len(inputs) <= len(_LETTERS):
        raise ValueError(f"got {len(inputs)} inputs, expected 1 to {len(_LETTERS)}")
    for y, x in inputs:
        if not (0 <= y < rows and 0 <= x < columns):
            raise ValueError(f"got input {(y, x)}, expected one of a grid of {rows} x {columns}")
    reaches = [_reach(input_size, kernel_size, inputs, options) for options in panels.values()]

    column = _style.PAGE_INCHES / len(panels)
    titles = wrapped([*panels], column - 0.2)
    about = wrapped([_about(kernel_size, options) for options in panels.values()], column - 0.2)
    high, wide = np.max([reach.touched.shape[1:] for reach in reaches], axis=0)
    cell = min(_CELL_INCHES, (column - 0.3) / max(wide, columns))
    first = 0.1 + _LINE * max(text.count("\n") + 1 for text in titles)
    second = first + _LINE * (max(text.count("\n") + 1 for text in about) + 0.5)
    third = second + _LINE * 1.2 + cell * rows + 0.15
    last = third + _LINE * 1.2 + cell * high + 0.1
    height = last + _LINE * 1.3
    figure = Figure((_style.PAGE_INCHES, height), _style.DPI)

    def write(text: str, x: float, y: float, points: float = _style.TICK_POINTS) -> None:
        figure.text(
            x / _style.PAGE_INCHES, 1 - y / height, text, ha="center", va="top", fontsize=points
        )

    def axes_for(middle: float, top: float, shape: tuple[int, ...]) -> Axes:
        h, w = shape
        left, bottom = middle - w * cell / 2, height - top - h * cell
        across, down = cell / _style.PAGE_INCHES, cell / height
        axes = figure.add_axes((left / _style.PAGE_INCHES, bottom / height, w * across, h * down))
        axes.set_axis_off()
        axes.set(xlim=(0, w), ylim=(h, 0))
        return axes

    most = max(reach.touched.sum(0).max() for reach in reaches)
    plus = "+" if _fit("+".join(_LETTERS[:most]), cell) >= _LEAST_POINTS else ""
    of_inputs = np.zeros((len(inputs), rows, columns), bool)
    of_inputs[(np.arange(len(inputs)), *np.transpose(inputs))] = True
    for i, reach in enumerate(reaches):
        middle = (i + 0.5) * column
        write(titles[i], middle, 0.08, _style.TEXT_POINTS)
        write(about[i], middle, first)
        write(f"input, {rows} x {columns}", middle, second)
        _cells(axes_for(middle, second + _LINE * 1.2, input_size), of_inputs, cell, plus)
        write("output, {} x {}".format(*reach.output), middle, third)
        axes = axes_for(middle, third + _LINE * 1.2, reach.touched.shape[1:])
        _cells(axes, reach.touched, cell, plus, reach)
    cut = any(reach.touched[0].size > np.prod(reach.output) for reach in reaches)
    note = "an output sums what is added by the inputs named in it"
    write(note + "; padding cuts off what is dashed" * cut, _style.PAGE_INCHES / 2, last)
    return figure


def _about(kernel_size: tuple[int, int], options: Mapping[str, Any]) -> str:
    words = [f"{name.replace('_', ' ')} {value}" for name, value in options.items()]
    return ", ".join(["kernel {} x {}".format(*kernel_size), *words])


def _reach(
    size: tuple[int, int],
    kernel_size: tuple[int, int],
    inputs: Sequence[tuple[int, int]],
    options: Mapping[str, Any],
) -> _Reach:
    """Compares what each input alone becomes, with the options and without padding."""
    rows, columns = size
    alone = np.eye(rows * columns, dtype=np.float32).reshape(-1, rows, columns, 1)
    weights = 1 + np.arange(np.prod(kernel_size), dtype=np.float32).reshape(*kernel_size, 1, 1)
    options = {"stride": 1, **options}
    output = np.asarray(ops.upconv(alone, weights, **options))[..., 0]
    whole = np.asarray(ops.upconv(alone, weights, stride=options["stride"], padding="VALID"))
    h, w = output.shape[1:]
    grid = np.pad(whole[..., 0], ((0, 0), (0, h), (0, w)))
    # Distinct weights and all inputs, so that the output is found at one place alone.
    top, left = next(
        (y, x)
        for y, x in np.ndindex(*whole.shape[1:3])
        if np.abs(grid[:, y : y + h, x : x + w] - output).max() < 0.5
    )
    end = max(whole.shape[1], top + h), max(whole.shape[2], left + w)
    chosen = [y * columns + x for y, x in inputs]
    return _Reach(grid[chosen, : end[0], : end[1]] > 0.5, top, left, (h, w))


def _fit(word: str, inches: float) -> float:
    """The size of type with which a word fits into a cell."""
    return 0.8 * _style.TICK_POINTS * inches / _style.text_inches(word, _style.TICK_POINTS)


def _cells(
    axes: Axes, touched: np.ndarray, inches: float, plus: str, reach: _Reach | None = None
) -> None:
    """Draws cells of that size, with the letters of what touches them [inputs, h, w]."""
    colors = np.array([to_rgb(color) for color in _style.COLORS[: len(touched)]])
    for y, x in np.ndindex(touched.shape[1:]):
        by = np.flatnonzero(touched[:, y, x])
        there = reach is None or (
            reach.top <= y < reach.top + reach.output[0]
            and reach.left <= x < reach.left + reach.output[1]
        )
        shade = np.prod(_TINT + (1 - _TINT) * colors[by], axis=0) if by.size else np.array(_IDLE)
        axes.add_patch(
            Rectangle(
                (x, y), 1, 1, clip_on=False, zorder=1 + there,
                facecolor=shade if there else "white",
                edgecolor="0.35" if there else "0.6",
                linestyle="-" if there else (0, (2, 2)),
                linewidth=1 if there else 0.8,
            )
        )  # fmt: skip
        if by.size:
            word = plus.join(_LETTERS[i] for i in by)
            axes.text(
                x + 0.5, y + 0.5, word, ha="center", va="center", zorder=3,
                fontsize=min(_style.TICK_POINTS, _fit(word, inches)),
                color="0.5" if not there else "white" if shade @ BRIGHTNESS < 0.42 else "black",
            )  # fmt: skip
