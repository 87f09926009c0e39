"""A distance drawn as contours: lines at equal distances, inside and outside in two colours, the surface in black."""

import numpy as np
from jaxtyping import Float

SPACING = 0.05

_INSIDE, _OUTSIDE = np.array([0.35, 0.60, 0.85]), np.array([0.95, 0.75, 0.45])


def draw_contours(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """Values of a distance as colours in [0, 1]; lines `SPACING` apart, thick at zero. NaN counts as outside.

    Example:
        >>> picture = draw_contours(np.linspace(-0.2, 0.2, 99)[None])
        >>> picture.shape, bool(picture[0, 0, 2] > picture[0, 0, 0]), picture[0, 49].tolist()
        ((1, 99, 3), True, [0.0, 0.0, 0.0])
    """
    # Half a pixel in the units of the values: a line is as wide wherever the field is steep or flat.
    steps = np.gradient(np.pad(values, ((0, 1), (0, 1)), mode="edge"))
    slope = np.maximum(np.hypot(*steps)[:-1, :-1], 1e-9)
    away = np.abs(values - SPACING * np.round(values / SPACING)) / slope  # pixels from the nearest line
    colours = np.where((values < 0)[..., None], _INSIDE, _OUTSIDE)
    # Farther from the surface is paler.
    colours = 1 - (1 - colours) * (0.35 + 0.65 * np.exp(-np.abs(values) / 0.3))[..., None]
    colours = colours * (1 - 0.45 * np.clip(1.2 - away, 0, 1))[..., None]
    return np.nan_to_num((colours * np.clip(np.abs(values) / slope - 0.7, 0, 1)[..., None]).clip(0, 1), nan=1.0)
