"""Shapes: predict the signed distance functions of a batch of shapes from some oriented points of each.

Training draws shapes, poses them at random, shows the encoder some points with their normals, and asks of the predicted
fields what the task `sdf` asks of one: the loss is `hypersiren.tasks.shapes.loss.sdf_loss`.

Symbols: B shapes of a batch, N context points, M points off the surface.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from hypersiren.completion.base import Kind, Predict
from hypersiren.completion.shapes.judging import PosedShape, judge, posed_shapes, rows_picture
from hypersiren.completion.shapes.settings import ShapeContext, ShapeLoss, ShapeSettings
from hypersiren.fields.coords import grid
from hypersiren.fields.operators import Field
from hypersiren.hypernets.adapters.base import HeldOut
from hypersiren.hypernets.adapters.pairs import Pairs
from hypersiren.hypernets.context import Context
from hypersiren.shapes.sets.poses import Poses, random_poses
from hypersiren.shapes.sets.settings import ShapeData
from hypersiren.shapes.sets.shapes import CELLS, HALF, ShapeSet, load_shapes
from hypersiren.shapes.sides import signed_distances
from hypersiren.tasks.panels import ImagePanel, Panel
from hypersiren.tasks.shapes.loss import ShapeBatch, sdf_loss
from hypersiren.tasks.shapes.sdf import SURFACE
from hypersiren.tasks.summary import Measure, Rows, panel_rows
from hypersiren.tasks.task import content_digest

LOG = logging.getLogger(__name__)

TOGETHER = 4
"""Shapes of a bank of pairs that are solved at a time: each has a system of its own, of some thousand equations."""


@dataclass(frozen=True)
class ShapesBatch:
    """B shapes: what the encoder sees, and what the fields are asked, with a leading signal axis."""

    context: Context
    shape: ShapeBatch


class Shapes(Kind):
    """The task of a set of shapes.

    Args:
        train: Shapes to learn from.
        validation: Shapes to validate on; at most 8 of them are, each in one pose.
        context: How many points the encoder sees, in training and in validation.
        loss: Weights of the terms.
        batch_size: B.
        target_points: Points of each shape a step: half on the surface, an eighth near it, the others anywhere.
        poses: Arguments of `hypersiren.shapes.sets.poses.random_poses`.
        resolution: Cells along the longest side of the meshes by which fields are judged.

    Example:
        >>> from hypersiren.shapes.sets.shapes import make_shapes
        >>> from hypersiren.shapes.sets.solids import solid_mesh
        >>> made = [solid_mesh(i, resolution=16) for i in range(2)]
        >>> shapes = make_shapes([(name, mesh.vertices, mesh.faces) for name, mesh in made])
        >>> batch = Shapes(shapes, shapes, batch_size=4).sample(torch.Generator().manual_seed(0))
        >>> batch.context.x.shape, batch.shape.on.shape, batch.shape.side.shape
        (torch.Size([4, 300, 3]), torch.Size([4, 128, 3]), torch.Size([4, 128]))
    """

    name = "shapes"
    unit = "shapes"
    train: ShapeSet
    validation: ShapeSet
    criterion: str | None = "chamfer_l1"
    raster = 16, 16, 16

    def __init__(
        self,
        train: ShapeSet,
        validation: ShapeSet,
        context: ShapeContext = ShapeContext(),  # noqa: B008 - frozen
        loss: ShapeLoss = ShapeLoss(),  # noqa: B008 - frozen
        *,
        batch_size: int = 16,
        target_points: int | None = 256,
        poses: Mapping[str, Any] | None = None,
        resolution: int = 48,
    ):
        self.train, self.validation = train, validation
        self.measures = (
            Measure("chamfer_l1", "chamfer-L1 distance, mean over contexts", "% of the diagonal"),
            *SURFACE,
            Measure("watertight", "watertight surfaces", "% of all", "higher", 100),
            *(
                Measure(f"chamfer_l1_{count}", f"chamfer-L1 distance from {count} points", "% of the diagonal")
                for count in context.evaluation
            ),
        )
        self.batch_size, self.fewest, self.most = batch_size, context.fewest, context.most
        self.poses, self.weights, self.resolution = dict(poses or {}), loss, resolution
        self.evaluation = context.evaluation
        points = target_points or 4096
        near = max(1, points // 8)
        self.count = points // 2, points - points // 2 - near, near

    @classmethod
    def load(cls, settings: ShapeSettings, device: torch.device | str = "cpu") -> tuple[ShapeSet, ...]:
        """Training, validation and test shapes, read or made, on the device.

        Raises:
            SignalError: If the folder holds fewer than three closed meshes that can be read.
        """
        data = settings.data
        sets = load_shapes(data.kind, data.root, count=data.count, seed=settings.seed)
        return tuple(shapes.to(device) for shapes in sets)

    @classmethod
    def arguments(cls, settings: ShapeSettings) -> dict[str, Any]:
        return {
            "context": settings.context,
            "loss": settings.loss,
            "batch_size": settings.training.batch_size,
            "target_points": settings.training.target_points,
            "poses": pose_arguments(settings.data),
            "resolution": settings.resolution,
        }

    def describe(self) -> dict[str, int]:
        """What `hypersiren.hypernets.model.build` must know: D, channels of the context, channels of the field."""
        return {"in_features": 3, "channels": 3, "out_features": 1}

    def prior_signals(self, copies: int, finer: int) -> Iterator[Float[Tensor, "M G G G 1"]]:
        """Signed distances of the training shapes in random poses, on a raster of [-1, 1]^3 (see `set_prior`).

        Args:
            copies: Each shape is taken in one pose more than that.
            finer: A tenth of the cells along an axis.
        """
        size, device = (10 * finer,) * 3, self.train.points.device
        x, generator = grid(size), torch.Generator().manual_seed(0)
        points, normals = self.train.points.cpu(), self.train.normals.cpu()
        for copy in range(copies + 1):
            poses = random_poses(len(points), generator, **self.poses)
            distances = _distances(poses.points(points), poses.normals(normals), x)
            yield distances.view(-1, *size, 1).to(device)
            LOG.debug("prior from data: pose %d of %d of each shape", copy + 1, copies + 1)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> ShapesBatch:
        """Draw B shapes, their poses, their context, and the target points; the same law at any progress."""
        shapes, b, device = self.train, self.batch_size, self.train.points.device
        index = torch.randint(len(shapes), (b, 1), generator=generator, device=device)
        poses = random_poses(b, generator, device, **self.poses)

        def draw(count: int, *values: Tensor) -> list[Tensor]:
            rows = torch.randint(shapes.points.shape[1], (b, count), generator=generator, device=device)
            return [value[index, rows] for value in values]

        context = self._context(index, poses, generator)
        on, off, near = self.count
        on_points, on_normals = draw(on, shapes.points, shapes.normals)
        near_points, near_side = draw(near, shapes.near, shapes.side)
        anywhere = 2 * torch.rand(b, off, 3, generator=generator, device=device) - 1
        side = torch.cat([sides(shapes.height[index[:, 0]], poses.back(anywhere)), near_side], dim=-1)
        return ShapesBatch(
            context,
            ShapeBatch(
                poses.points(on_points),
                poses.normals(on_normals),
                anywhere,
                poses.points(near_points),
                side if self.weights.side else None,
            ),
        )

    def _context(self, index: Int[Tensor, "B 1"], poses: Poses, generator: torch.Generator) -> Context:
        """Random points of posed training shapes, as many as are drawn log-uniformly."""
        shapes, device = self.train, self.train.points.device
        rows = torch.randint(shapes.points.shape[1], (len(index), self.most), generator=generator, device=device)
        share = torch.rand(len(index), 1, generator=generator, device=device)
        count = (self.fewest * ((self.most + 1) / self.fewest) ** share).floor().clamp(self.fewest, self.most)
        mask = torch.arange(self.most, device=device) < count
        x, normals = shapes.points[index, rows], shapes.normals[index, rows]
        return Context(poses.points(x), poses.normals(normals), mask, surface=True)

    def pairs(self, generator: torch.Generator, count: int) -> Pairs:
        """`TOGETHER` training shapes in random poses, with contexts and distances on the raster, see
        `hypersiren.completion.correcting`."""
        device = self.train.points.device
        index = torch.randint(len(self.train), (min(count, TOGETHER), 1), generator=generator, device=device)
        poses = random_poses(len(index), generator, device, **self.poses)
        context = self._context(index, poses, generator).compact()
        rows = index[:, 0]
        points, normals = poses.points(self.train.points[rows]), poses.normals(self.train.normals[rows])
        y = _distances(points, normals, grid(self.raster))
        return Pairs(context, y, torch.ones_like(y[:, 0, 0]))

    def held_out(self, most: int = 32) -> Iterator[HeldOut]:
        """Validation shapes, each in one pose, from each number of points, see `HyperSiren.calibrate`."""
        x = grid(self.raster)
        for count in self.evaluation:
            posed = self._posed(count, most)
            context = Context(
                torch.cat([shape.context.x for shape in posed]),
                torch.cat([shape.context.y for shape in posed]),
                torch.cat([shape.context.mask for shape in posed]),
                surface=True,
            )
            truth = [
                _distances(torch.from_numpy(shape.points)[None], torch.from_numpy(shape.normals)[None], x)
                for shape in posed
            ]
            y = torch.cat(truth).to(context.y.device)
            yield context, x.to(y.device), y, torch.ones_like(y[..., 0], dtype=torch.bool)

    def loss(self, field: Field, batch: ShapesBatch) -> dict[str, Tensor]:
        """The terms of the task `sdf`, means over all shapes."""
        return sdf_loss(field, batch.shape, self.weights)

    def digest(self) -> str:
        return content_digest(*(v for s in (self.train, self.validation) for v in (s.points, s.normals)))

    def evaluate(self, predict: Predict) -> dict[str, float]:
        """Errors of predicted surfaces of unseen shapes for each number of context points, and their means."""
        errors = {count: judge(self._posed(count), predict, self.resolution) for count in self.evaluation}
        names = next(iter(errors.values()))
        means = {name: sum(numbers[name] for numbers in errors.values()) / len(errors) for name in names}
        return means | {f"chamfer_l1_{count}": numbers["chamfer_l1"] for count, numbers in errors.items()}

    def _posed(self, context: int, most: int = 8) -> list[PosedShape]:
        return posed_shapes(self.validation, context, most, **self.poses)

    def panels(self, predict: Predict) -> dict[str, Panel]:
        """For each number of context points a row for each of some unseen shapes: context, predicted surface, truth."""
        up = self.poses.get("up", 2)
        return {
            str(count): ImagePanel.of(rows_picture(self._posed(count, 4), predict, self.resolution, up))
            for count in self.evaluation
        }

    def summary(self, predict: Predict) -> Rows:
        """The panels, a row each."""
        rows = panel_rows({f"From {count} points": panel for count, panel in self.panels(predict).items()})
        return [{name: plot} for row in rows for name, plot in row.items()]


def _distances(
    points: Float[Tensor, "B N 3"], normals: Float[Tensor, "B N 3"], x: Float[Tensor, "P 3"]
) -> Float[Tensor, "B P 1"]:
    """Signed distances at x."""
    pairs = zip(points.cpu().numpy(), normals.cpu().numpy(), strict=True)
    found = np.stack([signed_distances(p, n, x.numpy()).astype(np.float32) for p, n in pairs])
    return torch.from_numpy(found).unsqueeze(-1).to(points.device)


def sides(height: Float[Tensor, "B G G G"], x: Float[Tensor, "B M 3"]) -> Float[Tensor, "B M"]:
    """1 outside, -1 inside, 0 within a cell of the surface, where the grid of heights cannot tell."""
    cell = 2 * HALF / CELLS
    # The function's last axis is the first of its coordinates.
    place = (x / HALF).flip(-1)[:, :, None, None]
    side = grid_sample(height.unsqueeze(1), place, align_corners=True, padding_mode="border")[:, 0, :, 0, 0]
    side = torch.where(x.abs().amax(-1) > HALF, torch.ones_like(side), side)
    return (side > cell).to(side.dtype) - (side < -cell).to(side.dtype)


def pose_arguments(data: ShapeData) -> dict[str, Any]:
    """Arguments of `hypersiren.shapes.sets.poses.random_poses`."""
    names = ("rotation", "scale", "stretch", "shift")
    return {**{name: getattr(data, name) for name in names}, "up": "xyz".index(data.up)}
