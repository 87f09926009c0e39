"""Before points are fitted: repeated and far points, coarse numbers, thinning, and sides told fast."""

import time
import warnings

import numpy as np
import pytest
import trimesh

from hypersiren.shapes.cloud import as_cloud, make_cloud, read_points
from hypersiren.shapes.mesh import sample_surface
from hypersiren.shapes.normals import estimate, estimate_normals, two_sided, unique_rows
from hypersiren.shapes.preparation import coarse_numbers, spread_evenly
from hypersiren.shapes.sides import cosines, facing, find_nearest, from_nearest, space_filling
from hypersiren.signals.files import SignalError


def directions(n: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def heard(read) -> tuple:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cloud = read()
    return cloud, [str(warning.message) for warning in caught]


# Repeated points


@pytest.mark.parametrize("copies", [2, 8, 12, 30])
@pytest.mark.parametrize("jitter", [0.0, 1e-9])
def test_repeated_points_have_the_normals_of_their_places(copies, jitter):
    ball = directions(2000)
    rows = ball.repeat(copies, axis=0)
    rows = rows + jitter * np.random.default_rng(1).normal(size=rows.shape)
    order = np.random.default_rng(2).permutation(len(rows))
    cloud = make_cloud(rows[order] * 7 + 3)
    assert len(cloud.points) == len(rows)
    assert ((cloud.normals * ball.repeat(copies, axis=0)[order]).sum(1) > 0.98).all()
    said = [note for note in cloud.notes if "repeated" in note]
    assert bool(said) == (jitter == 0)
    assert not said or said[0].startswith(f"{2000 * (copies - 1)} of {2000 * copies} points are repeated")


def test_repeated_points_are_told_of_a_file_and_of_arrays(tmp_path):
    rows = directions(500).repeat(8, axis=0)
    np.save(tmp_path / "a.npy", rows)
    for read in (lambda: read_points(tmp_path / "a.npy"), lambda: as_cloud((rows, None))):
        cloud, lines = heard(read)
        assert ((cloud.normals * rows).sum(1) > 0.9).all()
        assert any("3500 of 4000 points are repeated" in line for line in lines)
    assert not any("repeated" in line for line in heard(lambda: as_cloud((rows, rows)))[1])  # nothing is estimated


def test_lines_of_a_scanner_reach_for_the_next_lines():
    turn, height = np.meshgrid(np.linspace(0, 2 * np.pi, 1000, endpoint=False), np.linspace(-1, 1, 16), indexing="ij")
    truth = np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1).reshape(-1, 3)
    points = truth + height.reshape(-1, 1) * [0, 0, 1]  # 0.006 apart along a ring, the rings 0.13
    found = estimate(points)
    assert ((found.normals * truth).sum(1) > 0.9).mean() > 0.99
    assert found.doubtful < 0.01 * len(points)


def test_a_wire_has_no_normals_and_that_is_said():
    rows = np.linspace(0, 1, 400)[:, None] * [1, 2, 3]
    assert any("normals of 400 of 400 points are in doubt" in note for note in make_cloud(rows).notes)


def test_many_parts_take_no_longer_than_one():
    begun = time.process_time()
    small = directions(40) * 0.01
    found = estimate_normals((small + 100 * directions(1000, 1)[:, None]).reshape(-1, 3))
    assert ((found.reshape(1000, 40, 3) * directions(40)).sum(-1) > 0).mean() > 0.99
    assert time.process_time() - begun < 20


def test_rows_that_differ():
    rows = np.random.default_rng(0).integers(0, 4, (500, 3))
    first, which = unique_rows(rows)
    assert len(first) == len(np.unique(rows, axis=0))
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(rows[first][which], rows)


def test_sides_along_a_tree():
    generator = np.random.default_rng(0)
    truth = generator.choice([-1, 1], 300)
    one = np.arange(1, 200)
    other = np.array([generator.integers(i) for i in one])
    signs, part = two_sided(one, other, truth[one] != truth[other], 300)
    assert len(set(part[:200])) == 1
    assert len(set(part)) == 101
    assert abs((signs[:200] * truth[:200]).sum()) == 200


# Coarse numbers


@pytest.mark.parametrize("ending", ["npy", "ply", "stl", "glb", "xyz"])
def test_numbers_too_coarse_for_their_detail_are_told_in_a_line(tmp_path, ending):
    ball = trimesh.creation.icosphere(3, radius=20)
    path = tmp_path / f"a.{ending}"
    for offset, coarse in ((np.zeros(3), False), (np.array([500_000.0, 4_100_000.0, 80.0]), True)):
        places = ball.vertices + offset
        if ending == "npy":
            np.save(path, places.astype(np.float32))
        elif ending == "xyz":
            np.savetxt(path, places, "%.6g")
        else:
            trimesh.Trimesh(places, ball.faces).export(path)
        lines = [line for line in heard(lambda: read_points(path, count=1000))[1] if " step by up to " in line]
        assert len(lines) == coarse
        assert not coarse or "take an offset off in double precision" in lines[0]
        assert not coarse or f"a.{ending}: x, y step by" in lines[0]


def test_numbers_that_are_fine_enough_or_on_a_grid():
    rows = np.random.default_rng(0).random((500, 3)) * 20
    utm = rows + np.array([500_000.0, 4_100_000.0, 80.0])
    assert coarse_numbers(rows) is None
    assert coarse_numbers(utm) is None
    assert coarse_numbers(rows.astype(np.float32).astype(float)) is None
    assert coarse_numbers(np.round(rows)) is None  # voxels
    assert coarse_numbers(np.round(utm, 2)) is not None  # 1 cm of 20 m
    assert coarse_numbers(np.round(utm, 3)) is None
    half = rows.astype(np.float16)
    assert "half precision" in coarse_numbers(half.astype(float), half=True)
    assert any("half precision" in line for line in heard(lambda: as_cloud((half, rows)))[1])


# Far points


def test_far_points_are_told_and_can_be_left_out(tmp_path):
    ball = directions(3000)
    rows = np.vstack([ball, [[1e4, 0, 0], [0, -1e4, 5]]])
    np.savetxt(tmp_path / "a.xyz", np.hstack([rows, np.vstack([ball, ball[:2]])]), "%.9g")
    cloud, lines = heard(lambda: read_points(tmp_path / "a.xyz"))
    assert len(cloud.points) == 3002
    assert "2 of 3002 points are far from all others, which have 1/5,0" in lines[0]
    assert "--signal.outliers drop" in lines[0]
    cloud, lines = heard(lambda: read_points(tmp_path / "a.xyz", outliers="drop"))
    assert cloud.scale == pytest.approx(1 / 0.9, rel=0.01)
    np.testing.assert_allclose(cloud.to_input(cloud.points), ball, atol=1e-6)
    assert "2 points far from all others are left out" in lines[0]


@pytest.mark.parametrize("shape", ["ball", "street", "rod"])
def test_no_points_are_far_that_belong_to_the_shape(shape):
    generator = np.random.default_rng(0)
    rows = {
        "ball": directions(5000),
        "street": directions(5000) * generator.uniform(1, 9, (5000, 1)) ** 2,  # dense near the scanner
        "rod": generator.random((5000, 3)) * [100, 1, 1],
    }[shape]
    assert not [note for note in make_cloud(rows, directions(5000)).notes if "far" in note]


# Thinning


def test_thinned_clouds_are_even_and_no_larger_than_asked(tmp_path):
    dense, sparse = directions(20_000), directions(2000, 1)
    rows = np.vstack([dense[dense[:, 2] > 0], sparse])
    kept = spread_evenly(rows, 500)
    assert 400 <= len(kept) <= 500
    assert 0.4 < (rows[kept, 2] > 0).mean() < 0.6
    assert find_nearest(rows[kept], rows)[0].max() < 0.35
    assert len(spread_evenly(rows, len(rows))) > 0.98 * len(rows)
    np.save(tmp_path / "a.npy", rows)
    cloud, lines = heard(lambda: read_points(tmp_path / "a.npy", points_kept=500))
    assert len(cloud.points) == len(kept)
    assert any(f"{len(kept)} of {len(rows):,} points are kept, spread evenly" in line for line in lines)
    trimesh.creation.icosphere(1).export(tmp_path / "a.ply")
    with pytest.raises(SignalError, match=r"a\.ply: expected no points_kept"):
        read_points(tmp_path / "a.ply", points_kept=500)


# Sides


def bent_sheet(thick: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A thin bowl with an outer and an inner side."""
    rows = directions(n)
    rows = rows * np.sign(rows[:, 2:])
    inner = np.arange(n) % 2 == 0
    return np.where(inner[:, None], 1 - thick, 1) * rows * 0.9, np.where(inner, -1, 1)[:, None] * rows


@pytest.mark.parametrize("name", ["box", "ball", "bowl", "two"])
def test_sides_told_fast_are_those_of_the_nearest_point(name):
    points, normals = {
        "box": lambda: sample_surface(trimesh.creation.box().vertices, trimesh.creation.box().faces, 30_000),
        "ball": lambda: (directions(30_000) * 0.9, directions(30_000)),
        "bowl": lambda: bent_sheet(0.01, 60_000),
        "two": lambda: (
            np.vstack([directions(9000) * 0.2 + 0.6, directions(9000) * 0.1 - 0.7]),
            np.vstack([directions(9000)] * 2),
        ),
    }[name]()
    x = np.random.default_rng(3).uniform(-1.1, 1.1, (4000, 3))
    expected = cosines(*from_nearest(points, normals, x))
    found = facing(points, normals, x)
    clear = (np.abs(expected) > 0.3) & ((name != "bowl") | (x[:, 2] > 0.05))  # not below the rim, where both sides end
    assert (np.sign(found) == np.sign(expected))[clear].mean() > 0.9995
    assert np.quantile(np.abs(found - expected), 0.9) < 0.02


def test_a_mesh_of_few_faces_is_ready_in_seconds(tmp_path):
    from hypersiren.tasks.shapes.sdf import SDF
    from hypersiren.tasks.shapes.settings import SDFSettings

    trimesh.creation.box().subdivide().export(tmp_path / "cube.ply")
    begun = time.process_time()
    SDF.open(SDFSettings.model_validate({"signal": {"path": str(tmp_path / "cube.ply")}}))
    assert time.process_time() - begun < 20  # 4 s, on a machine that does nothing else


def test_near_numbers_have_near_codes_and_each_cell_its_own():
    cells = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), -1).reshape(-1, 3)
    code = space_filling((cells + 0.5) / 512 - 1)
    slow = [
        sum(((int(c[a]) >> bit) & 1) << (3 * bit + 2 - a) for a in range(3) for bit in range(10))
        for c in np.floor((cells + 0.5) / 1024 * 1023).astype(int)
    ]
    assert code.tolist() == slow
