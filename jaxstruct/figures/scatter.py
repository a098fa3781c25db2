"""Points in a plane: two-dimensional codes, above all.

What may be added here: other drawings of points.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from jaxstruct.figures import _style


def scatter_panels(
    panels: Mapping[str, Mapping[str, ArrayLike]], *, x_label: str = "", y_label: str = ""
) -> Figure:
    """Draws groups of points in panels side by side, a colour for each group of that name.

    Args:
        panels: title of a panel -> {name of a group: its points [N, 2]}, with axes of its own.
        x_label, y_label: the quantities and their units.

    Returns:
        a Figure.

    Raises:
        ValueError: no panel, a panel without a group, more than ten names, or points that are not
        [N, 2].

    Source: Hinton & Salakhutdinov 2006, figure 3 is such a pair.
    """
    if not panels or not all(panels.values()):
        raise ValueError(f"got panels {[*panels]}, expected at least one, each with points")
    names = list(dict.fromkeys(name for groups in panels.values() for name in groups))
    if len(names) > 10:
        raise ValueError(
            f"got {len(names)} names, expected at most the ten that colours tell apart"
        )
    width = _style.PAGE_INCHES / len(panels)
    figure = Figure((_style.PAGE_INCHES, min(width, 5.0) + 0.6), _style.DPI, layout="constrained")
    handles = {}
    for axes, (title, groups) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, points in groups.items():
            xy = np.asarray(points, np.float64)
            if xy.ndim != 2 or xy.shape[1] != 2:
                raise ValueError(f"got points {xy.shape} of {name!r}, expected [N, 2]")
            color = f"C{names.index(name)}"
            handles[name] = axes.scatter(*xy.T, s=4, color=color, linewidths=0, label=name)
        axes.set_title(title, fontsize=_style.TEXT_POINTS)
        axes.tick_params(labelsize=_style.TICK_POINTS)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(x_label, fontsize=_style.TEXT_POINTS)
    figure.supylabel(y_label, fontsize=_style.TEXT_POINTS)
    if len(names) > 1:
        figure.legend(
            handles=[handles[name] for name in names],
            loc="outside upper center",
            ncols=len(names),
            fontsize=_style.TEXT_POINTS,
            frameon=False,
            markerscale=3,
            handletextpad=0.1,
            columnspacing=1,
        )
    return figure
