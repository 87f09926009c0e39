"""A signed distance as a picture: colours, lines at equal distances, and the surface as a thick line."""

import numpy as np
from jaxtyping import Float

from hypersiren.plotting import Picture

SPACING = 0.05
"""Between lines; doubled until there are at most `MOST_LINES`."""

MOST_LINES = 40


def contour_picture(
    values: Float[np.ndarray, "H W"],
    title: str,
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0),
    *,
    x_label: str = "x",
    y_label: str = "y",
) -> Picture:
    """A signed distance: inside (below 0) is blue, outside red, the surface black. What is no number is white.

    Args:
        values: Row 0 is at the top.
        title: Above the picture.
        extent: Where the edges of the array are: left, right, bottom, top. Its unit is that of the distance.
        x_label, y_label: Names of the axes.

    Example:
        >>> x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(1, -1, 64))
        >>> picture = contour_picture(np.hypot(x, y) - 0.5, "A circle")
        >>> picture.unit, picture.lines
        ('signed distance', 0.05)
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    reach = max(-low, high) or 1.0
    spacing = SPACING * 2 ** max(0, int(np.ceil(np.log2((high - low + 1e-9) / (SPACING * MOST_LINES)))))
    return Picture(title, values, "signed distance", (-reach, reach), "RdBu_r", extent, x_label, y_label, lines=spacing)
