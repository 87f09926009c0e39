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

By default the field is of windows, which are linear in their numbers: they are solved for the distances that the points
tell, and nothing is trained (`hypersiren.tasks.shapes.windows`). With colours, or another loss, one SIREN is trained.

With colours the field has four channels, the distance and red, green and blue in [-1, 1], and a sixth term:

    colour       w mean |c - colour|             on the surface

Symbols: N points on the surface, M off it, K near it.
"""

import logging
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import evaluate, grid, strata
from hypersiren.fields.operators import Field
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep
from hypersiren.plotting import Picture, Plot
from hypersiren.shapes.cloud import PointCloud, as_cloud, open_cloud
from hypersiren.shapes.contours import contour_picture
from hypersiren.shapes.mesh import Mesh, components, is_watertight
from hypersiren.shapes.metrics import eikonal_error, mesh_errors
from hypersiren.shapes.picture import blank, render_mesh, splats
from hypersiren.shapes.sides import SIGMA, facing, space_filling
from hypersiren.shapes.surface import coloured, place_cloud, surface
from hypersiren.signals.files import SignalError
from hypersiren.signals.metrics import psnr
from hypersiren.tasks.panels import ImagePanel, MeshPanel, Panel
from hypersiren.tasks.shapes.loss import ShapeBatch, sdf_loss
from hypersiren.tasks.shapes.settings import SDFLoss, SDFSettings
from hypersiren.tasks.shapes.windows import solve_shape
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import FieldTask, content_digest, share_of

LOG = logging.getLogger(__name__)

POOL = 200_000
"""At most so many points off the surface, and near it, are drawn once, with their sides, for the whole training."""

EDGE = 0.1
"""Space around the points' bounding box in which the field is trained, in the same unit."""

MESHED = 0.05
"""Space around it in which the surface is looked for: less, for the border of what is trained is the least certain."""


SURFACE = (
    Measure("f_score", "F-score", "at 1 % of the diagonal", "higher"),
    Measure("normal_consistency", "normal consistency", better="higher"),
)
"""Numbers of a surface whose words are the same for one shape and for a set."""


class SDF(FieldTask):
    """The task of a signed distance function.

    Args:
        shape: A PointCloud, a file, a pair (points, normals) of arrays, or a mesh with .vertices and .faces, such as
            trimesh's; see `hypersiren.shapes.cloud.as_cloud`. A tenth of the points, at most 50,000, is held out for
            `evaluate`.
        loss: Weights of the terms, and the share of points that is near the surface.
        points: Points a step, half of them on the surface, the others off it; None for all of the cloud and as many.
        resolution: Cells along the longest side of the mesh by which the field is judged.
        trim: Leave out of meshes what lies farther from all points, as a share of the longest side; None for a closed
            surface.
        up: The axis that points upwards in pictures, "x", "y" or "z".
        seed: Of what is held out, of the points off the surface, and of those sampled on a mesh.
        device: Where to train.
        colours: Whether to fit the colours of the points too.

    Raises:
        SignalError: If it is no shape, cannot be read, or has no colours where they are asked for.

    Example:
        >>> from hypersiren import Siren
        >>> task = SDF(open_cloud("knot", count=1000), points=100)
        >>> sorted(task.loss(Siren(3, 1, 8), task.sample(torch.Generator())))
        ['eikonal', 'normal', 'off', 'on', 'side']
    """

    name = "sdf"
    defaults = SDFSettings()
    unit = "points"
    criterion: str | None = None
    in_features = 3
    out_features = 1
    samples: tuple[int, ...] = (256, 256, 256)
    measures = (
        Measure("chamfer_l1", "chamfer-L1 distance to held-out points", "% of the diagonal"),
        Measure("chamfer_rms", "chamfer distance to held-out points, root mean square", "% of the diagonal"),
        *SURFACE,
        Measure("median", "median distance of held-out points", "% of the longest side"),
        Measure("eikonal", "Eikonal error"),
        Measure("watertight", "watertight", "(1: yes)", ""),
        Measure("components", "components", better=""),
        Measure("colour_psnr", "PSNR of the colours of held-out points", "dB", "higher"),
    )

    def __init__(
        self,
        shape: Any,
        loss: SDFLoss = SDFLoss(),  # noqa: B008 - frozen
        *,
        points: int | None = None,
        resolution: int = 96,
        trim: float | None = None,
        up: str = "z",
        seed: int = 0,
        device: torch.device | str = "cpu",
        colours: bool = False,
    ):
        cloud = as_cloud(shape, seed=seed)
        if colours and cloud.colours is None:
            raise SignalError(
                "expected colours, got none: points with r, g and b (.ply, .pcd, tables), or a .ply mesh whose "
                "vertices have red, green and blue"
            )
        self.out_features = 4 if colours else 1
        self.windowed = not colours and loss == SDFLoss()  # what changes the loss wants it to be used
        self.device = torch.device(device)
        self.weights, self.resolution = loss, resolution
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(cloud.points))
        held, kept = np.split(order, [min(len(order) // 10, 50_000)])
        # Along a curve that fills space, so that a stratified draw covers the surface evenly.
        kept = kept[space_filling(cloud.points[kept]).argsort()]
        self.cloud, self.held_points, self.held_normals = cloud, cloud.points[held], cloud.normals[held]
        self.placement = place_cloud(cloud, MESHED, trim, "xyz".index(up))
        self.playback = {"kind": "shape", "shape": asdict(self.placement)}
        surface_points, normals = cloud.points[kept], cloud.normals[kept]
        half = len(kept) if points is None else min(max(1, points // 2), len(kept))
        self.count = half, max(1, round(half * (1 - loss.near))), round(half * loss.near)
        self.batch_size = sum(self.count)
        pool = min(POOL, 20 * len(kept))
        self.points, self.normals = self._tensor(surface_points), self._tensor(normals)
        self.value_count = 4 * len(kept)  # a distance and its gradient
        self.colours, self.held_colours = None, None
        if colours and cloud.colours is not None:
            self.colours = self._tensor(2 * cloud.colours[kept] - 1)
            self.held_colours = self._tensor(cloud.colours[held])
        anywhere, self._free = _off_surface(cloud, surface_points, pool, generator)
        around = surface_points[generator.integers(len(kept), size=pool)]
        around = around + SIGMA * generator.normal(size=(pool, 3))
        self.off, self.near = self._tensor(anywhere), self._tensor(around)

    @cached_property
    def _sides(self) -> tuple[Float[Tensor, " M"], Float[Tensor, " K"]]:
        """Of the points off the surface and near it. A solve has no use for them."""
        points, normals = self.points.cpu().numpy(), self.normals.cpu().numpy()
        off, near = (facing(points, normals, x.cpu().numpy()) for x in (self.off, self.near))
        off[self._free] = 1.0
        return self._tensor(off), self._tensor(near)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

    @classmethod
    def open(cls, settings: SDFSettings, device: torch.device | str = "cpu") -> "SDF":
        """The task of a file of points or of a mesh.

        Args:
            settings: `SDFSettings`.
            device: Where to compute.

        Raises:
            SignalError: If the file cannot be read.
        """
        signal, seed = settings.signal, settings.seed
        reading = signal.model_dump(
            include={"count", "vertices", "sensor", "reach", "columns", "points_kept", "outliers"}
        )
        cloud = open_cloud(signal.path, seed=seed, **reading)
        if cloud.colours is not None and not signal.colours:
            LOG.info("the points have colours: --signal.colours true fits them too")
        shown = signal.model_dump(include={"resolution", "trim", "up", "colours"})
        return cls(cloud, settings.loss, points=settings.training.points, **shown, seed=seed, device=device)

    def windowed_field(self, network: Network, keep: Keep | None = None) -> CompactWindows:
        """The windowed field of the distances that the points tell, see `hypersiren.tasks.shapes.windows`."""
        points, normals = self.points.cpu().numpy(), self.normals.cpu().numpy()
        return solve_shape(points, normals, self.cloud.sensor, network, self.device, keep)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> ShapeBatch:
        """Points on, off and near the surface, evenly over each."""
        on, off, near = (
            strata(len(x), count, generator, self.device)
            for x, count in zip((self.points, self.off, self.near), self.count, strict=True)
        )
        side = None
        if self.weights.side:
            off_side, near_side = self._sides
            side = torch.cat([off_side[off], near_side[near]])
        colours = None if self.colours is None else self.colours[on]
        return ShapeBatch(self.points[on], self.normals[on], self.off[off], self.near[near], side, colours)

    def loss(self, field: Field, batch: ShapeBatch) -> dict[str, Tensor]:
        """The paper's four terms, and those of the side and of the colours if the batch tells them."""
        terms = sdf_loss(field, batch, self.weights)
        if batch.colours is not None:
            terms["colour"] = self.weights.colour * (field(batch.on)[..., 1:] - batch.colours).abs().mean()
        return terms

    def share(self, batch: ShapeBatch, index: int, count: int) -> ShapeBatch:
        """A part of the points of each kind, with their sides."""
        points = super().share(replace(batch, side=None), index, count)
        if batch.side is None:
            return points
        sides = batch.side.split([len(batch.off), len(batch.near)])
        return replace(points, side=torch.cat([share_of(side, index, count) for side in sides]))

    def digest(self) -> str:
        colours = () if self.colours is None else (self.cloud.colours,)
        return content_digest(self.cloud.points, self.cloud.normals, self.cloud.scale, self.cloud.centre, *colours)

    def evaluate(self, field: Field) -> dict[str, float]:
        """The mesh at `resolution` against the points held out, and how nearly the field is a distance.

        Distances are percent of the diagonal of the points' bounding box, a field without a surface being a diagonal
        away; `median` is the median distance of held-out points, in percent of the longest side. The F-score's
        threshold is 1 %. Points sampled at random have distances even on equal surfaces, see
        `hypersiren.shapes.metrics`. The Eikonal error is taken at random points of the box.
        """
        mesh = self.once(field, self.mesh)
        numbers = mesh_errors(mesh, self.held_points, self.held_normals, np.ptp(self.cloud.points, axis=0))
        x = self._tensor(np.asarray(self.off[:20_000].cpu()))
        watertight = {"watertight": float(mesh is not None and is_watertight(mesh))}
        parts = {"components": float(components(mesh)) if mesh is not None else 0.0}
        if self.held_colours is not None and len(self.held_colours):
            found = (evaluate(field, self._tensor(self.held_points))[:, 1:] + 1) / 2
            parts["colour_psnr"] = psnr(found.clamp(0, 1), self.held_colours)
        return {**numbers, "eikonal": eikonal_error(field, x), **watertight, **parts}

    def panels(self, field: Field) -> dict[str, Panel]:
        """The surface as a mesh, and its picture."""
        mesh = self.once(field, self.mesh)
        panels: dict[str, Panel] = {"preview": ImagePanel.of(self.once(field, self.preview))}
        if mesh is not None:
            panels["mesh"] = MeshPanel(mesh.moved(self.cloud.scale, self.cloud.centre))
        return panels

    def summary(self, field: Field) -> Rows:
        """The points as discs beside the surface, and slices through the field's middle."""
        count = f"{len(self.cloud.points):,}"
        solid: dict[str, Plot] = {
            "true_preview": Picture(f"Input: {count} points, as discs", self._discs),
            "preview": Picture(f"Result: surface at {self.resolution} cells per side", self.once(field, self.preview)),
        }
        slices = {f"slice_{axis}": self._slice(field, "xyz".index(axis)) for axis in "xyz"}
        reach = max(each.limits[1] for each in slices.values() if each.limits)
        lines = max(each.lines for each in slices.values() if each.lines)
        return [solid, {name: replace(each, limits=(-reach, reach), lines=lines) for name, each in slices.items()}]

    def preview(self, field: Field) -> Float[np.ndarray, "H W 3"]:
        """The picture of that surface."""
        mesh = self.once(field, self.mesh)
        return blank() if mesh is None else render_mesh(mesh, up=self.placement.up)

    @cached_property
    def _discs(self) -> Float[np.ndarray, "H W 3"]:
        """The picture of the points."""
        colours = None if self.colours is None else self.cloud.colours
        return render_mesh(splats(self.cloud.points, self.cloud.normals, colours=colours), up=self.placement.up)

    def mesh(self, field: Field) -> Mesh | None:
        """The surface at `resolution`, in [-1, 1]^3; None if the field has none."""
        try:
            found = surface(field, self.placement, self.resolution, device=self.device).mesh
            return coloured(found, field, self.device)
        except UserError:
            return None

    def _slice(self, field: Field, axis: int) -> Picture:
        """The field on the plane across an axis through the middle of the points, as contours."""
        lower, upper = np.array(self.placement.lower), np.array(self.placement.upper)
        sides = upper - lower
        size = np.maximum(1, np.ceil(256 * sides / sides.max())).astype(int)
        middle = (lower + upper) / 2
        size[axis], lower[axis], upper[axis] = 1, middle[axis] - 1e-3, middle[axis] + 1e-3
        values = evaluate(
            lambda x: field(x)[..., :1], grid(size.tolist(), lower.tolist(), upper.tolist(), device=self.device)
        )
        image = values.view(*size.tolist()).squeeze(axis).T.flip(0).cpu().numpy()
        across, above = (i for i in range(3) if i != axis)
        title = f"Slice {'xyz'[axis]} = {middle[axis]:.2f}"
        extent = (lower[across], upper[across], lower[above], upper[above])
        return contour_picture(image, title, extent, x_label="xyz"[across], y_label="xyz"[above])


def _off_surface(
    cloud: PointCloud, points: Float[np.ndarray, "N 3"], pool: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "M 3"], slice]:
    """Points in the box, and which of them are known to be free: those on the ways from the sensor."""
    lower, upper = cloud.points.min(0) - EDGE, cloud.points.max(0) + EDGE
    x = generator.uniform(lower, upper, (pool, 3)).astype(np.float32)
    if cloud.sensor is None:
        return x, slice(0)
    ways = points[generator.integers(len(points), size=pool // 2)] - cloud.sensor
    # In a cone the volume grows with the cube of the distance; short of the point by what its normal may be wrong.
    share = generator.random((pool // 2, 1)) ** (1 / 3)
    free = slice(0, None, 2)
    x[free] = cloud.sensor + np.minimum(share, 1 - SIGMA) * ways
    return x, free
