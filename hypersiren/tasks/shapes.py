"""Shapes: predict the signed distance functions of a batch of shapes from some oriented points of each.

Training draws shapes, poses them at random, shows the encoder some points with their normals, and asks of the predicted
fields what the task `sdf` asks of one: the loss is `hypersiren.tasks.sdf.sdf_loss`.

Symbols: B shapes of a batch, N context points, M points off the surface.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from hypersiren.encoders import Context
from hypersiren.errors import UserError
from hypersiren.meshes import Mesh
from hypersiren.operators import Field
from hypersiren.poses import random_poses
from hypersiren.rendering import blank, render, splats
from hypersiren.shape_metrics import is_watertight
from hypersiren.shape_sets import CELLS, HALF, ShapeSet
from hypersiren.siren import BoundSiren
from hypersiren.surfaces import Placement, surface
from hypersiren.tasks import ImagePanel, Panel
from hypersiren.tasks.sdf import ShapeBatch, mesh_errors, sdf_loss

ROOM = 0.2
"""Space around the context in which a surface is looked for: few points do not reach to where it ends."""

Predict = Callable[[Context], BoundSiren]


@dataclass(frozen=True)
class ShapesBatch:
    """B shapes: what the encoder sees, and what the fields are asked, with a leading signal axis."""

    context: Context
    shape: ShapeBatch


@dataclass(frozen=True)
class PosedShape:
    """One shape to be judged by.

    Attributes:
        name: Of the shape.
        context: What is known of it, as a batch of one.
        points, normals: On its surface, apart from those of the context.
        again: Other points and normals of the same surface: how near these are to the first is the best to be had.
        placement: The box in which the surface is looked for, known from the context alone.
    """

    name: str
    context: Context
    points: Float[np.ndarray, "K 3"]
    normals: Float[np.ndarray, "K 3"]
    again: tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, "K 3"]]
    placement: Placement


class Shapes:
    """The task of a set of shapes.

    Args:
        train: Shapes to learn from.
        validation: Shapes to validate on; at most 8 of them are, each in one pose.
        batch_size: B.
        fewest, most: Range of the number of context points, log-uniform.
        evaluation: Numbers of context points in validation.
        target_points: Points of each shape a step: half on the surface, an eighth near it, the others anywhere.
        poses: Arguments of `hypersiren.poses.random_poses`.
        weights: Weights of `hypersiren.tasks.sdf.sdf_loss`; its own defaults otherwise.
        resolution: Cells along the longest side of the meshes by which fields are judged.

    Example:
        >>> from hypersiren.shape_sets import make_shapes
        >>> from hypersiren.solids import solid_mesh
        >>> made = [solid_mesh(i, resolution=16) for i in range(2)]
        >>> shapes = make_shapes([(name, mesh.vertices, mesh.faces) for name, mesh in made])
        >>> batch = Shapes(shapes, shapes, batch_size=4).sample(torch.Generator().manual_seed(0))
        >>> batch.context.x.shape, batch.shape.on.shape, batch.shape.side.shape
        (torch.Size([4, 500, 3]), torch.Size([4, 256, 3]), torch.Size([4, 256]))
    """

    name = "shapes"
    unit = "shapes"
    criterion: str | None = "chamfer_l1"

    def __init__(
        self,
        train: ShapeSet,
        validation: ShapeSet,
        *,
        batch_size: int,
        fewest: int = 20,
        most: int = 500,
        evaluation: Sequence[int] = (30, 300),
        target_points: int | None = 512,
        poses: Mapping[str, Any] | None = None,
        weights: Mapping[str, float] | None = None,
        resolution: int = 48,
    ):
        self.train, self.validation = train, validation
        self.batch_size, self.fewest, self.most = batch_size, fewest, most
        self.poses, self.weights, self.resolution = dict(poses or {}), dict(weights or {}), resolution
        self.evaluation = tuple(evaluation)
        points = target_points or 4096
        near = max(1, points // 8)
        self.count = points // 2, points - points // 2 - near, near

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> ShapesBatch:
        """Draw B shapes, their poses, their context, and what is asked; the same law at any progress."""
        shapes, b, device = self.train, self.batch_size, self.train.points.device
        index = torch.randint(len(shapes), (b, 1), generator=generator, device=device)
        poses = random_poses(b, generator, device, **self.poses)

        def draw(count: int, *values: Tensor) -> list[Tensor]:
            rows = torch.randint(shapes.points.shape[1], (b, count), generator=generator, device=device)
            return [value[index, rows] for value in values]

        x, normals = draw(self.most, shapes.points, shapes.normals)
        share = torch.rand(b, 1, generator=generator, device=device)
        count = (self.fewest * ((self.most + 1) / self.fewest) ** share).floor().clamp(self.fewest, self.most)
        mask = torch.arange(self.most, device=device) < count
        context = Context(poses.points(x), poses.normals(normals), mask)

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
                side if self.weights.get("side", 1) else None,
            ),
        )

    def loss(self, field: Field, batch: ShapesBatch) -> dict[str, Tensor]:
        """The terms of the task `sdf`, means over all shapes."""
        return sdf_loss(field, batch.shape, **self.weights)

    def evaluate(self, predict: Predict) -> dict[str, float]:
        """Errors of predicted surfaces of unseen shapes for each number of context points, and their means."""
        found = {count: judge(self._posed(count), predict, self.resolution) for count in self.evaluation}
        names = next(iter(found.values()))
        means = {name: sum(numbers[name] for numbers in found.values()) / len(found) for name in names}
        return means | {f"chamfer_l1_{count}": numbers["chamfer_l1"] for count, numbers in found.items()}

    def _posed(self, context: int, most: int = 8) -> list[PosedShape]:
        return posed_shapes(self.validation, context, most, **self.poses)

    def panels(self, predict: Predict) -> dict[str, Panel]:
        """For each number of context points a row for each of some unseen shapes: context, predicted surface, truth."""
        up = self.poses.get("up", 2)
        return {
            str(count): ImagePanel(torch.from_numpy(rows_picture(self._posed(count, 4), predict, self.resolution, up)))
            for count in self.evaluation
        }


def sides(height: Float[Tensor, "B G G G"], x: Float[Tensor, "B M 3"]) -> Float[Tensor, "B M"]:
    """1 outside, -1 inside, 0 within a cell of the surface, where the grid of heights cannot tell."""
    cell = 2 * HALF / CELLS
    # The function's last axis is the first of its coordinates.
    place = (x / HALF).flip(-1)[:, :, None, None]
    found = grid_sample(height.unsqueeze(1), place, align_corners=True, padding_mode="border")[:, 0, :, 0, 0]
    found = torch.where(x.abs().amax(-1) > HALF, torch.ones_like(found), found)
    return (found > cell).to(found.dtype) - (found < -cell).to(found.dtype)


def posed_shapes(shapes: ShapeSet, context: int, most: int, seed: int = 0, **poses: Any) -> list[PosedShape]:
    """Shapes to judge by, evenly through the set; drawn on the CPU, so that every device has the same."""
    device = shapes.points.device
    generator = torch.Generator().manual_seed(seed)
    found: list[PosedShape] = []
    for i in np.linspace(0, len(shapes) - 1, min(most, len(shapes))).round().astype(int).tolist():
        pose = random_poses(1, generator, **poses)
        order = torch.randperm(shapes.points.shape[1], generator=generator)
        x, n = pose.points(shapes.points[i : i + 1].cpu()), pose.normals(shapes.normals[i : i + 1].cpu())
        known, rest = order[:context], order[context:]
        first, second = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        seen = Context(x[:, known], n[:, known], torch.ones(1, len(known), dtype=torch.bool))
        found.append(
            PosedShape(
                shapes.names[i],
                Context(seen.x.to(device), seen.y.to(device), seen.mask.to(device)),
                x[0, first].numpy(),
                n[0, first].numpy(),
                (x[0, second].numpy(), n[0, second].numpy()),
                box_around(seen.x[0]),
            )
        )
    return found


def box_around(points: Float[Tensor, "N 3"]) -> Placement:
    """The box around points of a shape, with some space."""
    low, high = points.amin(0) - ROOM, points.amax(0) + ROOM
    return Placement(1.0, [0.0, 0.0, 0.0], low.tolist(), high.tolist())


def predicted_mesh(field: Field, placement: Placement, resolution: int, device: torch.device) -> Mesh | None:
    """The surface of a field, or None if it has none in the box."""
    try:
        return surface(field, placement, resolution, device=device).mesh
    except UserError:
        return None


def judge(shapes: list[PosedShape], predict: Callable[[Context], Any], resolution: int) -> dict[str, float]:
    """Means over shapes: chamfer L1 in percent of the diagonal, F-score at 1 %, normal consistency, watertight share.

    `predict` gives a field of one signal, or of a batch of one. See `hypersiren.tasks.sdf.SDF.evaluate`.
    """
    rows = []
    for shape in shapes:
        mesh = predicted_mesh(_one(predict, shape.context), shape.placement, resolution, shape.context.x.device)
        rows.append(errors(mesh, shape))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def errors(mesh: Mesh | None, shape: PosedShape) -> dict[str, float]:
    """How far a mesh is from a shape."""
    found = mesh_errors(mesh, shape.points, shape.normals, np.ptp(shape.points, axis=0))
    kept = {name: found[name] for name in ("chamfer_l1", "f_score", "normal_consistency")}
    return {**kept, "watertight": float(mesh is not None and is_watertight(mesh))}


def rows_picture(
    shapes: list[PosedShape],
    predict: Callable[[Context], Any],
    resolution: int,
    up: int,
    size: tuple[int, int] = (150, 200),
) -> Float[np.ndarray, "H W 3"]:
    """A row for each shape: its context, the predicted surface, and points of the true one."""
    rows = []
    for shape in shapes:
        context = shape.context
        mesh = predicted_mesh(_one(predict, context), shape.placement, resolution, context.x.device)
        seen = splats(context.x[0].cpu().numpy(), context.y[0].cpu().numpy())
        shown = [seen, mesh, splats(shape.points, shape.normals)]
        rows.append(np.concatenate([blank(size) if m is None else render(m, size, up=up) for m in shown], 1))
    return np.concatenate(rows).astype(np.float32)


@torch.no_grad()
def _one(predict: Callable[[Context], Any], context: Context) -> Field:
    field = predict(context)
    return field.signal(0) if isinstance(field, BoundSiren) else field
