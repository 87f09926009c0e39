"""Interpolation of an image between its pixels by Lanczos's and by Keys's kernel: a baseline of fields.

Symbols: H x W pixels, C channels.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

REACH = 3
"""Pixels on each side of a place that a kernel may use."""

TINY = 1e-5
"""Pixels between the places of which derivatives of a kernel are differences, in double precision."""

Interpolation = Literal["Lanczos", "cubic"]


def lanczos(x: float) -> float:
    """Lanczos's kernel with three lobes."""
    if abs(x) < 1e-9:
        return 1.0
    return 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2 if abs(x) < 3 else 0.0


def cubic(x: float) -> float:
    """Keys's cubic kernel with a = -1/2 (Catmull and Rom's)."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


KERNELS: dict[Interpolation, Callable[[float], float]] = {"Lanczos": lanczos, "cubic": cubic}


def taps(kind: Interpolation, at: float, order: int = 0) -> Float[Tensor, " taps"]:
    """The weights of the pixels from -REACH to REACH in the interpolant, or a derivative of it, at a place.

    A derivative that has a jump at the place is the mean of both sides.

    Args:
        kind: The interpolation; its weights sum to 1.
        at: In pixels, from -1/2 to 1/2.
        order: Of the derivative, 0, 1 or 2, by the pixel.

    Example:
        >>> taps("cubic", 0.0, order=1).round(decimals=4).abs().tolist()
        [0.0, 0.0, 0.5, 0.0, 0.5, 0.0, 0.0]
    """
    if order:
        h = TINY / 2 if order == 1 else TINY
        return (taps(kind, at + h, order - 1) - taps(kind, at - h, order - 1)) / (2 * h)
    weights = [KERNELS[kind](at - j) for j in range(-REACH, REACH + 1)]
    return torch.tensor(weights, dtype=torch.float64) / sum(weights)


def along(pixels: Float[Tensor, "H W C"], axis: int, weights: Float[Tensor, " taps"]) -> Float[Tensor, "H W C"]:
    """Weighted sums of each pixel's neighbours along an axis; beyond the border the image is mirrored."""
    n = pixels.shape[axis]
    index = torch.arange(-REACH, n + REACH, device=pixels.device) % (2 * n)
    wide = pixels.index_select(axis, torch.where(index < n, index, 2 * n - 1 - index))
    parts = [w * wide.narrow(axis, j, n) for j, w in enumerate(weights.tolist())]
    return torch.stack(parts).sum(0)


def double(pixels: Float[Tensor, "H W C"], kind: Interpolation) -> Float[Tensor, "2*H 2*W C"]:
    """An image interpolated at twice its size.

    Example:
        >>> double(torch.ones(4, 5, 1), "Lanczos").shape
        torch.Size([8, 10, 1])
    """
    for axis in (0, 1):
        both = [along(pixels, axis, taps(kind, at)) for at in (-0.25, 0.25)]
        pixels = torch.stack(both, axis + 1).flatten(axis, axis + 1)
    return pixels
