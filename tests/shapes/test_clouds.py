"""Clouds: there and back to the input's units, normals that are known, meshes, and what users hand in by mistake."""

import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.shapes.cloud import make_cloud, read_points
from hypersiren.shapes.files.mesh import MESHES
from hypersiren.shapes.normals import estimate_normals
from hypersiren.signals.files import SignalError


def directions(n: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@settings(deadline=None, max_examples=50)
@given(
    st.tuples(*[st.floats(-1e6, 1e6)] * 3),
    st.tuples(*[st.floats(1e-3, 1e3)] * 3),
    st.floats(0.0, 0.5),
)
def test_scaling_keeps_the_aspect_and_can_be_undone(shift, stretch, margin):
    rows = np.random.default_rng(0).random((30, 3)) * stretch + shift
    cloud = make_cloud(rows, directions(30), margin=margin)
    assert np.abs(cloud.points).max() == pytest.approx(1 - margin, abs=1e-6)
    sides, given_sides = np.ptp(cloud.points, axis=0), np.ptp(rows, axis=0)
    np.testing.assert_allclose(sides * cloud.scale, given_sides, rtol=1e-4, atol=1e-6 * given_sides.max())
    np.testing.assert_allclose(cloud.to_input(cloud.points), rows, atol=1e-6 * given_sides.max())
    np.testing.assert_allclose(cloud.to_unit(rows), cloud.points, atol=1e-7)
    assert cloud.points.dtype == cloud.normals.dtype == np.float32
    assert cloud.to_input(cloud.points).dtype == np.float64


def test_rows_that_are_nothing_are_left_out_and_counted():
    rows, normals = directions(50), directions(50)
    rows[3], rows[7, 1], rows[9, 2] = np.nan, np.inf, -np.inf
    normals[5], normals[6, 0], normals[9] = 0, np.nan, 0
    normals[20] *= 1e-3
    cloud = make_cloud(rows, normals)
    assert cloud.skipped == 5
    assert len(cloud.points) == 45
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-6)
    kept = np.setdiff1d(np.arange(50), [3, 5, 6, 7, 9])
    np.testing.assert_allclose(cloud.normals, directions(50)[kept], atol=1e-6)


def test_normals_of_no_length_at_all_count_as_absent():
    rows = directions(300)
    cloud = make_cloud(rows, np.zeros((300, 3)))
    assert cloud.skipped == 0
    assert ((cloud.normals * rows).sum(1) > 0.9).all()


def test_what_is_no_cloud():
    rows = directions(20)
    with pytest.raises(SignalError, match=r"at least 10 points, got 9$"):
        make_cloud(rows[:9])
    rows[:12] = np.nan
    with pytest.raises(SignalError, match="at least 10 points, got 8, 12 left out as not finite or without a normal"):
        make_cloud(rows)
    with pytest.raises(SignalError, match="points that lie apart, got 20 at one place"):
        make_cloud(np.ones((20, 3)))
    with pytest.raises(SignalError, match=r"a finite extent, got points from -1\.\d+e\+308 to 1\.\d+e\+308"):
        make_cloud(directions(20) * 1.7e308)


def test_duplicates_are_kept():
    rows = directions(300).repeat(2, axis=0)
    cloud = make_cloud(rows)
    assert len(cloud.points) == 600
    assert ((cloud.normals * rows).sum(1) > 0.9).all()
    assert np.isfinite(make_cloud(directions(10).repeat(30, axis=0)).normals).all()  # more copies than neighbours


def shell(mesh: trimesh.Trimesh, n: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    points, faces = trimesh.sample.sample_surface(mesh, n, seed=0)
    return np.asarray(points), mesh.face_normals[faces]


@pytest.mark.parametrize(
    "mesh",
    [
        trimesh.creation.icosphere(4),
        trimesh.creation.torus(1.0, 0.3),
        trimesh.creation.capsule(3.0, 0.4),
        # A cup: half of its points have the centroid on their outer side.
        trimesh.creation.revolve([[0, 0], [1, 0], [1, 2], [0.8, 2], [0.8, 0.2], [0, 0.2]]),
    ],
    ids=["ball", "torus", "capsule", "cup"],
)
def test_estimated_normals_point_outwards(mesh):
    if mesh.volume < 0:
        mesh.invert()
    points, normals = shell(mesh)
    agreement = (estimate_normals(points) * normals).sum(1)
    assert (agreement > 0).mean() > 0.99
    assert np.abs(agreement).mean() > 0.96


def test_parts_are_turned_outwards_each_by_itself():
    points, normals = shell(trimesh.creation.icosphere(4), 3000)
    agreement = (estimate_normals(np.vstack([points, points * 0.5 + 9])) * np.vstack([normals, normals])).sum(1)
    assert (agreement > 0.9).all()


def test_estimated_normals_point_to_the_sensor():
    points, normals = shell(trimesh.creation.box((4, 3, 2)))
    inner = np.abs(points / [2, 1.5, 1]).max(1)
    sides = np.sort([2, 1.5, 1] - np.abs(points), axis=1)[:, 1] > 0.4  # not near an edge
    assert (inner > 0.999).all()
    for sensor in ([0.0, 0.0, 0.0], [1.0, 0.5, -0.3]):
        found = make_cloud(points + 100, sensor=np.array(sensor) + 100).normals
        np.testing.assert_allclose(found[sides], -normals[sides], atol=1e-3)


def test_the_sensor_of_a_pcd_and_one_that_is_given(tmp_path):
    points, normals = shell(trimesh.creation.icosphere(3), 500)
    header = (
        "FIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nWIDTH 500\nHEIGHT 1\nVIEWPOINT 7 7 7 1 0 0 0\nPOINTS 500\nDATA binary\n"
    )
    (tmp_path / "a.pcd").write_bytes(header.encode() + (points + 7).tobytes())
    assert ((read_points(tmp_path / "a.pcd").normals * normals).sum(1) < -0.9).all()
    assert ((read_points(tmp_path / "a.pcd", sensor="outwards").normals * normals).sum(1) > 0.9).all()
    far = read_points(tmp_path / "a.pcd", sensor=(7, 7, 1000)).normals
    assert (far[np.abs(normals[:, 2]) > 0.2, 2] > 0).all()


def test_only_what_lies_within_reach_of_the_sensor():
    rows = np.vstack([directions(30, seed=i) * radius + 5 for i, radius in enumerate((0.1, 2.0, 9.0))])
    cloud = make_cloud(rows, directions(90), sensor=(5, 5, 5), reach=(0.5, 8.0))
    assert cloud.skipped == 0
    np.testing.assert_allclose(cloud.to_input(cloud.points), rows[30:60], atol=1e-5)
    np.testing.assert_allclose(cloud.normals, directions(90)[30:60], atol=1e-6)
    with pytest.raises(SignalError, match="expected a sensor"):
        make_cloud(rows, reach=(0.5, 8.0))
    with pytest.raises(SignalError, match="at least 10 points, got 0"):
        make_cloud(rows, sensor=(5, 5, 5), reach=(0.2, 0.5))


@pytest.mark.parametrize("ending", [e.removeprefix(".") for e in MESHES])
def test_meshes_are_sampled(tmp_path, ending):
    ball = trimesh.creation.icosphere(3, radius=2.0)
    ball.apply_translation([10, 20, 30])
    ball.export(tmp_path / f"a.{ending}")
    cloud = read_points(tmp_path / f"a.{ending}", count=5000, seed=1)
    assert cloud.points.shape == (5000, 3)
    offsets = cloud.to_input(cloud.points) - [10, 20, 30]
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), 2, atol=0.03)
    assert ((cloud.normals * offsets).sum(1) > 1.9).all()
    np.testing.assert_array_equal(cloud.points, read_points(tmp_path / f"a.{ending}", count=5000, seed=1).points)
    data = (tmp_path / f"a.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(data[: len(data) // 2])
    with pytest.raises(SignalError, match=rf"cut\.{ending}: .*truncated") as caught:
        read_points(tmp_path / f"cut.{ending}")
    assert "\n" not in str(caught.value)


def test_the_vertices_of_a_ply_with_faces_and_a_ply_without(tmp_path):
    ball = trimesh.creation.icosphere(2)
    ball.export(tmp_path / "a.ply", vertex_normal=True)
    cloud = read_points(tmp_path / "a.ply", vertices=True)
    assert len(cloud.points) == len(ball.vertices)
    np.testing.assert_allclose(cloud.normals, ball.vertex_normals, atol=1e-5)
    trimesh.PointCloud(ball.vertices).export(tmp_path / "b.ply")
    assert len(read_points(tmp_path / "b.ply").points) == len(ball.vertices)


def test_meshes_with_degenerate_faces(tmp_path):
    ball = trimesh.creation.icosphere(2)
    lines = [f"v {x} {y} {z}" for x, y, z in ball.vertices] + ["v nan 0 0"]
    lines += [f"f {a} {b} {c}" for a, b, c in ball.faces + 1] + [
        "f 1 1 2",
        "f 1 2 1",
        f"f 1 2 {len(ball.vertices) + 1}",
    ]
    (tmp_path / "a.obj").write_text("\n".join(lines))
    cloud = read_points(tmp_path / "a.obj", count=2000)
    assert np.isfinite(cloud.points).all()
    assert ((cloud.points * cloud.normals).sum(1) > 0.8).all()
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    with pytest.raises(SignalError, match=r"flat\.obj: expected a mesh with faces that have an area, got none"):
        read_points(tmp_path / "flat.obj")
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\n")
    with pytest.raises(SignalError, match=r"points\.obj: .*(no faces|broken)"):
        read_points(tmp_path / "points.obj")


@pytest.mark.parametrize("ending", ["obj", "off", "stl", "ply"])
def test_meshes_in_an_old_encoding_are_read(tmp_path, monkeypatch, ending):
    ball = trimesh.creation.icosphere(1)
    words = {"file_type": "stl_ascii"} if ending == "stl" else {"file_type": ending}
    data = ball.export(**words)
    data = data.encode() if isinstance(data, str) else data
    old = "Möbel".encode("latin-1")
    if ending == "stl":
        data = data.replace(b"solid ", b"solid " + old, 1)
    elif ending == "ply":
        data = data.replace(b"ply\n", b"ply\ncomment " + old + b"\n", 1)
    elif ending == "off":
        data = data.replace(b"OFF\n", b"OFF\n# " + old + b"\n", 1)
    else:
        data = b"# " + old + b"\n" + data
    (tmp_path / f"a.{ending}").write_bytes(data)
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    cloud = read_points(tmp_path / f"a.{ending}", count=500)
    assert ((cloud.points * cloud.normals).sum(1) > 0.8).all()


@pytest.mark.parametrize("name", ["faces.ply", "points.ply", "a.obj", "a.xyz"])
def test_files_are_read_once(tmp_path, monkeypatch, name):
    ball = trimesh.creation.icosphere(2)
    if name == "a.xyz":
        np.savetxt(tmp_path / name, ball.vertices)
    else:
        (trimesh.PointCloud(ball.vertices) if name == "points.ply" else ball).export(tmp_path / name)
    read, opened = Path.read_bytes, []

    def count(path: Path) -> bytes:
        opened.append(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", count)
    assert len(read_points(tmp_path / name, count=300).points) in (300, len(ball.vertices))
    assert opened == [tmp_path / name]


def test_errors_name_the_file(tmp_path):
    (tmp_path / "a.xyz").write_text("# nothing\n")
    with pytest.raises(SignalError, match=r"a\.xyz: expected at least 10 points, got 0"):
        read_points(tmp_path / "a.xyz")
    with pytest.raises(SignalError, match=r"b\.stl: no such file"):
        read_points(tmp_path / "b.stl")
    with pytest.raises(SignalError, match=r"c\.las: expected points as"):
        read_points(tmp_path / "c.las")
