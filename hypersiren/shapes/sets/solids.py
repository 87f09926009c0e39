"""Closed shapes that need no file: solids given by a function that is negative inside, and their surfaces.

Six kinds with random proportions: superellipsoids, rings, dumbbells, stars, tables and mugs. None of the functions need
be a distance; the surface is what `hypersiren.shapes.level_set.extract` finds.

Symbols: N points.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.shapes.level_set.extract import extract
from hypersiren.shapes.mesh import Mesh

Solid = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N 1"]]


def solid_mesh(index: int, seed: int = 0, resolution: int = 40) -> tuple[str, Mesh]:
    """The name and the surface of the solid of that number; kinds take turns, a seed gives other proportions.

    Example:
        >>> name, mesh = solid_mesh(1, resolution=16)
        >>> name, mesh.vertices.shape[1]
        ('ring-001', 3)
    """
    kinds = list(KINDS)
    kind = kinds[index % len(kinds)]
    solid = KINDS[kind](np.random.default_rng((seed, index)))
    return f"{kind}-{index:03}", extract(solid, resolution, (-1.2,) * 3, (1.2,) * 3).mesh


def _superellipsoid(generator: np.random.Generator) -> Solid:
    radii = torch.tensor(generator.uniform(0.4, 1.0, 3), dtype=torch.float32)
    power = float(generator.uniform(1.6, 5.0))
    # The small number keeps the gradient finite on the axes.
    return lambda x: ((x / radii).abs() + 1e-6).pow(power).sum(-1, keepdim=True).pow(1 / power) - 1


def _ring(generator: np.random.Generator) -> Solid:
    big, radius = generator.uniform([0.5, 0.15], [0.75, 0.35])
    return lambda x: _torus(x, big, radius)


def _dumbbell(generator: np.random.Generator) -> Solid:
    first, second, bar = generator.uniform([0.25, 0.25, 0.1], [0.45, 0.45, 0.2])
    return lambda x: _union(
        _capsule(x, (-0.6, 0, 0), (-0.6, 0, 0), first),
        _capsule(x, (0.6, 0, 0), (0.6, 0, 0), second),
        _capsule(x, (-0.6, 0, 0), (0.6, 0, 0), bar),
    )


def _star(generator: np.random.Generator) -> Solid:
    arms, radius = int(generator.integers(3, 6)), generator.uniform(0.15, 0.25)
    turns = 2 * np.pi * np.arange(arms) / arms
    lengths, lift = generator.uniform(0.5, 0.9, arms), generator.uniform(-0.4, 0.4, arms)
    ends = np.stack([lengths * np.cos(turns), lengths * np.sin(turns), lift], 1)
    return lambda x: _union(*(_capsule(x, (0, 0, 0), end, radius) for end in ends))


def _table(generator: np.random.Generator) -> Solid:
    length, width, thick, leg = generator.uniform([0.6, 0.4, 0.08, 0.09], [0.9, 0.8, 0.14, 0.14])
    high = generator.uniform(0.3, 0.7)
    corners = [(sx * (length - leg), sy * (width - leg)) for sx in (-1, 1) for sy in (-1, 1)]
    return lambda x: _union(
        _box(x, (0, 0, high), (length, width, thick)),
        *(_capsule(x, (u, v, -0.7), (u, v, high), leg) for u, v in corners),
        smooth=0.02,
    )


def _mug(generator: np.random.Generator) -> Solid:
    radius, half, handle = generator.uniform([0.35, 0.35, 0.25], [0.5, 0.6, 0.4])
    wall, place = generator.uniform(0.1, 0.14), torch.tensor([radius, 0.0, 0.0])

    def solid(x: Tensor) -> Tensor:
        outside, inside = _cylinder(x, radius, half), _cylinder(x - torch.tensor([0, 0, 0.2]), radius - wall, half)
        ring = _torus((x - place.to(x))[:, [0, 2, 1]], handle, 0.09)
        return torch.maximum(_union(outside, ring, smooth=0.02), -inside)

    return solid


KINDS: dict[str, Callable[[np.random.Generator], Solid]] = {
    "superellipsoid": _superellipsoid,
    "ring": _ring,
    "dumbbell": _dumbbell,
    "star": _star,
    "table": _table,
    "mug": _mug,
}


def _torus(x: Tensor, big: float, radius: float) -> Tensor:
    return torch.hypot(x[:, :2].norm(dim=-1, keepdim=True) - big, x[:, 2:]) - radius


def _capsule(x: Tensor, start: object, end: object, radius: float) -> Tensor:
    """The distance to a ball that is dragged along a line."""
    a, b = (torch.as_tensor(np.asarray(p, np.float32)) for p in (start, end))
    t = ((x - a) @ (b - a) / (b - a).square().sum().clamp(min=1e-12)).clamp(0, 1)
    return (x - a - t.unsqueeze(-1) * (b - a)).norm(dim=-1, keepdim=True) - radius


def _box(x: Tensor, centre: tuple[float, ...], half: tuple[float, ...]) -> Tensor:
    gap = (x - torch.tensor(centre)).abs() - torch.tensor(half)
    return gap.clamp(min=0).norm(dim=-1, keepdim=True) + gap.amax(-1, keepdim=True).clamp(max=0)


def _cylinder(x: Tensor, radius: float, half: float) -> Tensor:
    return torch.maximum(x[:, :2].norm(dim=-1, keepdim=True) - radius, x[:, 2:].abs() - half)


def _union(*parts: Tensor, smooth: float = 0.05) -> Tensor:
    """The union of solids, their seams rounded."""
    return -smooth * torch.logsumexp(torch.stack([-part / smooth for part in parts]), 0)
