"""SDF: fit a signed distance function to oriented points, by the Eikonal equation (paper, section 4.2).

The field s is zero on the surface, with the surface's normal n as its gradient, and a distance everywhere:

    on        3000 mean |s|                      on the surface
    normal     100 mean (1 - cos(grad s, n))     on the surface
    off        100 mean exp(-100 |s|)            off the surface: no other zeros
    eikonal     50 mean | |grad s| - 1 |         everywhere

These four leave open on which side of the surface a region far from it lies, and islands of the wrong sign are what
slows the paper's training. The `fast` preset therefore adds a fifth, and points near the surface:

    side         w mean |c| max(0, -sign(c) s)   off and near the surface

where c is the cosine between the normal of the nearest point p and the way x - p: only the sign of s is told, and
nothing where c is in doubt. In a room, the ways from the sensor to the points are known to be free (c = 1).

Symbols: N points on the surface, M off it, K near it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hypersiren.clouds import PointCloud
from hypersiren.contours import draw_contours
from hypersiren.coords import evaluate, grid, strata
from hypersiren.errors import UserError
from hypersiren.example_shapes import open_cloud
from hypersiren.meshes import Mesh, sample
from hypersiren.operators import value_and_gradient
from hypersiren.rendering import blank, render, splats
from hypersiren.shape_metrics import compare_surfaces, components, eikonal_error, is_watertight
from hypersiren.surfaces import place_cloud, surface
from hypersiren.tasks import Field, ImagePanel, MeshPanel, Panel

POOL = 200_000
"""At most so many points off the surface, and near it, are drawn once, with their sides, for the whole training."""

SIGMA = 0.02
"""Standard deviation of a near point's place around its surface point, where the longest side is 1.8 long."""

EDGE = 0.1
"""Space around the points' bounding box in which the field is trained, in the same unit."""

MESHED = 0.05
"""Space around it in which the surface is looked for: less, for the border of what is trained is the least certain."""


@dataclass(frozen=True)
class ShapeBatch:
    """Points of one step.

    Attributes:
        on, normals: Points on the surface and the unit normals there.
        off: Points anywhere in the box.
        near: Points near the surface.
        side: For `off` and then `near`, the cosine c whose sign is that of the distance; None if it is not asked for.
    """

    on: Float[Tensor, "*batch N 3"]
    normals: Float[Tensor, "*batch N 3"]
    off: Float[Tensor, "*batch M 3"]
    near: Float[Tensor, "*batch K 3"]
    side: Float[Tensor, "*batch J"] | None


class SDF:
    """The task of a signed distance function.

    Args:
        cloud: Oriented points; a tenth of them, at most 50,000, is held out for `evaluate`.
        points: Points a step, half of them on the surface, the others off it; None for all of the cloud and as many.
        near: Share of the others that is near the surface.
        on, off, normal, eikonal: Weights of the paper's terms.
        side: Weight of the fifth term; 0 leaves it out.
        resolution: Cells along the longest side of the mesh by which the field is judged.
        trim: Leave out of meshes what lies farther from all points, as a share of the longest side; None for a closed
            surface.
        up: The axis that points upwards in pictures, "x", "y" or "z".
        seed: Of what is held out, and of the points off the surface.
        device: Where to train.

    Example:
        >>> from hypersiren import Siren
        >>> task = SDF(open_cloud("knot", count=1000), points=100)
        >>> sorted(task.loss(Siren(3, 1, 8), task.sample(torch.Generator())))
        ['eikonal', 'normal', 'off', 'on', 'side']
    """

    name = "sdf"
    unit = "points"
    criterion: str | None = None
    in_features = 3
    out_features = 1
    samples: tuple[int, ...] = (256, 256, 256)

    def __init__(
        self,
        cloud: PointCloud,
        *,
        points: int | None = None,
        near: float = 0.25,
        on: float = 3e3,
        off: float = 1e2,
        normal: float = 1e2,
        eikonal: float = 5e1,
        side: float = 1e4,
        resolution: int = 96,
        trim: float | None = None,
        up: str = "z",
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.weights = {"on": on, "off": off, "normal": normal, "eikonal": eikonal}
        self.side, self.resolution = side, resolution
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(cloud.points))
        held, kept = np.split(order, [min(len(order) // 10, 50_000)])
        # Along a curve that fills space, so that a stratified draw covers the surface evenly.
        kept = kept[space_filling(cloud.points[kept]).argsort()]
        self.cloud, self.held_points, self.held_normals = cloud, cloud.points[held], cloud.normals[held]
        self.placement = place_cloud(cloud, MESHED, trim, "xyz".index(up))
        self.playback = {"shape": asdict(self.placement)}
        surface_points, normals = cloud.points[kept], cloud.normals[kept]
        half = len(kept) if points is None else min(max(1, points // 2), len(kept))
        self.count = half, max(1, round(half * (1 - near))), round(half * near)
        self.batch_size = sum(self.count)
        pool = min(POOL, 20 * len(kept))
        self.points, self.normals = self._tensor(surface_points), self._tensor(normals)
        anywhere, anywhere_side = _off_surface(cloud, surface_points, normals, pool, generator)
        around = surface_points[generator.integers(len(kept), size=pool)]
        around = (around + SIGMA * generator.normal(size=(pool, 3))).astype(np.float32)
        self.off, self.off_side = self._tensor(anywhere), self._tensor(anywhere_side)
        self.near, self.near_side = self._tensor(around), self._tensor(facing(surface_points, normals, around))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        count: int = 500_000,
        vertices: bool = False,
        sensor: Sequence[float] | Any = None,
        reach: tuple[float, float] | None = None,
        seed: int = 0,
        **arguments: Any,
    ) -> "SDF":
        """The task of a file of points or of a mesh, see `hypersiren.fit_config`.

        Raises:
            SignalError: If the file cannot be read.
        """
        cloud = open_cloud(path, count=count, seed=seed, vertices=vertices, sensor=sensor, reach=reach)
        return cls(cloud, seed=seed, **arguments)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> ShapeBatch:
        """Points on, off and near the surface, evenly over each."""
        on, off, near = (
            strata(len(x), count, generator, self.device)
            for x, count in zip((self.points, self.off, self.near), self.count, strict=True)
        )
        side = torch.cat([self.off_side[off], self.near_side[near]]) if self.side else None
        return ShapeBatch(self.points[on], self.normals[on], self.off[off], self.near[near], side)

    def loss(self, field: Field, batch: ShapeBatch) -> dict[str, Tensor]:
        """The paper's four terms, and that of the side if the batch tells it."""
        return sdf_loss(field, batch, **self.weights, side=self.side)

    def evaluate(self, field: Field) -> dict[str, float]:
        """The mesh at `resolution` against the points held out, and how nearly the field is a distance.

        Distances are percent of the diagonal of the points' bounding box, a field without a surface being a diagonal
        away; `median` is the median distance of held-out points, in percent of the longest side. The F-score's
        threshold is 1 %. Points sampled at random have distances even on equal surfaces, see
        `hypersiren.shape_metrics`. The Eikonal error is taken at random points of the box.
        """
        mesh = self.mesh(field)
        numbers = mesh_errors(mesh, self.held_points, self.held_normals, np.ptp(self.cloud.points, axis=0))
        x = self._tensor(np.asarray(self.off[:20_000].cpu()))
        watertight = {"watertight": float(mesh is not None and is_watertight(mesh))}
        parts = {"components": float(components(mesh)) if mesh is not None else 0.0}
        return {**numbers, "eikonal": eikonal_error(field, x), **watertight, **parts}

    def panels(self, field: Field) -> dict[str, Panel]:
        """The surface as a mesh and as a picture, the points as a picture, and slices through the field's middle."""
        mesh = self.mesh(field)
        up = self.placement.up
        preview = blank() if mesh is None else render(mesh, up=up)
        panels: dict[str, Panel] = {
            "preview": _picture(preview),
            "true_preview": _picture(render(splats(self.cloud.points, self.cloud.normals), up=up)),
            **{f"slice_{axis}": self._slice(field, "xyz".index(axis)) for axis in "xyz"},
        }
        if mesh is not None:
            panels["mesh"] = MeshPanel(mesh.moved(self.cloud.scale, self.cloud.centre))
        return panels

    def mesh(self, field: Field) -> Mesh | None:
        """The surface at `resolution`, in [-1, 1]^3; None if the field has none."""
        try:
            return surface(field, self.placement, self.resolution, device=self.device).mesh
        except UserError:
            return None

    def _slice(self, field: Field, axis: int) -> ImagePanel:
        """The field on the plane across an axis through the middle of the points, as contours."""
        lower, upper = np.array(self.placement.lower), np.array(self.placement.upper)
        sides = upper - lower
        size = np.maximum(1, np.ceil(256 * sides / sides.max())).astype(int)
        middle = (lower + upper) / 2
        size[axis], lower[axis], upper[axis] = 1, middle[axis] - 1e-3, middle[axis] + 1e-3
        values = evaluate(field, grid(size.tolist(), lower.tolist(), upper.tolist(), device=self.device))
        image = values.view(*size.tolist()).squeeze(axis).T.flip(0)
        return _picture(draw_contours(image.cpu().numpy()))


def sdf_loss(
    field: Field,
    batch: ShapeBatch,
    *,
    on: float = 3e3,
    off: float = 1e2,
    normal: float = 1e2,
    eikonal: float = 5e1,
    side: float = 1e4,
) -> dict[str, Tensor]:
    """The paper's four terms with these weights, and that of the side if the batch tells it, means over all signals.

    Example:
        >>> batch = ShapeBatch(torch.eye(3), torch.eye(3), torch.ones(1, 3), torch.zeros(1, 3), torch.tensor([1.0, -1]))
        >>> terms = sdf_loss(lambda x: x.norm(dim=-1, keepdim=True) - 1, batch)
        >>> terms["on"].item(), terms["normal"].item(), terms["side"].item()
        (0.0, 0.0, 0.0)
    """
    parts = [batch.on, batch.off, batch.near]
    value, gradient = value_and_gradient(field, torch.cat(parts, dim=-2))
    s, slope = value[..., 0], gradient[..., 0, :]
    at, away, around = s.split([part.shape[-2] for part in parts], dim=-1)
    terms = {
        "on": on * at.abs().mean(),
        "off": off * torch.exp(-100 * away.abs()).mean(),
        "normal": normal * (1 - cosine_similarity(slope[..., : at.shape[-1], :], batch.normals, dim=-1)).mean(),
        "eikonal": eikonal * (slope.norm(dim=-1) - 1).abs().mean(),
    }
    if batch.side is not None:
        terms["side"] = side * torch.relu(-batch.side * torch.cat([away, around], dim=-1)).mean()
    return terms


def mesh_errors(
    mesh: Mesh | None,
    held_points: Float[np.ndarray, "N 3"],
    held_normals: Float[np.ndarray, "N 3"],
    sides: Float[np.ndarray, " 3"],
) -> dict[str, float]:
    """How far a mesh is from points of the true surface, whose bounding box has these sides; see `SDF.evaluate`."""
    if mesh is None or not len(mesh.faces):
        return {
            "chamfer_l1": 100.0,
            "chamfer_rms": 100.0,
            "f_score": 0.0,
            "normal_consistency": -1.0,
            "median": 100.0,
        }
    percent = 100 / float(np.linalg.norm(sides))
    points, normals = sample(mesh.vertices, mesh.faces, max(10_000, 2 * len(held_points)))
    error = compare_surfaces(points, normals, held_points, held_normals, 1 / percent)
    return {
        "chamfer_l1": percent * error.chamfer_l1,
        "chamfer_rms": percent * error.chamfer_l2**0.5,
        "f_score": error.f_score,
        "normal_consistency": error.normal_consistency,
        "median": 100 * median_distance(points, held_points) / float(sides.max()),
    }


def _off_surface(
    cloud: PointCloud,
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    pool: int,
    generator: np.random.Generator,
) -> tuple[Float[np.ndarray, "M 3"], Float[np.ndarray, " M"]]:
    """Points in the box with their sides: those at hand of the surface, and on the ways from the sensor free ones."""
    lower, upper = cloud.points.min(0) - EDGE, cloud.points.max(0) + EDGE
    x = generator.uniform(lower, upper, (pool, 3)).astype(np.float32)
    side = facing(points, normals, x)
    if cloud.sensor is None:
        return x, side
    ways = points[generator.integers(len(points), size=pool // 2)] - cloud.sensor
    # In a cone the volume grows with the cube of the distance; short of the point by what its normal may be wrong.
    share = generator.random((pool // 2, 1)) ** (1 / 3)
    x[::2] = cloud.sensor + np.minimum(share, 1 - SIGMA) * ways
    side[::2] = 1.0
    return x, side


def facing(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], x: Float[np.ndarray, "M 3"]
) -> Float[np.ndarray, " M"]:
    """The cosine between the normal of the point nearest to each x and the way there: its sign tells the side of x.

    Example:
        >>> flat, upwards = np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
        >>> facing(flat, upwards, np.array([[0.0, 0.0, 2.0], [0.0, 0.0, -0.1], [5.0, 0.0, 0.0]])).tolist()
        [1.0, -1.0, 0.0]
    """
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(points).query(x, workers=-1)
    return ((x - points[nearest]) * normals[nearest]).sum(1) / np.maximum(distance, 1e-9)


def median_distance(points: Float[np.ndarray, "N 3"], asked: Float[np.ndarray, "M 3"]) -> float:
    """The median over `asked` of the distance to the nearest of `points`."""
    from scipy.spatial import cKDTree

    return float(np.median(cKDTree(points).query(asked, workers=-1)[0]))


def space_filling(points: Float[np.ndarray, "N 3"]) -> np.ndarray:
    """Whole numbers by which near points sort near each other: the bits of x, y and z in turn (Morton 1966).

    Example:
        >>> space_filling(np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]])).argsort().tolist()
        [0, 2, 1]
    """
    cells = ((points + 1) / 2 * 1023).clip(0, 1023).astype(np.int64)
    bits = (cells[:, :, None] >> np.arange(10)) & 1  # (N, 3, 10)
    return (bits << (3 * np.arange(10) + np.arange(3)[::-1, None])).sum((1, 2))


def _picture(pixels: np.ndarray) -> ImagePanel:
    return ImagePanel(torch.from_numpy(np.ascontiguousarray(pixels, np.float32)))
