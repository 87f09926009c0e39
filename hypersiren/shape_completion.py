"""What a hypernetwork over shapes is worth: unseen shapes from a few points, beside what needs no learning.

Beside the predicted fields stand, for the same context points,

    planes      s(x) = (x - p) . n with p the context point nearest to x and n its normal (Hoppe et al. 1992)
    ellipsoid   the one whose surface has the points' mean and second moments: half axes sqrt(3 lambda)
    mean        the field of the mean latent of the training shapes
    truth       other points of the true surface: what an error of zero looks like with so many points

Symbols: N context points.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypersiren.clouds import PointCloud
from hypersiren.encoders import Context
from hypersiren.fitting import fit
from hypersiren.meshes import Mesh
from hypersiren.models import HyperSiren
from hypersiren.operators import Field
from hypersiren.shape_config import RADIUS
from hypersiren.shape_metrics import compare_surfaces
from hypersiren.surfaces import surface
from hypersiren.tasks.sdf import SDF
from hypersiren.tasks.shapes import PosedShape, Predict, box_around, judge


def planes(context: Context) -> Field:
    """The signed distance to the plane of the nearest context point, of one shape.

    Example:
        >>> one = Context(torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool))
        >>> planes(one)(torch.tensor([[5.0, 5.0, -2.0]])).tolist()
        [[-2.0]]
    """
    points, normals = (values[0][context.mask[0]] for values in (context.x, context.y))

    def field(x: Tensor) -> Tensor:
        nearest = torch.cdist(x.detach(), points).argmin(-1)
        return ((x - points[nearest]) * normals[nearest]).sum(-1, keepdim=True)

    return field


def ellipsoid(context: Context) -> Field:
    """The ellipsoid whose surface spreads as the context points of one shape do; the values are no distances."""
    points = context.x[0][context.mask[0]]
    centre = points.mean(0)
    variances, axes = torch.linalg.eigh((points - centre).mT @ (points - centre) / len(points))
    half = (3 * variances.clamp(min=1e-6)).sqrt()
    return lambda x: half.min() * ((((x - centre) @ axes) / half).norm(dim=-1, keepdim=True) - 1)


@torch.no_grad()
def mean_field(model: HyperSiren, shapes: list[PosedShape]) -> Field:
    """The field of the mean latent of some shapes."""
    z = torch.stack([model.encode(shape.context)[0] for shape in shapes]).mean(0, keepdim=True)
    return model.siren.bind(model.decode(z)).signal(0)


@torch.enable_grad()
def refined(model: HyperSiren, context: Context, steps: int, cloud: PointCloud | None = None) -> Field:
    """The predicted field of one shape, fitted further by the task `sdf`.

    Args:
        model: Predicts.
        context: What the prediction is made from.
        steps: Updates; 200 is a good number.
        cloud: Points to fit to, in the frame of the context; None for those of the context.
    """
    device = context.x.device
    if cloud is None:
        points, normals = (v[0][context.mask[0]].cpu().numpy() for v in (context.x, context.y))
        cloud = PointCloud(points, normals, 1.0, np.zeros(3))
    with torch.no_grad():
        params = model.params(context)
    field = copy.deepcopy(model.siren).requires_grad_(True)
    task = SDF(cloud, points=2048, resolution=1, device=device)
    return fit(task, field, init=params, steps=steps, lr=1e-4, warmup=0, validate_every=steps, log_every=steps).field


@dataclass(frozen=True)
class ShapeTable:
    """Errors by set of shapes, by method: see `hypersiren.tasks.shapes.judge`."""

    rows: Mapping[str, Mapping[str, Mapping[str, float]]]
    shapes: Mapping[str, int]

    def __str__(self) -> str:
        lines = []
        for name, methods in self.rows.items():
            lines += [f"{name} ({self.shapes[name]} shapes)".ljust(58) + "chamfer L1 %   F 1 %  normals  watertight"]
            lines += [
                f"  {method:56}{e['chamfer_l1']:12.2f}{e['f_score']:8.3f}{e['normal_consistency']:9.3f}"
                f"{100 * e['watertight']:10.0f} %"
                for method, e in methods.items()
            ]
        return "\n".join(lines)


def shape_table(
    model: HyperSiren,
    sets: Mapping[str, list[PosedShape]],
    resolution: int,
    known: list[PosedShape],
    refine_steps: int = 0,
) -> ShapeTable:
    """Judge a model and what stands beside it.

    Args:
        model: Predicts.
        sets: Posed shapes, by the name of their set.
        resolution: Cells along the longest side of the meshes.
        known: Training shapes for the mean latent.
        refine_steps: Show also the prediction refined so many steps on the context; 0 for not.
    """
    average = mean_field(model, known)
    methods: dict[str, Callable[[Context], Any]] = {"hypersiren": predictor(model)}
    if refine_steps:
        methods[f"hypersiren, {refine_steps} steps of refinement"] = lambda c: refined(model, c, refine_steps)
    methods |= {"planes": planes, "ellipsoid": ellipsoid, "mean": lambda _: average}
    rows = {}
    for name, shapes in sets.items():
        rows[name] = {method: judge(shapes, predict, resolution) for method, predict in methods.items()}
        rows[name]["truth"] = _floor(shapes)
    return ShapeTable(rows, {name: len(shapes) for name, shapes in sets.items()})


def predictor(model: HyperSiren) -> Predict:
    """The fields that a model predicts, without a graph."""

    def predict(context: Context) -> Any:
        with torch.no_grad():
            return model.field(context)

    return predict


def _floor(shapes: list[PosedShape]) -> dict[str, float]:
    found = []
    for shape in shapes:
        percent = 100 / float(np.linalg.norm(np.ptp(shape.points, axis=0)))
        error = compare_surfaces(*shape.again, shape.points, shape.normals, 1 / percent)
        found.append((percent * error.chamfer_l1, error.f_score, error.normal_consistency, 1.0))
    names = ("chamfer_l1", "f_score", "normal_consistency", "watertight")
    return dict(zip(names, np.mean(found, 0).tolist(), strict=True))


@dataclass(frozen=True)
class CompletedShape:
    """A predicted surface in the units of its points, and in the model's frame what it was predicted from."""

    mesh: Mesh
    unit_mesh: Mesh
    context: Context


def complete_cloud(
    model: HyperSiren,
    cloud: PointCloud,
    *,
    context: int,
    resolution: int,
    size: float = 1.0,
    seed: int = 0,
    refine_steps: int = 0,
    device: torch.device | str = "cpu",
) -> CompletedShape:
    """The surface that a model predicts from some points of a cloud.

    Args:
        model: Predicts; the upward axis of the cloud must be that of its training.
        cloud: Oriented points.
        context: So many random ones of them are shown; all if there are no more.
        resolution: Cells along the longest side.
        size: How large the shape shall be for the model, as a multiple of a training shape that is not posed.
        seed: Fixes the choice.
        refine_steps: Fit the field so many steps further to the whole cloud.
        device: Where the model is.

    Raises:
        UserError: If the predicted field has no surface.
    """
    middle = (cloud.points.min(0) + cloud.points.max(0)) / 2
    factor = float(np.linalg.norm(cloud.points - middle, axis=1).max()) / (RADIUS * size)
    framed = replace(
        cloud,
        points=((cloud.points - middle) / factor).astype(np.float32),
        scale=cloud.scale * factor,
        centre=cloud.to_input(middle[None])[0],
    )
    chosen = np.random.default_rng(seed).permutation(len(framed.points))[:context]
    x, y = (torch.from_numpy(values[chosen])[None].to(device) for values in (framed.points, framed.normals))
    known = Context(x, y, torch.ones(1, len(chosen), dtype=torch.bool, device=device))
    field = refined(model, known, refine_steps, framed) if refine_steps else predictor(model)(known).signal(0)
    box = box_around(torch.from_numpy(framed.points))
    mesh = surface(field, box, resolution, device=device).mesh
    return CompletedShape(mesh.moved(framed.scale, framed.centre), mesh, known)
