"""Marching cubes through the given blocks of a grid, slab by slab; see `hypersiren.shapes.level_set.extract`.

Symbols: M leaves or cells, T triangles, P grid points of a plane, E crossed edges in it, V vertices, F faces.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren.shapes.level_set.blocks import Grid, Probe
from hypersiren.shapes.level_set.cubes import CORNERS, EDGE_AXIS, EDGE_CORNER, FACES, triangles

_SLAB_POINTS = 1 << 21  # grid points of a slab

_OFF_CORNER = 1e-4  # vertices keep this share of a cell's side from the grid points: no two of them coincide

# A leaf has 3³ grid points, numbered as 9 x + 3 y + z, and 2³ cells; which points are whose corners:
_LEAF_POINTS = torch.cartesian_prod(*[torch.arange(3)] * 3)

_CELL_CORNERS = ((CORNERS[:, None] + CORNERS) * torch.tensor([9, 3, 1])).sum(-1)


@dataclass
class _Seam:
    """What a slab leaves to the next on the plane that they share.

    Attributes:
        values: Of the plane's grid points, where `known`.
        known: Which of them were asked for.
        names, vertices: The names, sorted, of the crossed edges in the plane, and the vertices on them.
    """

    values: Float[Tensor, " P"]
    known: Bool[Tensor, " P"]
    names: Int[Tensor, " E"]
    vertices: Int[Tensor, " E"]


def march(
    probe: Probe,
    grid: Grid,
    leaves: Int[Tensor, "M 3"] | None,
    region: Bool[Tensor, "I J K"] | None,
    progress: Callable[[float], None] | None,
) -> tuple[Float[Tensor, "V 3"], Int[Tensor, "F 3"]] | None:
    """Vertices and faces of the surface in the given leaves, all of them if None; None if it runs out of them.

    It may run out of the coarse blocks of the region.
    """
    device = grid.step.device
    counts = [-(-n // 2) for n in grid.cells]
    plane = (grid.cells[1] + 1) * (grid.cells[2] + 1)
    layers = max(1, _SLAB_POINTS // (2 * plane))
    nothing = torch.empty(0, dtype=torch.long, device=device)
    seam = _Seam(
        torch.zeros(plane, device=device, dtype=grid.dtype),
        torch.zeros(plane, device=device, dtype=torch.bool),
        nothing,
        nothing,
    )
    vertices, faces, total = [], [], 0
    for first in range(0, counts[0], layers):
        last = min(first + layers, counts[0])
        matters = _matters(region, counts, first, last, device)
        visited = _visited(leaves, matters, first)
        slab = _march_slab(probe, grid, visited, ~matters, first, seam, total)
        if slab is None:
            return None
        vertices.append(slab[0])
        faces.append(slab[1])
        seam = slab[2]
        total += len(slab[0])
        if progress is not None:
            progress(last / counts[0])
    return torch.cat(vertices), torch.cat(faces)


def _matters(
    region: Bool[Tensor, "I J K"] | None, counts: list[int], first: int, last: int, device: torch.device
) -> Bool[Tensor, "X Y Z"]:
    """Which leaves of the layers first..last-1 lie in the region, with a rim of one; beyond the box none does."""
    mask = torch.zeros(last - first + 2, counts[1] + 2, counts[2] + 2, dtype=torch.bool, device=device)
    lower, upper = max(first - 1, 0), min(last + 1, counts[0])
    inside = mask[lower - first + 1 : upper - first + 1, 1:-1, 1:-1]
    if region is None:
        inside[:] = True
    else:
        # The coarse blocks are the leaves' sides times a power of two.
        ratio = 1
        while any(-(-n // ratio) > blocks for n, blocks in zip(counts, region.shape, strict=True)):
            ratio *= 2
        x, y, z = (
            torch.arange(a, b, device=device) // ratio for a, b in ((lower, upper), *((0, n) for n in counts[1:]))
        )
        inside[:] = region[x[:, None, None], y[:, None], z]
    return mask


def _visited(leaves: Int[Tensor, "M 3"] | None, matters: Bool[Tensor, "X Y Z"], first: int) -> Bool[Tensor, "X Y Z"]:
    """Which of the leaves that matter are given, with the same rim; all of them if None."""
    if leaves is None:
        return matters
    mask = torch.zeros_like(matters)
    ends = torch.tensor([first - 1, first - 1 + len(mask)], device=leaves.device)
    start, stop = torch.searchsorted(leaves[:, 0].contiguous(), ends)
    x, y, z = leaves[start:stop].unbind(1)
    mask[x - first + 1, y + 1, z + 1] = True
    return mask & matters


def _march_slab(
    probe: Probe,
    grid: Grid,
    visited: Bool[Tensor, "X Y Z"],
    beyond: Bool[Tensor, "X Y Z"],
    first: int,
    seam: _Seam,
    total: int,
) -> tuple[Tensor, Tensor, _Seam] | None:
    """New vertices, faces, and the next seam, of the leaf layers from `first` on; `total` vertices came before.

    None if the surface runs out of the visited leaves into others than those `beyond`, where it does not matter.

    Grid points of the slab are numbered from its first plane on, x slowest.
    """
    device = grid.step.device
    plane = len(seam.values)
    planes = 2 * (len(visited) - 2) + 1
    last = torch.tensor(grid.cells, device=device)
    origin = torch.tensor([2 * first, 0, 0], device=device)
    strides = torch.tensor([plane, grid.cells[2] + 1, 1], device=device)

    leaf = visited[1:-1, 1:-1, 1:-1].nonzero()
    points = _ravel(torch.minimum(2 * leaf[:, None] + _LEAF_POINTS.to(device), last - origin), strides)  # (M, 27)
    wanted = torch.zeros(planes * plane, dtype=torch.bool, device=device)
    wanted[points] = True
    known = wanted[-plane:].clone()
    wanted[:plane] &= ~seam.known
    asked = wanted.nonzero()[:, 0]
    values = torch.empty(planes * plane, dtype=seam.values.dtype, device=device)
    values[:plane] = seam.values
    values[asked] = probe.values(grid.points(_unravel(asked, strides) + origin)).to(values.dtype)

    cell = 2 * leaf[:, None] + CORNERS.to(device)  # (M, 8, 3)
    inside = (values[points] < 0)[:, _CELL_CORNERS.to(device)]  # (M, 8, 8)
    mixed = inside.any(-1) & ~inside.all(-1) & (cell + origin < last).all(-1)
    cell, inside = cell[mixed], inside[mixed]
    if _runs_out(cell, inside, visited | beyond):
        return None

    owner, edges = triangles(inside)
    start = _ravel(cell[owner, None] + CORNERS.to(device)[EDGE_CORNER.to(device)[edges]], strides)  # (T, 3)
    before = _ravel(origin, strides)
    # The name of a grid edge: the number in the whole grid of the point that it starts from, and its axis.
    names, corners = (3 * (start + before) + EDGE_AXIS.to(device)[edges]).unique(return_inverse=True)
    start, axis = names // 3 - before, names % 3
    old = torch.isin(names, seam.names, assume_unique=True)
    vertex = total + (~old).cumsum(0) - 1
    vertex[old] = seam.vertices[torch.searchsorted(seam.names, names[old])]
    ahead = start >= (planes - 1) * plane
    following = _Seam(values[-plane:].clone(), known, names[ahead], vertex[ahead])

    start, axis = start[~old], axis[~old]
    low, high = values[start], values[start + strides[axis]]
    place = (_unravel(start, strides) + origin).double()
    share = (low / (low - high)).double().clamp(_OFF_CORNER, 1 - _OFF_CORNER)
    place.scatter_add_(1, axis[:, None], share[:, None])
    return grid.points(place), vertex[corners], following


def _runs_out(cell: Int[Tensor, "M 3"], inside: Bool[Tensor, "M 8"], visited: Bool[Tensor, "X Y Z"]) -> bool:
    """Whether the surface crosses a face behind which no cell is visited, or beyond what matters."""
    faces = inside[:, FACES.to(cell.device)]
    crossed = faces.any(-1) & ~faces.all(-1)  # (M, 6)
    step = torch.eye(3, dtype=torch.long, device=cell.device)
    steps = torch.stack([-step, step], 1).flatten(0, 1)  # -x, +x, -y, +y, -z, +z
    x, y, z = ((cell[:, None] + steps).div(2, rounding_mode="floor") + 1).unbind(-1)
    return bool((crossed & ~visited[x, y, z]).any())


def _ravel(place: Int[Tensor, "*b 3"], strides: Int[Tensor, " 3"]) -> Int[Tensor, "*b"]:
    """The number of a grid point. CUDA has no product of matrices of integers."""
    x, y, z = place.unbind(-1)
    return x * strides[0] + y * strides[1] + z * strides[2]


def _unravel(number: Int[Tensor, " N"], strides: Int[Tensor, " 3"]) -> Int[Tensor, "N 3"]:
    x, rest = number // strides[0], number % strides[0]
    return torch.stack([x, rest // strides[1], rest % strides[1]], dim=-1)
