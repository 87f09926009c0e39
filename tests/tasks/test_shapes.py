"""The task of a set of shapes: its loss is the task `sdf`'s, its batches are seeded, and training lowers it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hypersiren.completion.objective import HypernetObjective
from hypersiren.completion.shapes.baselines import ellipsoid, planes
from hypersiren.completion.shapes.judging import judge, posed_shapes
from hypersiren.completion.shapes.settings import ShapeContext
from hypersiren.completion.shapes.study import complete_cloud, predictor, shape_table
from hypersiren.completion.shapes.task import Shapes
from hypersiren.completion.train import start_at_prior
from hypersiren.fields import operators
from hypersiren.fields.coords import grid
from hypersiren.hypernets.model import build
from hypersiren.hypernets.settings import Prior
from hypersiren.shapes.cloud import PointCloud
from hypersiren.shapes.sets.shapes import load_shapes
from hypersiren.tasks.settings import Optimisation
from hypersiren.tasks.shapes.loss import ShapeBatch, sdf_loss
from hypersiren.tasks.shapes.sdf import SDF
from hypersiren.tasks.task import Task
from hypersiren.training.loop import optimise

MODEL = {
    "siren": {"hidden_features": 16, "hidden_layers": 1, "first_omega": 5.0, "hidden_omega": 5.0},
    "encoder": {"kind": "set", "hidden_features": 16, "latent_features": 16},
    "hypernet": {"kind": "full", "layers": 1, "hidden_layers": 0},
    "channels": 3,
    "in_features": 3,
    "out_features": 1,
}
POSES = {"rotation": "full", "scale": (0.8, 1.0), "stretch": 1.2, "shift": 0.05}


@pytest.fixture(scope="module")
def sets():
    return load_shapes("solids", count=7)


@pytest.fixture(scope="module")
def task(sets):
    return Shapes(
        sets[0],
        sets[1],
        ShapeContext(most=50, evaluation=(20,)),
        batch_size=6,
        target_points=64,
        poses=POSES,
        resolution=16,
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(**MODEL)


def test_a_batch_of_predicted_weights_equals_a_loop_through_the_task_sdf(task, sets, model):
    assert isinstance(task, Task)
    batch = task.sample(torch.Generator().manual_seed(0))
    field = model.field(batch.context)
    together = task.loss(field, batch)
    cloud = PointCloud(sets[0].points[0].numpy(), sets[0].normals[0].numpy(), 1.0, np.zeros(3))
    sdf = SDF(cloud, points=10)
    shape = batch.shape
    apart = [
        sdf.loss(
            field.signal(i),
            ShapeBatch(shape.on[i], shape.normals[i], shape.off[i], shape.near[i], shape.side[i]),
        )
        for i in range(6)
    ]
    assert together.keys() == apart[0].keys()
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([terms[name] for terms in apart]).mean(), rtol=1e-4, atol=1e-6)


def test_the_true_field_of_a_ball_has_no_loss():
    x = torch.nn.functional.normalize(torch.randn(2, 20, 3), dim=-1)
    away = torch.randn(2, 30, 3) * 3
    batch = ShapeBatch(x / 2, x, away, x * 0.4, torch.cat([away.norm(dim=-1) - 0.5, -torch.ones(2, 20)], -1))
    terms = sdf_loss(lambda p: p.norm(dim=-1, keepdim=True) - 0.5, batch)
    assert all(abs(terms[name]) < 1e-2 for name in ("on", "normal", "eikonal", "side"))


def test_context_and_targets_are_of_one_posed_surface(task):
    batch = task.sample(torch.Generator().manual_seed(3))
    assert batch.context.x.abs().max() <= 1
    counts = batch.context.mask.sum(1)
    assert counts.min() >= 20
    assert counts.max() <= 50
    # The plane of the nearest context point is near the surface's points, and tells the sides of those away from it.
    for i in range(6):
        one = type(batch.context)(
            *(value[i : i + 1] for value in (batch.context.x, batch.context.y, batch.context.mask))
        )
        assert planes(one)(batch.shape.on[i]).abs().median() < 0.08
        side, off = batch.shape.side[i, : batch.shape.off.shape[1]], planes(one)(batch.shape.off[i])[:, 0]
        told = (side != 0) & (off.abs() > 0.1)
        assert (side[told].sign() == off[told].sign()).float().mean() > 0.8
    torch.testing.assert_close(batch.shape.normals.norm(dim=-1), torch.ones(6, 32))


def test_the_same_seed_gives_the_same_batch(task):
    a, b, c = (task.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    for part in ("x", "y", "mask"):
        assert torch.equal(getattr(a.context, part), getattr(b.context, part))
    for part in ("on", "normals", "off", "near", "side"):
        assert torch.equal(getattr(a.shape, part), getattr(b.shape, part))
    assert not torch.equal(a.context.x, c.context.x)


def test_a_short_training_lowers_the_loss(task, model, tmp_path):
    batch = task.sample(torch.Generator().manual_seed(99))
    objective = HypernetObjective(model, task)
    before = sum(objective(batch).values()).item()
    training = Optimisation(steps=20, lr=3e-3, decay="constant", clip=1.0)
    assert optimise(objective, tmp_path, {"settings": {}, "model": MODEL}, training)
    after = sum(objective(batch).values()).item()
    assert math.isfinite(before)
    assert after < 0.8 * before
    assert (tmp_path / "best.pt").exists()


def test_the_prior_from_data_completes_unseen_shapes_better_than_planes(sets):
    train = load_shapes("solids", count=24)[0]
    task = Shapes(train, sets[1], poses=POSES | {"rotation": "vertical"})
    torch.manual_seed(0)
    siren = {"hidden_features": (64, 256), "first_omega": 15.0, "hidden_omega": 12.0}
    solve = {"kind": "solve", "noise": 3e-6, "slope": 0.0, "double": True}
    model = build(siren, {"kind": "none"}, {}, channels=3, in_features=3, out_features=1, adapter=solve)
    start_at_prior(model, task, Prior(copies=2))
    shapes = posed_shapes(sets[2], 40, 1, **task.poses)
    ours, theirs = judge(shapes, predictor(model), 24), judge(shapes, planes, 24)
    assert ours["chamfer_l1"] < 0.7 * theirs["chamfer_l1"]
    assert ours["normal_consistency"] > theirs["normal_consistency"] + 0.05


def test_the_signals_of_the_prior_are_signed_distances(task, sets):
    signals = torch.cat(list(task.prior_signals(copies=1, finer=1)))
    assert signals.shape == (2 * len(sets[0]), 10, 10, 10, 1)
    x = grid((10,) * 3)
    assert (signals[:, 0, 0, 0] > 0.3).all()  # a corner of the box is outside
    # No two places differ by more than their distance, but for the points that stand for the surface.
    step = (signals.flatten(1)[:, 1:] - signals.flatten(1)[:, :-1]).abs()
    assert (step <= (x[1:] - x[:-1]).norm(dim=-1) + 0.05).all()


def test_a_correction_of_shapes_is_trained_on_pairs_and_calibrated_on_distances(sets):
    task = Shapes(*sets[:2], ShapeContext(fewest=10, most=40, evaluation=(20,)), batch_size=8, poses=POSES)
    torch.manual_seed(0)
    correction = {"axes": 24, "inputs": 12, "width": 16, "masks": 20, "rounds": 1}
    solve = {"kind": "solve", "noise": 3e-6, "slope": 0.0, "double": True, "learned": False, "correction": correction}
    model = build({"hidden_features": (16, 64)}, {"kind": "none"}, {}, 3, in_features=3, out_features=1, adapter=solve)
    start_at_prior(model, task, Prior(copies=0, finer=1))
    pairs = task.pairs(torch.Generator().manual_seed(0), 4)
    assert pairs.y.shape == (4, 16**3, 1)
    middle = pairs.y.unflatten(1, task.raster)[..., 0]
    cells = ((pairs.context.x + 1) * 8).long().clamp(0, 15)
    near = middle[torch.arange(4)[:, None], cells[..., 0], cells[..., 1], cells[..., 2]]
    assert near[pairs.context.mask].abs().max() < 3**0.5 / 16 + 0.05  # known points lie on the surface
    objective = HypernetObjective(model, task)
    objective.begin()
    assert objective(objective.sample(torch.Generator().manual_seed(0), 0.0))["mse"] > 0
    model.eval()
    objective.calibrate(model)
    assert model.adapter.correction.amplitudes.tolist() == [0.0] * 16  # untrained, there is nothing to gain
    assert model.adapter.spread.any()


def test_evaluation_knows_a_good_field_from_a_bad_one(task, sets, model):
    shapes = posed_shapes(sets[0], 300, 3, **POSES)
    good, rough = judge(shapes, planes, 24), judge(shapes, ellipsoid, 24)
    none = judge(shapes, lambda _: lambda x: x[:, :1] * 0 + 1, 24)
    assert good["chamfer_l1"] < rough["chamfer_l1"] < none["chamfer_l1"] == 100
    assert good["normal_consistency"] > rough["normal_consistency"] > none["normal_consistency"]
    assert set(task.evaluate(model.field)) == {*good, "chamfer_l1_20"}
    picture = task.panels(model.field)["20"].pixels
    assert 0 <= picture.min() <= picture.max() <= 1
    assert picture.shape[1] > 600  # three pictures, and the names of the shapes beside them
    table = shape_table(model, {"some": shapes}, 16, shapes, refine_steps=2)
    names = ["hypersiren", "hypersiren, 2 steps of refinement", "planes", "ellipsoid", "mean", "truth"]
    assert list(table.rows["some"]) == names
    assert "some (3 shapes)" in str(table)


def test_judged_contexts_are_apart_from_what_judges(sets):
    (shape,) = posed_shapes(sets[1], 100, 1)
    known = {tuple(row) for row in shape.context.x[0].tolist()}
    assert not known & {tuple(row) for row in shape.points.tolist()}
    assert len(shape.points) + len(shape.again[0]) + 100 == sets[1].points.shape[1]


def test_a_completed_cloud_returns_to_its_units(sets, model, monkeypatch):
    points, normals = sets[0].points[0].numpy(), sets[0].normals[0].numpy()
    cloud = PointCloud(points, normals, 40.0, np.array([100.0, 0.0, 0.0]))

    # Stands for what a model predicts: the planes of the context.
    monkeypatch.setattr(model, "field", lambda context: SimpleNamespace(signal=lambda _: planes(context)))
    completed = complete_cloud(model, cloud, context=2000, resolution=32, size=0.9)
    true = cloud.to_input(points)
    assert np.abs(completed.mesh.vertices.min(0) - true.min(0)).max() < 2
    assert np.abs(completed.mesh.vertices.max(0) - true.max(0)).max() < 2
    assert completed.context.x.shape == (1, 2000, 3)


def test_one_signal_of_many(model, task):
    context = task.sample(torch.Generator().manual_seed(0)).context
    field = model.field(context)
    x = torch.rand(5, 3)
    torch.testing.assert_close(field.signal(2)(x), field(x)[2])
    torch.testing.assert_close(operators.gradient(field.signal(2), x), operators.gradient(field, x)[2])
