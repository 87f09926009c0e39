"""Unseen shapes in random poses, and how far predicted surfaces are from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.operators import Field
from hypersiren.fields.siren import BoundSiren
from hypersiren.hypernets.context import Context
from hypersiren.plotting import Pixels, figure_pixels, image_grid
from hypersiren.shapes.mesh import Mesh, is_watertight
from hypersiren.shapes.metrics import mesh_errors
from hypersiren.shapes.picture import blank, render_mesh, splats
from hypersiren.shapes.sets.poses import random_poses
from hypersiren.shapes.sets.shapes import ShapeSet
from hypersiren.shapes.surface import Placement, surface

ROOM = 0.2
"""Space around the context in which a surface is looked for: few points do not reach to where it ends."""


@dataclass(frozen=True)
class PosedShape:
    """One shape to be judged by.

    Attributes:
        name: Of the shape.
        context: Its known points, as a batch of one.
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


def posed_shapes(shapes: ShapeSet, context: int, most: int, seed: int = 0, **poses: Any) -> list[PosedShape]:
    """Shapes to judge by, evenly through the set; drawn on the CPU, so that every device has the same."""
    device = shapes.points.device
    generator = torch.Generator().manual_seed(seed)
    posed: list[PosedShape] = []
    for i in np.linspace(0, len(shapes) - 1, min(most, len(shapes))).round().astype(int).tolist():
        pose = random_poses(1, generator, **poses)
        order = torch.randperm(shapes.points.shape[1], generator=generator)
        x, n = pose.points(shapes.points[i : i + 1].cpu()), pose.normals(shapes.normals[i : i + 1].cpu())
        known, rest = order[:context], order[context:]
        first, second = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        everything = torch.ones(1, len(known), dtype=torch.bool, device=device)
        seen = Context(x[:, known].to(device), n[:, known].to(device), everything, surface=True)
        posed.append(
            PosedShape(
                shapes.names[i],
                seen,
                x[0, first].numpy(),
                n[0, first].numpy(),
                (x[0, second].numpy(), n[0, second].numpy()),
                box_around(x[0, known]),
            )
        )
    return posed


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

    `predict` gives a field of one signal, or of a batch of one. See `hypersiren.tasks.shapes.sdf.SDF.evaluate`.
    """
    rows = []
    for shape in shapes:
        mesh = predicted_mesh(one_field(predict, shape.context), shape.placement, resolution, shape.context.x.device)
        rows.append(shape_errors(mesh, shape))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def shape_errors(mesh: Mesh | None, shape: PosedShape) -> dict[str, float]:
    """How far a mesh is from a shape."""
    errors = mesh_errors(mesh, shape.points, shape.normals, np.ptp(shape.points, axis=0))
    kept = {name: errors[name] for name in ("chamfer_l1", "f_score", "normal_consistency")}
    return {**kept, "watertight": float(mesh is not None and is_watertight(mesh))}


def rows_picture(
    shapes: list[PosedShape],
    predict: Callable[[Context], Any],
    resolution: int,
    up: int,
    size: tuple[int, int] = (150, 200),
) -> Pixels:
    """A row for each shape: its context, the predicted surface, and points of the true one, with titles."""
    rows = []
    for shape in shapes:
        context = shape.context
        mesh = predicted_mesh(one_field(predict, context), shape.placement, resolution, context.x.device)
        seen = splats(context.x[0].cpu().numpy(), context.y[0].cpu().numpy())
        shown = [seen, mesh, splats(shape.points, shape.normals)]
        rows.append([blank(size) if m is None else render_mesh(m, size, up=up) for m in shown])
    columns = ["context, as discs", "result", "truth, as discs"]
    return figure_pixels(image_grid(rows, [shape.name for shape in shapes], columns))


@torch.no_grad()
def one_field(predict: Callable[[Context], Any], context: Context) -> Field:
    field = predict(context)
    return field.signal(0) if isinstance(field, BoundSiren) else field
