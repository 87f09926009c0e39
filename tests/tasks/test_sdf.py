"""The task of signed distance functions: its terms on known distances, its numbers, and the commands around it."""

import numpy as np
import pytest
import torch
import trimesh

from hypersiren import HyperSiren, Siren
from hypersiren.cli.main import main
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.encoders.set_encoder import SetEncoder
from hypersiren.hypernets.full import FullHypernet
from hypersiren.shapes.cloud import make_cloud, read_points
from hypersiren.shapes.knot import RADIUS, knot
from hypersiren.shapes.mesh import Mesh, components, is_watertight
from hypersiren.shapes.picture import render_mesh, splats
from hypersiren.shapes.sides import facing, space_filling
from hypersiren.shapes.surface import place_cloud, surface
from hypersiren.tasks.panels import MeshPanel
from hypersiren.tasks.registry import open_task
from hypersiren.tasks.shapes.loss import ShapeBatch
from hypersiren.tasks.shapes.sdf import SDF
from hypersiren.tasks.shapes.settings import SDFLoss
from tests.lines import refusal

SMALL = ["--network.hidden_features", "16", "--network.hidden_layers", "1", "--training.points", "60",
         "--signal.resolution", "16", "--device", "cpu"]  # fmt: skip


def ball(count: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    normals = np.random.default_rng(0).normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals, normals


def distance(x: torch.Tensor) -> torch.Tensor:
    """To the ball's surface, whose radius is 0.9 in the cloud's frame."""
    return x.norm(dim=-1, keepdim=True) - 0.9


def task(**arguments) -> SDF:
    return SDF(make_cloud(*ball()), **{"points": 200, "resolution": 24, **arguments})


def test_a_distance_solves_the_equation_and_the_opposite_does_not():
    made = task()
    batch = made.sample(torch.Generator().manual_seed(0))
    assert [len(x) for x in (batch.on, batch.normals, batch.off, batch.near, batch.side)] == [100, 100, 75, 25, 100]
    terms = made.loss(distance, batch)
    assert terms["on"] < 3e3 * 2e-3  # the ball is fitted into the box by its outermost points
    assert terms["normal"] < 1e-3
    assert terms["eikonal"] < 1e-3
    assert terms["side"] < 1e4 * 1e-4
    inside_out = made.loss(lambda x: -distance(x), batch)
    assert inside_out["normal"].item() == pytest.approx(200, rel=1e-2)
    expected = 1e4 * (batch.side * distance(torch.cat([batch.off, batch.near]))[:, 0]).clamp_min(0).mean()
    assert inside_out["side"].item() == pytest.approx(expected.item(), rel=1e-4)
    for name in ("on", "off", "eikonal"):
        assert inside_out[name].item() == pytest.approx(terms[name].item(), rel=1e-4, abs=1e-3)


def test_weights_and_the_off_term():
    made = task(loss=SDFLoss(on=2.0, off=3.0, normal=5.0, eikonal=7.0, side=0.0, near=0.0))
    batch = made.sample(torch.Generator())
    assert batch.side is None
    assert len(batch.off) == 100
    terms = {name: value.item() for name, value in made.loss(lambda x: 0.01 + 3 * x[:, :1], batch).items()}
    assert terms.keys() == {"on", "off", "normal", "eikonal"}
    assert terms["on"] == pytest.approx(2 * (0.01 + 3 * batch.on[:, 0]).abs().mean().item(), rel=1e-5)
    assert terms["off"] == pytest.approx(3 * (-100 * (0.01 + 3 * batch.off[:, 0]).abs()).exp().mean().item(), rel=1e-4)
    assert terms["normal"] == pytest.approx(5 * (1 - batch.normals[:, 0].mean()).item(), rel=1e-5)
    assert terms["eikonal"] == pytest.approx(7 * 2.0, rel=1e-5)


def test_numbers_of_a_distance_and_of_no_surface():
    numbers = SDF(make_cloud(*ball(30_000)), points=200, resolution=48).evaluate(distance)
    assert numbers["chamfer_l1"] < 1.0  # mostly what random points differ by
    assert numbers["normal_consistency"] > 0.99
    assert numbers["eikonal"] < 1e-5
    assert (numbers["watertight"], numbers["components"], numbers["f_score"] > 0.5) == (1.0, 1.0, True)
    none = task().evaluate(lambda x: 1 + 0 * x[:, :1])
    assert none.keys() == numbers.keys()
    assert (none["chamfer_l1"], none["watertight"], none["components"]) == (100.0, 0.0, 0.0)
    assert "mesh" not in task().panels(lambda x: 1 + 0 * x[:, :1])


def test_what_is_held_out_is_not_learned_from():
    made = task()
    assert len(made.held_points) == 300
    learned = {tuple(p) for p in made.points.tolist()}
    assert len(learned) == 2700
    assert not learned & {tuple(p) for p in made.held_points.tolist()}


def test_meshes_come_out_in_the_units_of_the_input():
    normals, _ = ball()
    made = SDF(make_cloud(normals * 50 + [1000, 0, -7], normals), points=50, resolution=24)
    panel = made.panels(distance)["mesh"]
    assert isinstance(panel, MeshPanel)
    radii = np.linalg.norm(panel.mesh.vertices - [1000, 0, -7], axis=1)
    assert abs(radii - 50).max() < 0.5


def test_ways_from_a_sensor_are_free():
    normals, _ = ball()
    hollow = make_cloud(normals, sensor=(0, 0, 0))  # seen from within
    batch = SDF(hollow, points=5000).sample(torch.Generator())
    radii, side = batch.off.norm(dim=1), batch.side[: len(batch.off)]
    free = (side == 1) & (radii < 0.895)
    assert free.float().mean() > 0.45
    assert ((side > 0) == (radii < 0.9))[(radii - 0.9).abs() > 0.02].all()


def test_a_scan_ends_where_nothing_was_seen():
    normals, _ = ball()
    upper = normals[normals[:, 2] > -0.5]
    cloud = make_cloud(upper, upper)
    placement = place_cloud(cloud, 0.1, 0.1)
    moved = cloud.to_unit(np.zeros((1, 3)))[0]

    def field(x):
        return (x - torch.from_numpy(moved)).norm(dim=-1, keepdim=True) - 0.9

    mesh = surface(field, placement, 32).mesh
    heights = mesh.vertices[:, 2] - moved[2]
    assert -0.7 < heights.min() < -0.4
    assert heights.max() > 0.88


def test_sides_and_order():
    points, normals = ball(5000)
    x = np.random.default_rng(1).uniform(-2, 2, (1000, 3))
    radii = np.linalg.norm(x, axis=1)
    sure = abs(radii - 1) > 0.05
    assert (np.sign(facing(points, normals, x)) == np.sign(radii - 1))[sure].all()
    assert facing(points, normals, points[:1]).tolist() == [0.0]
    ordered = points[space_filling(points).argsort()]
    apart = np.linalg.norm(np.diff(ordered, axis=0), axis=1)
    assert apart.mean() < 0.1 * np.linalg.norm(np.diff(points, axis=0), axis=1).mean()


def test_the_knot_is_an_evenly_sampled_tube():
    points, normals = knot(20_000)
    assert len(points) == 20_000
    t = np.linspace(0, 2 * np.pi, 20_000)
    curve = np.stack([np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], 1)
    from scipy.spatial import cKDTree

    gap, nearest = cKDTree(curve).query(points)
    np.testing.assert_allclose(gap, RADIUS, atol=1e-4)
    np.testing.assert_allclose((points - curve[nearest]) / RADIUS, normals, atol=2e-3)
    # Pappus: half of a tube's area is on either side of its curve only with the weight 1 - r (n . k).
    counts = [len(found) for found in cKDTree(points).query_ball_point(points[:2000], 0.2)]
    assert np.std(counts) < 1.5 * np.mean(counts) ** 0.5


def test_splats_look_like_the_surface():
    points, normals = ball(4000)
    sphere = trimesh.creation.icosphere(4)
    solid = Mesh(np.asarray(sphere.vertices), np.asarray(sphere.faces).astype(np.int32), np.asarray(sphere.vertices))
    a, b = render_mesh(splats(points, normals), (60, 60)), render_mesh(solid, (60, 60))
    assert abs(a - b).mean() < 0.05  # of a picture whose ball differs from its ground by 0.4


def test_a_hypernetwork_meets_the_task():
    """The set encoder fed with oriented points (D = 3, C = 3), its SIREN a field of the task: no code for either."""
    torch.manual_seed(0)
    siren = Siren(3, 1, 16, 1)
    hyper = HyperSiren(SetEncoder(6, 8, 16, omega=3.0), FullHypernet(siren.shapes, 8), siren)
    points, normals = ball(400)
    shapes = [SDF(make_cloud(points * stretch, normals / stretch), points=60) for stretch in ([1, 1, 1], [1, 0.5, 0.5])]
    batches = [shape.sample(torch.Generator().manual_seed(0)) for shape in shapes]
    names = [name for name, value in vars(batches[0]).items() if value is not None]
    batch = ShapeBatch(**{name: torch.stack([vars(b)[name] for b in batches]) for name in names})
    context = Context(
        torch.stack([shape.points for shape in shapes]),
        torch.stack([shape.normals for shape in shapes]),
        torch.ones(2, len(shapes[0].points), dtype=torch.bool),
    )
    optimizer = torch.optim.Adam(hyper.parameters(), 1e-3)
    losses = []
    for _ in range(30):
        loss = sum(shapes[0].loss(hyper.field(context), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdf")
    points, normals = ball(1000)
    rows = np.hstack([points * 30 + [100, 200, 300], normals])
    rows = np.vstack([rows, rows[:50], np.full((1, 6), np.nan)])  # duplicates, and a row that is nothing
    np.savetxt(folder / "ball.xyz", rows)
    words = ["fit", "sdf", folder / "ball.xyz", "--out", folder / "run", "--training.steps", "150", *SMALL]
    main([str(word) for word in words])
    return folder / "run"


def test_fit_and_mesh_need_only_the_run_folder(fitted, tmp_path, capsys):
    for name in ("mesh.ply", "preview.png", "summary.png", "metrics.json"):
        assert (fitted / name).stat().st_size > 0, name
    assert any(b"mesh" in file.read_bytes() for file in fitted.glob("events.out.tfevents.*"))
    (fitted.parent / "ball.xyz").unlink(missing_ok=True)
    main(["mesh", str(fitted), "--size", "48", "--out", str(tmp_path / "a.obj"), "--device", "cpu"])
    out = capsys.readouterr().out
    assert {line.split()[0] for line in out.splitlines()} >= {"watertight", "components", "evaluations", "faces"}
    found = trimesh.load(tmp_path / "a.obj", process=False).vertices - [100, 200, 300]
    assert np.median(abs(np.linalg.norm(found, axis=1) - 30)) < 10
    first = (tmp_path / "a.png").read_bytes()
    main(["mesh", str(fitted), "--size", "32", "--out", str(tmp_path / "a.ply"), "--device", "cpu"])
    assert (tmp_path / "a.png").read_bytes() == first
    assert (tmp_path / "a-2.png").exists()
    pytest.importorskip("fast_simplification")
    main(["mesh", str(fitted), "--size", "32", "--faces", "200", "--out", str(tmp_path / "b.glb"), "--device", "cpu"])
    assert 150 < len(trimesh.load_mesh(tmp_path / "b.glb").faces) <= 200
    main(["mesh", str(fitted), "--size", "32", "--device", "cpu"])
    assert len(read_points(fitted / "mesh.ply", vertices=True).points) > 100


def test_mesh_is_judged_by_a_true_one(fitted, tmp_path, capsys):
    """By itself it is right but for sampling; by the same moved a tenth of its diagonal it is off."""
    out = tmp_path / "a.ply"
    main(["mesh", str(fitted), "--size", "40", "--out", str(out), "--device", "cpu"])
    mesh = trimesh.load(out, process=False)
    diagonal = np.linalg.norm(np.ptp(mesh.vertices, axis=0))
    found = []
    for shift in (0, 0.1 * diagonal):
        truth = tmp_path / "true.ply"
        trimesh.Trimesh(mesh.vertices + np.array([0, 0, shift]), mesh.faces, process=False).export(truth)
        capsys.readouterr()
        main(["mesh", str(fitted), "--size", "40", "--truth", str(truth), "--out", str(out), "--device", "cpu"])
        lines = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
        found.append((float(lines["chamfer_l1"]), float(lines["normals"])))
    (near, agreement), (far, less) = found
    assert near < 0.5
    assert 2 < far < 10
    assert agreement > 0.95
    assert less < agreement


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mesh", "RUN", "--size", "0"], "--size of at least 1"),
        (["mesh", "RUN", "--faces", "3"], "--faces of at least 4"),
        (["mesh", "RUN", "--out", "a.stl", "--size", "8"], "expected the ending .ply, .obj or .glb"),
        (["mesh", "nowhere"], "no such run folder"),
        (["mesh", "RUN", "--truth", "none.ply"], "no such file"),
    ],
)
def test_what_mesh_refuses(fitted, capsys, words, expected):
    refused(capsys, [str(fitted) if word == "RUN" else word for word in words], expected)


def write(path, rows) -> None:
    np.savetxt(path, rows)


CASES = {
    "few.xyz": (lambda path: write(path, np.random.default_rng(0).random((9, 3))), "expected at least 10 points"),
    "columns.xyz": (lambda path: write(path, np.ones((20, 4))), "columns"),
    "one.xyz": (lambda path: write(path, np.ones((20, 3))), "at one place"),
    "far.xyz": (lambda path: write(path, np.array([[-1.7e308] * 3, [1.7e308] * 3] * 10)), "finite extent"),
    "nan.xyz": (lambda path: write(path, np.full((20, 6), np.nan)), "left out as not finite"),
    "flat.obj": (lambda path: path.write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n"), "none"),
    "cut.ply": (lambda path: path.write_bytes(trimesh.creation.icosphere(2).export(file_type="ply")[:2000]), "trunc"),
    "none.xyz": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("name", CASES)
def test_files_that_are_no_shape(tmp_path, capsys, name):
    make, expected = CASES[name]
    make(tmp_path / name)
    refused(capsys, ["fit", "sdf", str(tmp_path / name), "--out", str(tmp_path / "run")], expected)
    assert not (tmp_path / "run").exists()


def test_normals_of_no_length_and_degenerate_faces_are_left_out(tmp_path):
    points, normals = ball(500)
    write(tmp_path / "zero.xyz", np.vstack([np.hstack([points, normals]), np.hstack([points[:50], 0 * points[:50]])]))
    made = open_task("sdf", {"signal": {"path": tmp_path / "zero.xyz"}, "training": {"points": 50}})
    assert len(made.cloud.points) == 500
    sphere = trimesh.creation.icosphere(2)
    sphere.faces = np.vstack([sphere.faces, [[0, 0, 1], [2, 2, 2]]])
    sphere.export(tmp_path / "ball.obj")
    made = open_task("sdf", {"signal": {"path": tmp_path / "ball.obj", "count": 500}, "training": {"points": 50}})
    assert torch.allclose(made.normals.norm(dim=1), torch.ones(450), atol=1e-4)


def test_windows_are_solved_for_points():
    points, normals = ball(2000)
    made = SDF(make_cloud(points * 30 + [100, 200, 300], normals), resolution=32)
    field = made.windowed_field(made.defaults.network)
    numbers = made.evaluate(field)
    assert (numbers["watertight"], numbers["components"]) == (1, 1)
    assert numbers["eikonal"] < 0.1
    vertices = made.panels(field)["mesh"].mesh.vertices
    off = np.linalg.norm(vertices - [100, 200, 300], axis=1) - 30
    assert np.sqrt(np.square(off).mean()) < 0.05
    outwards = field.jet(made.points).gradient[:, 0]
    assert torch.cosine_similarity(outwards, made.normals).min() > 0.98


def test_of_many_points_some_are_taken(monkeypatch):
    monkeypatch.setattr("hypersiren.tasks.shapes.windows.KEPT", 700)
    points, normals = ball(2000)
    made = SDF(make_cloud(points, normals), resolution=32)
    vertices = made.mesh(made.windowed_field(made.defaults.network)).moved(made.cloud.scale, made.cloud.centre).vertices
    assert np.abs(np.linalg.norm(vertices, axis=1) - 1).max() < 0.02


def test_windows_of_a_noisy_cloud_average():
    points, normals = ball(5000)
    rng = np.random.default_rng(1)
    noisy = normals + 0.2 * rng.normal(size=normals.shape)
    made = SDF(make_cloud(points + 0.01 * rng.normal(size=points.shape), noisy), resolution=32)
    mesh = made.mesh(made.windowed_field(made.defaults.network))
    assert (is_watertight(mesh), components(mesh)) == (True, 1)
    radii = np.linalg.norm(mesh.moved(made.cloud.scale, made.cloud.centre).vertices, axis=1)
    assert np.sqrt(np.square(radii - 1).mean()) < 0.004


def test_numbers_and_windows_are_chosen():
    made = SDF(make_cloud(*ball(2000)))
    few = made.windowed_field(made.defaults.network.replace(numbers=0.5))
    assert 0.4 < few.numbers / made.value_count < 0.7
    wide = made.windowed_field(made.defaults.network.replace(window=16, overlap=0.5))
    assert wide.windows.overlap[0] == 0.5
    assert len(wide.windows) < len(made.windowed_field(made.defaults.network).windows)
    start = made.windowed_field(made.defaults.network.replace(numbers=0.5)).coefficients
    repeated = SDF(make_cloud(*(part.repeat(2, axis=0) for part in ball(2000))))
    assert repeated.windowed_field(made.defaults.network.replace(numbers=0.5)).coefficients.isfinite().all()
    assert torch.equal(start, few.coefficients)


def refused(capsys, words: list[str], expected: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert expected in refusal(error)
