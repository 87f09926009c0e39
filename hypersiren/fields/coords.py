"""Coordinates: regular grids and random points in [-1, 1]^D, and evaluation of a field in chunks.

Coordinate d runs along axis d of the signal's array, so an image has x = (row, column), rows from top to bottom. Grid
points are cell centres: a signal of n samples along an axis has them at -1 + (2 i + 1) / n, for i in 0..n-1. The
domain is then [-1, 1] at every resolution, and grids of different resolutions cover the same picture.

Symbols: N points, D coordinate dimensions, C channels, B signals.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hypersiren.errors import UserError


def grid(
    size: Sequence[int] | int,
    lower: float | Sequence[float] = -1.0,
    upper: float | Sequence[float] = 1.0,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "N D"]:
    """Cell centres of a regular grid over [lower, upper]^D, the last axis varying fastest.

    Args:
        size: Samples along each axis, e.g. (height, width); any resolution.
        lower, upper: The range of every axis, or of each; [-1, 1] is the domain of a signal, wider ranges look beyond.

    Returns:
        (N, D) coordinates with N the product of `size`.

    Raises:
        UserError: If `size` is one number.
        ValueError: If an axis has no sample, or the range is empty.

    Example:
        >>> grid((2, 2)).tolist()
        [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
        >>> grid((1, 4), -2, 2)[:, 1].tolist()
        [-1.5, -0.5, 0.5, 1.5]
    """
    if isinstance(size, int):
        raise UserError(
            f"grid: expected the samples along each axis, such as ({size}, {size}) or ({size},), got {size}"
        )
    if not size or any(n < 1 for n in size):
        raise ValueError(f"expected at least one sample along each axis, got size {tuple(size)}")
    lows, highs = ([end] * len(size) if isinstance(end, int | float) else list(end) for end in (lower, upper))
    if len(lows) != len(size) or len(highs) != len(size) or not all(a < b for a, b in zip(lows, highs, strict=True)):
        raise ValueError(f"expected lower < upper for each of {len(size)} axes, got {lower} and {upper}")
    axes = [
        a + (b - a) * (torch.arange(n, device=device, dtype=dtype or torch.get_default_dtype()) + 0.5) / n
        for n, a, b in zip(size, lows, highs, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def nearest_cell(x: Float[Tensor, "*batch D"], size: Sequence[int]) -> Tensor:
    """The flat index into `grid(size)` of the cell that holds each point; points outside go to the nearest cell.

    Example:
        >>> nearest_cell(torch.tensor([[-0.9, -0.9], [0.1, 0.7], [3.0, -3.0]]), (2, 2)).tolist()
        [0, 3, 2]
    """
    index = torch.zeros(x.shape[:-1], dtype=torch.long, device=x.device)
    for d, n in enumerate(size):
        cell = ((x[..., d] + 1) * (0.5 * n)).floor().long().clamp(0, n - 1)
        index = index * n + cell
    return index


def cell_centers(index: Int[Tensor, " N"], size: Sequence[int]) -> Float[Tensor, "N D"]:
    """Rows of `grid(size)`, without the grid: that of a video has more points than memory holds.

    Example:
        >>> cell_centers(torch.tensor([0, 3]), (2, 2)).tolist()
        [[-0.5, -0.5], [0.5, 0.5]]
    """
    cells = []
    for n in reversed(size):
        cells.append((index % n + 0.5) / n * 2 - 1)
        index = index // n
    return torch.stack(cells[::-1], dim=-1)


def strata(n: int, count: int, generator: torch.Generator, device: torch.device | str) -> Int[Tensor, " count"]:
    """Indices of `count` of n points: one at random from each of `count` equal runs.

    Such a batch covers a signal evenly, and its gradient varies less than that of independent points.

    Example:
        >>> strata(8, 4, torch.Generator().manual_seed(0), "cpu").div(2, rounding_mode="floor").tolist()
        [0, 1, 2, 3]
    """
    # In float64: a float32 cannot count the samples of a minute of sound.
    place = torch.arange(count, device=device, dtype=torch.float64)
    place += torch.rand(count, generator=generator, device=device, dtype=torch.float64)
    return (place * (n / max(count, 1))).long().clamp_max(n - 1)


@torch.no_grad()
def evaluate(
    field: Callable[[Tensor], Tensor], x: Float[Tensor, "*batch N D"], chunk: int | None = None
) -> Float[Tensor, "*out N C"]:
    """Values of a field at many points, `chunk` points at a time, so that memory stays bounded.

    Args:
        field: A function from (N, D) or (B, N, D) coordinates to (N, C) or (B, N, C) values.
        x: Coordinates.
        chunk: Points per call; each of B signals counts by itself. None for 8,192 on a CPU, whose caches then hold the
            values of a layer, and 65,536 elsewhere.

    Returns:
        The same as `field(x)`, without a graph.

    Example:
        >>> evaluate(lambda x: x.sum(-1, keepdim=True), grid((100, 100)), chunk=1000).shape
        torch.Size([10000, 1])
    """
    if chunk is None:
        chunk = 8192 if x.device.type == "cpu" else 65536
    if chunk < 1:
        raise ValueError(f"expected a chunk of at least one point, got {chunk}")
    values = None
    for i, part in enumerate(x.split(chunk, dim=-2)):
        found = field(part)
        if values is None:  # one place for all: kept pieces would lie between what each call frees, and memory grow
            values = found.new_empty(*found.shape[:-2], x.shape[-2], found.shape[-1])
        values[..., i * chunk : i * chunk + part.shape[-2], :] = found
    assert values is not None
    return values
