"""Which blocks of a grid can hold the surface where a field has a given value; see `shapes.level_set.extract`.

Symbols: n cells along the longest side of the box, N points, M blocks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.coords import evaluate
from hypersiren.fields.operators import Field, gradient
from hypersiren.shapes.level_set.cubes import CORNERS

_LEAF = 2  # cells along the side of the smallest blocks, as `level_slabs` has it

_COARSE = 64  # blocks along the longest side in the first test


@dataclass(frozen=True)
class Grid:
    """Grid points at lower + step * index, index 0 to `cells` along each axis."""

    cells: tuple[int, int, int]
    lower: Tensor
    step: Tensor
    dtype: torch.dtype

    def points(self, index: Tensor) -> Float[Tensor, "N 3"]:
        return (self.lower + self.step * index).to(self.dtype)

    def radius(self, side: int) -> float:
        """Half the diagonal of a block of side³ cells."""
        return 0.5 * side * self.step.norm().item()


class Probe:
    """A field less the level; counts the points it is asked for, and refuses values that are not finite."""

    def __init__(self, field: Field, level: float, chunk: int):
        self.field, self.level, self.chunk, self.count = field, level, chunk, 0
        self.lowest, self.highest = float("inf"), float("-inf")

    def values(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        if not len(x):
            return x.new_empty(0)
        y = evaluate(self.field, x, self.chunk)
        if y.shape != (len(x), 1):
            raise ValueError(f"expected a field with values ({len(x)}, 1), got {tuple(y.shape)}")
        if not y.isfinite().all():
            raise UserError("expected a field with finite values, got NaN or infinity")
        self.count += len(x)
        values = y[:, 0] - self.level
        self.lowest, self.highest = min(self.lowest, values.min().item()), max(self.highest, values.max().item())
        return values

    def gradients(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Zero where there is none, as at the centre of a ball's distance."""
        return evaluate(lambda part: gradient(self.field, part)[..., 0, :], x, self.chunk).nan_to_num()


def make_grid(
    resolution: int,
    lower: Sequence[float] | np.ndarray,
    upper: Sequence[float] | np.ndarray,
    device: torch.device | str | None,
    dtype: torch.dtype,
) -> Grid:
    """The grid of a box with `resolution` cells along its longest side; see `extract`."""
    corners = torch.tensor([list(lower), list(upper)], dtype=torch.float64, device=device)
    sides = corners[1] - corners[0]
    if not (sides.isfinite().all() and (sides > 0).all()):
        raise ValueError(f"expected a box with lower < upper along each axis, got {tuple(lower)} to {tuple(upper)}")
    if resolution < 1:
        raise ValueError(f"expected a resolution of at least 1, got {resolution}")
    cells = (resolution * sides / sides.max()).round().clamp(min=1)
    x, y, z = (int(n) for n in cells)
    return Grid((x, y, z), corners[0], sides / cells, dtype)


def coarse_blocks(grid: Grid) -> tuple[int, Int[Tensor, "X Y Z 3"]]:
    """Cells along the side of the blocks of the first test, and where in the grid of blocks each lies."""
    side = _LEAF
    while side * _COARSE < max(grid.cells):
        side *= 2
    counts = [torch.arange(-(-n // side), device=grid.step.device) for n in grid.cells]
    return side, torch.stack(torch.meshgrid(*counts, indexing="ij"), dim=-1)


def leaves_of(
    probe: Probe, grid: Grid, factor: float, region: Bool[Tensor, "X Y Z"] | None = None
) -> Int[Tensor, "M 3"] | None:
    """The smallest blocks that can hold the surface, sorted by x; None for all, where the test would save little.

    Args:
        probe: The field.
        grid: Where it is asked.
        factor: How much steeper than measured the field may be between block centres; infinite for all blocks.
        region: Which of the coarse blocks matter; None for all.
    """
    if factor == math.inf:
        return None
    side, blocks = coarse_blocks(grid)
    counts, index = blocks.shape[:3], blocks.flatten(0, 2)
    value, slope = _at_centres(probe, grid, index, side)
    around = torch.stack([slope, value, -value]).view(3, *counts)
    steepest, highest, lowest = torch.nn.functional.max_pool3d(around, 3, stride=1, padding=1).flatten(1)
    bound = factor * steepest
    near = (value.abs() <= bound * grid.radius(side)) | ((highest >= 0) & (lowest > 0))
    if region is not None:
        near &= region.flatten()
    if near.float().mean() > 0.5:
        return None
    while True:
        index, bound = index[near], bound[near]
        if side == _LEAF:
            return index[index[:, 0].argsort()]
        side //= 2
        index = (2 * index[:, None] + CORNERS.to(index.device)).flatten(0, 1)
        bound = bound.repeat_interleave(8)
        in_box = (index * side < index.new_tensor(grid.cells)).all(1)
        index, bound = index[in_box], bound[in_box]
        value, slope = _at_centres(probe, grid, index, side)
        bound = torch.maximum(bound, factor * slope)
        near = value.abs() <= bound * grid.radius(side)


def _at_centres(
    probe: Probe, grid: Grid, index: Int[Tensor, "M 3"], side: int
) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """Value and norm of the gradient at the centres of blocks."""
    x = grid.points((index + 0.5) * side)
    return probe.values(x), probe.gradients(x).norm(dim=-1)
