"""Lines over a measured quantity: learning curves, above all.

What may be added here: other drawings of y over x (precision over recall, points with errors).
"""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from jaxstruct.figures import _style

Lines = Mapping[str, tuple[ArrayLike, ArrayLike]]

_PANELS_A_ROW = 5


def curves(
    lines: Lines,
    *,
    x_label: str,
    y_label: str,
    title: str | None = None,
    dashed: Mapping[str, str] | None = None,
    log_x: bool = False,
    y_limits: tuple[float, float] | None = None,
) -> Figure:
    """Draws lines into one panel, with their names above it.

    Args:
        lines: name -> (x, y), vectors of equal length; NaN leaves a hole, a lone point is a dot.
        x_label: the quantity of x and its unit.
        y_label: the quantity of y and its unit.
        title: above the panel.
        dashed: {a line: the line it accompanies}, such as {"train": "test"}; it is drawn dashed
            and lighter, in the other's colour.
        log_x: x on a logarithmic axis.
        y_limits: the lowest and highest y shown; None shows all.

    Returns:
        a Figure.

    Raises:
        ValueError: no line, x and y that are not vectors of equal length, or a name in `dashed`
            that no line has.

    Source: Kingma & Welling 2014, figure 2 is made of such panels.
    """
    return curve_panels(
        {title or "": lines},
        x_label=x_label,
        y_label=y_label,
        dashed=dashed,
        log_x=log_x,
        y_limits=y_limits,
    )


def curve_panels(
    panels: Mapping[str, Lines],
    *,
    x_label: str,
    y_label: str,
    dashed: Mapping[str, str] | None = None,
    log_x: bool = False,
    y_limits: tuple[float, float] | None = None,
    share_y: bool = True,
) -> Figure:
    """Draws panels of lines in rows of at most five; one name is one colour in all of them.

    Args:
        panels: title of a panel -> its lines, as for `curves`.
        x_label: the quantity of x and its unit, in all panels.
        y_label: the quantity of y and its unit, in all panels.
        dashed: {a line: the line it accompanies}, as for `curves`.
        log_x: x on a logarithmic axis.
        y_limits: the lowest and highest y shown; None shows all.
        share_y: one y axis for all panels.

    Returns:
        a Figure.

    Raises:
        ValueError: no panel or no line, x and y that are not vectors of equal length, or a name
            in `dashed` that no line has.

    Source: Kingma & Welling 2014, figure 2.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    dashed = dashed or {}
    if not names:
        raise ValueError("got no lines, expected at least one")
    if unknown := sorted({*dashed.keys(), *dashed.values()} - set(names)):
        raise ValueError(f"got dashed lines {unknown}, expected some of {names}")

    rows = -(-len(panels) // _PANELS_A_ROW)
    columns = -(-len(panels) // rows)
    panel_width = _style.PAGE_INCHES / columns
    panel_height = min(3.6, max(2.2, 0.7 * panel_width))
    figure = Figure(
        (_style.PAGE_INCHES, rows * panel_height + 0.8), _style.DPI, layout="constrained"
    )
    grid = figure.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False).ravel()
    colors = _colors([name for name in names if name not in dashed])
    handles = {}
    decades = _decades(panels) if log_x else 0.0
    for axes, (panel, lines) in zip(grid, panels.items(), strict=False):
        _dress(axes, panel, log_x, decades, narrow=columns > 3)
        for name, (x, y) in lines.items():
            accompanies = dashed.get(name)
            handles[name] = axes.plot(
                *_points(name, x, y),
                color=colors[accompanies or name],
                linestyle="--" if accompanies else "-",
                alpha=0.6 if accompanies else 1.0,
                linewidth=1.5,
                marker="o" if np.size(x) == 1 else "",
                label=name,
            )[0]
        if y_limits is not None:
            axes.set_ylim(*y_limits)
    for spare in range(len(panels), rows * columns):
        grid[spare].remove()
        grid[spare - columns].tick_params(labelbottom=True)
    figure.supxlabel(x_label, fontsize=_style.TEXT_POINTS)
    figure.supylabel(y_label, fontsize=_style.TEXT_POINTS)
    if len(names) > 1:
        figure.legend(
            handles=[handles[name] for name in names],
            loc="outside upper center",
            ncols=_legend_columns(names),
            fontsize=_style.TEXT_POINTS,
            frameon=False,
        )
    return figure


def _points(name: str, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise ValueError(f"got x {xs.shape} and y {ys.shape} of {name!r}, expected equal vectors")
    return xs, ys


def _colors(names: list[str]) -> dict[str, str | tuple[float, ...]]:
    """One colour a name; where the palette is too short, dark to light in the order of names."""
    if len(names) <= len(_style.COLORS):
        return dict(zip(names, _style.COLORS, strict=False))
    ramp = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(names)))
    return {name: tuple(color) for name, color in zip(names, ramp, strict=True)}


def _legend_columns(names: list[str]) -> int:
    """As many columns as fit on the page, at about a thirteenth of an inch per letter."""
    inches = 0.6 + max(map(len, names)) / 13
    return max(1, min(len(names), int(_style.PAGE_INCHES / inches)))


def _decades(panels: Mapping[str, Lines]) -> float:
    """How many powers of ten the x above 0 are apart."""
    x = np.concatenate([np.ravel(x) for lines in panels.values() for x, _ in lines.values()])
    above = x[x > 0]
    return float(np.log10(above.max() / above.min())) if above.size else 0.0


def _dress(axes: Axes, title: str, log_x: bool, decades: float, narrow: bool) -> None:
    axes.set_title(title, fontsize=_style.TICK_POINTS if narrow else _style.TEXT_POINTS)
    axes.tick_params(labelsize=_style.TICK_POINTS)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if log_x:
        axes.set_xscale("log")
        if decades < 2:  # of which the powers of ten are one or two
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
            axes.xaxis.set_major_formatter(lambda value, _: _short(value))
        else:
            axes.xaxis.set_major_locator(LogLocator(numticks=4 if narrow else 7))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3 if narrow else 7))
        axes.xaxis.set_major_formatter(lambda value, _: _short(value))


def _short(value: float) -> str:
    """1500 as 1.5k and 2e6 as 2M, in place of a power of ten at the end of the axis."""
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{sign}"
    return f"{value:g}"
