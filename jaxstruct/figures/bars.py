"""Bars: one number of each of several things, side by side.

What may be added here: another drawing of single numbers by name (errors of them, groups).
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxstruct.figures import _style

_BAR_INCHES = 0.34


def bar_panels(panels: Mapping[str, Mapping[str, float | Mapping[str, float]]]) -> Figure:
    """Draws lying bars in panels side by side, each with its number; a name is one row in all.

    Args:
        panels: the quantity of a panel and its unit -> {name: value of at least 0}. A mapping in
            place of a value has parts, {part: value}, which are laid end to end.

    Returns:
        a Figure.

    Raises:
        ValueError: no panel, panels of other names, or a value below 0 or not finite.

    Source: Huang et al. 2017 compare detectors by precision and by time; so do these panels.
    """
    names = [*next(iter(panels.values()), ())]
    if not names:
        raise ValueError("got no bars, expected at least one panel with one")
    for quantity, bars in panels.items():
        if set(bars) != set(names):
            raise ValueError(f"got bars {[*bars]} of {quantity!r}, expected {names}")
    parted = {
        quantity: {name: _parts(bars[name]) for name in names} for quantity, bars in panels.items()
    }
    parts = dict.fromkeys(
        part for bars in parted.values() for of in bars.values() for part in of if part
    )
    colors = dict(zip(parts, _style.COLORS[1:], strict=False)) | {"": _style.COLORS[0]}
    height = _BAR_INCHES * len(names) + 0.8 + 0.3 * bool(parts)
    figure = Figure((_style.PAGE_INCHES, height), _style.DPI, layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    handles: dict[str, Rectangle] = {}
    for axes, (quantity, rows) in zip(grid, parted.items(), strict=True):
        axes.set_title(quantity, fontsize=_style.TEXT_POINTS)
        axes.tick_params(labelsize=_style.TEXT_POINTS, length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xticklabels([])
        for row, of in enumerate(rows.values()):
            start = 0.0
            for part, value in of.items():
                if not 0 <= value < np.inf:
                    raise ValueError(
                        f"got {value} of {names[row]!r}, expected a finite value of at least 0"
                    )
                (bar,) = axes.barh(row, value, left=start, height=0.7, color=colors[part])
                handles.setdefault(part, bar)
                start += value
            axes.annotate(
                f"{start:.3g}", (start, row), (4, 0), textcoords="offset points", va="center",
                fontsize=_style.TICK_POINTS,
            )  # fmt: skip
        axes.set_xlim(0, 1.15 * max(sum(of.values()) for of in rows.values()) or 1)
    grid[0].set_yticks(range(len(names)), names)
    grid[0].invert_yaxis()
    handles.pop("", None)
    if handles:
        figure.legend(
            handles=[*handles.values()],
            labels=[*handles],
            loc="outside lower center",
            ncols=len(handles),
            fontsize=_style.TEXT_POINTS,
            frameon=False,
        )
    return figure


def _parts(value: float | Mapping[str, float]) -> dict[str, float]:
    return dict(value) if isinstance(value, Mapping) else {"": value}
