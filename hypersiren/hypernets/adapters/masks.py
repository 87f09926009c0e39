"""Which points of a raster are known: random ones, sides, all but a block, every few lines.

Symbols: D dimensions, P points of a raster.
"""

import math

import torch
from jaxtyping import Bool
from torch import Tensor

SIDE, BLOCK = 0.6, 0.9
"""Of masks that are not random points: the share that are sides, and with them that know all but a block."""


def draw_mask(
    size: tuple[int, ...], fewest: int, most: int, regular: float, generator: torch.Generator
) -> Bool[Tensor, "*size"]:
    """A mask, True where known.

    Args:
        size: Points along each axis.
        fewest, most: Numbers of random known points, drawn log-uniformly.
        regular: Share of the masks that are not random points: a side is known (from any end of any axis; half of the
            raster in a quarter of them), or all but a block, or every second, third or fourth line.

    Example:
        >>> mask = draw_mask((8, 8), 5, 5, 0.0, torch.Generator().manual_seed(0))
        >>> mask.shape, int(mask.sum())
        (torch.Size([8, 8]), 5)
    """
    u = torch.rand(4, generator=generator).tolist()
    axes = [d for d, points in enumerate(size) if points > 1]
    if u[0] >= regular or not axes:
        mask = torch.zeros(math.prod(size), dtype=torch.bool)
        count = min(most, int(fewest * ((most + 1) / fewest) ** u[1]))
        mask[torch.randperm(len(mask), generator=generator)[:count]] = True
        return mask.view(size)
    axis = axes[int(u[1] * len(axes))]
    length = size[axis]
    if u[2] < SIDE:
        share = 0.5 if u[3] < 0.25 else 0.2 + 0.8 * (u[3] - 0.25)
        count = min(length - 1, max(1, round(share * length)))
        first = torch.arange(length) < count
        return _along(first.flip(0) if torch.rand((), generator=generator) < 0.5 else first, axis, size)
    if u[2] < BLOCK:
        unknown = torch.ones(size, dtype=torch.bool)
        for d, points in enumerate(size):
            share, place = torch.rand(2, generator=generator).tolist()
            count = min(points, max(1, round((0.25 + 0.5 * share) * points)))
            start = int(place * (points - count + 1))
            unknown &= _along((torch.arange(points) >= start) & (torch.arange(points) < start + count), d, size)
        return ~unknown if unknown.sum() < unknown.numel() else _along(torch.arange(length) == 0, axis, size)
    apart = 2 + int(3 * u[3])
    start = int(torch.randint(apart, (), generator=generator))
    lines = torch.arange(length) % apart == start
    return _along(lines if lines.any() else torch.arange(length) == 0, axis, size)


def _along(known: Bool[Tensor, " N"], axis: int, size: tuple[int, ...]) -> Bool[Tensor, "*size"]:
    """A mask that depends on one axis alone."""
    return known.view([-1 if d == axis else 1 for d in range(len(size))]).expand(size).clone()
