"""Evaluation of shape completion: unseen shapes from a few points; and completion of a user's points.

Beside the predicted fields stand, for the same context points,

    planes      s(x) = (x - p) . n with p the context point nearest to x and n its normal (Hoppe et al. 1992)
    ellipsoid   the one whose surface has the points' mean and second moments: half axes sqrt(3 lambda)
    mean        the field of the mean latent of the training shapes, of a model with an encoder
    truth       other points of the true surface: the error of the truth, at this count of points

Symbols: N context points.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hypersiren.completion.complete import Output
from hypersiren.completion.shapes.baselines import ellipsoid, mean_field, planes
from hypersiren.completion.shapes.judging import PosedShape, box_around, judge, posed_shapes, rows_picture
from hypersiren.completion.shapes.task import Shapes
from hypersiren.completion.train import SetRun
from hypersiren.errors import UserError
from hypersiren.fields.operators import Field
from hypersiren.fields.siren import BoundSiren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.plotting import figure_pixels, image_grid
from hypersiren.shapes.cloud import PointCloud, read_points
from hypersiren.shapes.files.mesh import write_mesh
from hypersiren.shapes.mesh import Mesh
from hypersiren.shapes.metrics import compare_surfaces
from hypersiren.shapes.picture import render_mesh, splats
from hypersiren.shapes.sets.settings import RADIUS
from hypersiren.shapes.surface import surface
from hypersiren.signals.image.files import write_image
from hypersiren.tasks.shapes.sdf import SDF
from hypersiren.training.fit import fit

LOG = logging.getLogger(__name__)


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
    before: HyperSiren | None = None,
) -> ShapeTable:
    """Judge a model and what stands beside it.

    Args:
        model: Predicts.
        sets: Posed shapes, by the name of their set.
        resolution: Cells along the longest side of the meshes.
        known: Training shapes for the mean latent.
        refine_steps: Show also the prediction refined on the context by this many updates; 0 for not.
        before: The model before its training, for a row of its own.
    """
    methods: dict[str, Callable[[Context], Any]] = {"hypersiren": predictor(model)}
    if before is not None:
        methods["before training"] = predictor(before)
    if refine_steps:
        methods[f"hypersiren, {refine_steps} steps of refinement"] = lambda c: refined(model, c, refine_steps)
    methods |= {"planes": planes, "ellipsoid": ellipsoid}
    if model.encoder is not None:
        average = mean_field(model, known)
        methods["mean"] = lambda _: average
    rows: dict[str, dict[str, dict[str, float]]] = {}
    LOG.info("evaluating %d methods on %d sets of shapes", len(methods), len(sets))
    for name, shapes in sets.items():
        rows[name] = {}
        for number, (method, predict) in enumerate(methods.items(), 1):
            LOG.debug("evaluating %s: %s (%d of %d)", name, method, number, len(methods))
            rows[name][method] = judge(shapes, predict, resolution)
        rows[name]["truth"] = _floor(shapes)
    return ShapeTable(rows, {name: len(shapes) for name, shapes in sets.items()})


def predictor(model: HyperSiren) -> Callable[[Context], BoundSiren]:
    """The fields that a model predicts, without a graph."""

    def predict(context: Context) -> Any:
        with torch.no_grad():
            return model.field(context)

    return predict


def _floor(shapes: list[PosedShape]) -> dict[str, float]:
    rows = []
    for shape in shapes:
        percent = 100 / float(np.linalg.norm(np.ptp(shape.points, axis=0)))
        error = compare_surfaces(*shape.again, shape.points, shape.normals, 1 / percent)
        rows.append((percent * error.chamfer_l1, error.f_score, error.normal_consistency, 1.0))
    names = ("chamfer_l1", "f_score", "normal_consistency", "watertight")
    return dict(zip(names, np.mean(rows, 0).tolist(), strict=True))


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
        context: Number of random points that are known; all if there are no more.
        resolution: Cells along the longest side.
        size: How large the shape shall be for the model, as a multiple of a training shape that is not posed.
        seed: Fixes the choice.
        refine_steps: Updates that fit the field further to the whole cloud.
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
    known = Context(x, y, torch.ones(1, len(chosen), dtype=torch.bool, device=device), surface=True)
    field = refined(model, known, refine_steps, framed) if refine_steps else predictor(model)(known).signal(0)
    box = box_around(torch.from_numpy(framed.points))
    mesh = surface(field, box, resolution, device=device).mesh
    return CompletedShape(mesh.moved(framed.scale, framed.centre), mesh, known)


OPTIONS = ("context", "refine")
"""Options of the command that shapes have a meaning for."""


def table(run: SetRun, task: Shapes, before: HyperSiren | None, *, most: int, refine: int) -> ShapeTable:
    """The table over test shapes, and over as many training shapes in new poses."""
    # Another seed than that of validation, so that no pose has been looked at before.
    seed = run.settings.seed
    sets = {
        f"{name}, {points} points": posed_shapes(shapes, points, min(most, len(task.test)), seed + 1, **task.poses)
        for name, shapes in (("unseen shapes", task.test), ("training shapes in unseen poses", task.train))
        for points in task.evaluation
    }
    averaged = 0 if run.model.encoder is None else len(task.train)  # for the mean latent
    known = posed_shapes(task.train, task.most, averaged, seed, **task.poses)
    return shape_table(run.model, sets, task.resolution, known, refine, before)


def metrics(table: ShapeTable) -> dict[str, Any]:
    """The numbers of a table."""
    return {"errors": table.rows, "shapes": table.shapes}


def draw(run: SetRun, task: Shapes, folder: Path, samples: int | None) -> None:
    """Some shapes from each context."""
    for name, shapes in (("unseen", task.test), ("seen", task.train)):
        for points in task.evaluation:
            shown = posed_shapes(shapes, points, 6, run.settings.seed + 1, **task.poses)
            picture = rows_picture(shown, predictor(run.model), task.resolution, task.poses["up"])
            write_image(folder / f"{name}_{points}.png", picture)


def complete(
    run: SetRun, files: Sequence[Path], *, size: int, seed: int, refine: int, context: int | float | None = None
) -> Iterator[tuple[str, list[Output]]]:
    """A mesh and a picture for each file of points, or each mesh; see `Study.complete`."""
    if isinstance(context, float):
        raise UserError(f"expected --context as a number of points, got a share, {100 * context:g}%")
    model, settings = run.model, run.settings
    low, high = settings.data.scale
    device, up = next(model.parameters()).device, "xyz".index(settings.data.up)
    clouds = [read_points(path, count=20_000, seed=seed) for path in files]
    for path, cloud in zip(files, clouds, strict=True):
        LOG.debug("completing %s", path)
        done = complete_cloud(
            model,
            cloud,
            context=context or settings.context.most,
            resolution=size,
            size=(low * high) ** 0.5,
            seed=seed,
            refine_steps=refine,
            device=device,
        )
        discs = splats(done.context.x[0].cpu().numpy(), done.context.y[0].cpu().numpy())
        pictures = [render_mesh(mesh, (450, 600), up=up) for mesh in (discs, done.unit_mesh)]
        titles = [f"{done.context.x.shape[1]} points, as discs", "result"]
        panel = figure_pixels(image_grid([pictures], column_titles=titles))
        yield (
            path.stem,
            [
                Output("completed.ply", partial(write_mesh, mesh=done.mesh)),
                Output("panel.png", partial(write_image, pixels=panel)),
            ],
        )
