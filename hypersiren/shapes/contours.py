"""A signed distance drawn on axes: colours, lines at equal distances, and the surface as a thick line."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from hypersiren.plotting import heatmap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPACING = 0.05
"""Between lines; doubled until there are at most `MOST_LINES`."""

MOST_LINES = 40


def draw_contours(
    values: Float[np.ndarray, "H W"],
    title: str,
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0),
    *,
    x_label: str = "x",
    y_label: str = "y",
) -> "Figure":
    """A signed distance: inside (below 0) is blue, outside red, the surface black. What is no number is white.

    Args:
        values: Row 0 is at the top.
        title: Above the picture.
        extent: Where the edges of the array are: left, right, bottom, top. Its unit is that of the distance.
        x_label, y_label: Names of the axes.

    Example:
        >>> x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(1, -1, 64))
        >>> figure = draw_contours(np.hypot(x, y) - 0.5, "A circle")
        >>> [text.get_text() for text in figure.legends[0].texts]
        ['surface (distance 0)', 'lines 0.05 apart']
    """
    from matplotlib.lines import Line2D

    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    reach = max(-low, high) or 1.0
    spacing = SPACING * 2 ** max(0, int(np.ceil(np.log2((high - low + 1e-9) / (SPACING * MOST_LINES)))))
    sides = extent[3] - extent[2], extent[1] - extent[0]
    height, width = (round(380 * side / max(sides)) for side in sides)
    figure = heatmap(
        {title: values}, unit="signed distance", limits=(-reach, reach), extent=extent, colors="RdBu_r",
        x_label=x_label, y_label=y_label, size=(max(height, 150) + 110, width + 140),
    )  # fmt: skip
    axes, bar = figure.axes
    levels = spacing * np.arange(np.ceil(low / spacing), np.floor(high / spacing) + 1)
    if len(levels) and min(values.shape) > 1:
        widths = np.where(np.isclose(levels, 0), 2.0, 0.5)
        axes.contour(
            values, levels, origin="upper", extent=extent, colors="black", linewidths=widths, linestyles="solid"
        )
    bar.axhline(0, color="black", linewidth=2)
    thick, thin = (Line2D([], [], color="black", linewidth=w) for w in (2.0, 0.5))
    names = ["surface (distance 0)", f"lines {spacing:g} apart"]
    figure.legend([thick, thin], names, loc="outside lower center", ncols=2, frameon=False)
    return figure
