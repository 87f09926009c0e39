"""Meshes: written files are read by trimesh, and samples lie evenly on the surface."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from hypersiren.shapes.files import mesh as mesh_files
from hypersiren.shapes.files.mesh import read_triangles, write_mesh
from hypersiren.shapes.mesh import Mesh, face_crosses, is_watertight, sample_surface, trim
from hypersiren.signals.files import SignalError


def ball(dtype=np.float32) -> Mesh:
    found = trimesh.creation.icosphere(2)
    vertices = found.vertices.astype(dtype)
    return Mesh(vertices, found.faces.astype(np.int32), vertices.astype(np.float32))


@pytest.mark.parametrize("ending", ["ply", "obj", "glb"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_written_meshes_are_read_by_trimesh(tmp_path, ending, dtype):
    mesh = ball(dtype)
    write_mesh(tmp_path / f"a.{ending}", mesh)
    read = trimesh.load_mesh(tmp_path / f"a.{ending}", process=False)
    np.testing.assert_allclose(read.vertices, mesh.vertices, rtol=1e-7 if ending == "glb" else 1e-8)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    assert read.is_watertight
    assert read.volume > 4
    assert [p.name for p in tmp_path.iterdir()] == [f"a.{ending}"]


def test_ply_holds_normals_and_keeps_large_coordinates(tmp_path):
    mesh = ball().moved(0.5, np.array([500_000.0, 4_000_000.0, 7.0]))
    write_mesh(tmp_path / "a.ply", mesh)
    data = (tmp_path / "a.ply").read_bytes()
    body = data[data.index(b"end_header\n") + 11 :]
    rows = np.frombuffer(body, [("position", "<f8", 3), ("normal", "<f4", 3)], len(mesh.vertices))
    np.testing.assert_array_equal(rows["position"], mesh.vertices)
    np.testing.assert_array_equal(rows["normal"], mesh.normals)
    np.testing.assert_allclose(trimesh.load_mesh(tmp_path / "a.ply", process=False).vertices, mesh.vertices, rtol=1e-12)


def test_obj_and_glb_hold_normals(tmp_path):
    mesh = replace(ball(), normals=ball().normals[:, [1, 2, 0]])  # other numbers than the vertices
    for ending in ("obj", "glb"):
        write_mesh(tmp_path / f"a.{ending}", mesh)
    lines = (tmp_path / "a.obj").read_text().splitlines()
    normals = [line.split()[1:] for line in lines if line.startswith("vn ")]
    np.testing.assert_allclose(np.array(normals, float), mesh.normals, atol=1e-6)
    data = (tmp_path / "a.glb").read_bytes()
    length = int.from_bytes(data[12:16], "little")
    description, body = json.loads(data[20 : 20 + length]), data[28 + length :]
    accessor = description["accessors"][description["meshes"][0]["primitives"][0]["attributes"]["NORMAL"]]
    start = description["bufferViews"][accessor["bufferView"]]["byteOffset"] + accessor["byteOffset"]
    found = np.frombuffer(body, "<f4", 3 * accessor["count"], start).reshape(-1, 3)
    np.testing.assert_array_equal(found, mesh.normals)
    assert len(data) == int.from_bytes(data[8:12], "little")


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3])
def test_obj_keeps_nine_digits_whatever_the_unit(tmp_path, scale):
    mesh = ball().moved(scale, np.zeros(3))
    write_mesh(tmp_path / "a.obj", mesh)
    lines = (tmp_path / "a.obj").read_text().splitlines()
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    np.testing.assert_allclose(vertices, mesh.vertices, atol=1e-9 * scale)
    faces = [line.split()[1:] for line in lines if line.startswith("f ")]
    assert faces == [[f"{i}//{i}" for i in face] for face in (mesh.faces + 1).tolist()]


def test_what_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(SignalError, match=r"expected the ending .ply, .obj or .glb, got '.xyz'"):
        write_mesh(tmp_path / "a.xyz", ball())
    with pytest.raises(SignalError, match="No such file"):
        write_mesh(tmp_path / "no" / "a.ply", ball())
    write_mesh(tmp_path / "a.ply", ball())
    before = (tmp_path / "a.ply").read_bytes()

    def fill_the_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mesh_files, "_ply", fill_the_disk)
    with pytest.raises(SignalError, match="No space left on device"):
        write_mesh(tmp_path / "a.ply", ball())
    assert (tmp_path / "a.ply").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]


def test_samples_are_even_by_area_seeded_and_have_their_faces_normals():
    # Two triangles of areas 1/2 and 2, in different planes, and one without an area.
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [2, 0, 5], [0, 0, 7.0]])
    faces = np.array([[0, 1, 2], [3, 4, 5], [0, 0, 1]])
    points, normals = sample_surface(vertices, faces, 20_000, seed=3)
    upper = points[:, 2] > 4
    assert abs(upper.mean() - 0.8) < 0.01
    np.testing.assert_allclose(normals[~upper], [[0, 0, 1]] * (~upper).sum())
    np.testing.assert_allclose(normals[upper], [[0, -1, 0]] * upper.sum())
    lower = points[~upper]
    assert (lower >= 0).all()
    assert (lower.sum(1) <= 1 + 1e-12).all()
    # A quarter of the triangle's area each.
    for part in (lower[:, 0] > 0.5, lower[:, 1] > 0.5, lower[:, :2].sum(1) < 0.5):
        assert abs(part.mean() - 0.25) < 0.03
    np.testing.assert_array_equal(points, sample_surface(vertices, faces, 20_000, seed=3)[0])
    assert (points != sample_surface(vertices, faces, 20_000, seed=4)[0]).any()
    with pytest.raises(ValueError, match="area, got none"):
        sample_surface(vertices, faces[2:], 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_are_those_of_trimesh(dtype):
    mesh = trimesh.Trimesh(
        trimesh.creation.torus(1.0, 0.3).vertices.astype(dtype), trimesh.creation.torus(1.0, 0.3).faces
    )
    points, chosen = trimesh.sample.sample_surface(mesh, 5_000, seed=7)
    found, normals = sample_surface(mesh.vertices.astype(dtype), mesh.faces, 5_000, seed=7)
    np.testing.assert_array_equal(found, points)
    np.testing.assert_allclose(normals, mesh.face_normals[chosen], atol=1e-12)


def test_crosses_are_twice_the_area():
    mesh = ball()
    found = trimesh.Trimesh(mesh.vertices, mesh.faces)
    crosses = face_crosses(mesh.vertices, mesh.faces)
    np.testing.assert_allclose(np.linalg.norm(crosses, axis=1), 2 * found.area_faces, rtol=1e-5)
    assert ((crosses * mesh.vertices[mesh.faces].mean(1)).sum(1) > 0).all()


def test_trimming_keeps_what_lies_near_the_points():
    mesh = ball()
    seen = mesh.vertices[mesh.vertices[:, 2] > 0.3]
    kept = trim(mesh, seen, 0.2)
    corners = kept.vertices[kept.faces]
    expected = [f for f in mesh.faces if all(np.linalg.norm(seen - v, axis=1).min() <= 0.2 for v in mesh.vertices[f])]
    np.testing.assert_array_equal(corners, mesh.vertices[np.array(expected)])
    np.testing.assert_array_equal(kept.normals, kept.vertices)
    assert 0 < len(kept.vertices) < len(mesh.vertices)
    assert kept.faces.dtype == np.int32
    assert len(trim(mesh, seen + 10, 0.2).faces) == 0


BOX = """# a box of squares and triangles
COFF
8 7 0

0 0 0  1 0 0 1  # a colour
1 0 0  1 0 0 1
1 1 0  1 0 0 1
0 1 0  1 0 0 1
0 0 1  1 0 0 1
1 0 1  1 0 0 1
1 1 1  1 0 0 1
0 1 1  1 0 0 1
4 3 2 1 0
4 4 5 6 7  0.5 0.5 0.5
4 0 1 5 4
4 1 2 6 5
4 2 3 7 6
3 3 0 4
3 3 4 7
"""


@pytest.mark.parametrize("counts", ["COFF\n8 7 0", "COFF 8 7 0", "COFF\r\n8 7"])
def test_off_with_polygons_colours_and_comments(counts):
    vertices, faces = read_triangles(BOX.replace("COFF\n8 7 0", counts).encode(), ".off")
    mesh = Mesh(vertices, faces, vertices)
    assert (len(vertices), len(faces)) == (8, 12)
    assert is_watertight(mesh)
    assert (vertices[faces[:, 0]] * face_crosses(vertices, faces)).sum() / 6 == pytest.approx(1)  # the volume


def test_off_with_many_corners_is_a_fan():
    angle = np.arange(7) * 2 * np.pi / 7
    rows = "".join(f"{np.cos(a)} {np.sin(a)} 0\n" for a in angle)
    vertices, faces = read_triangles(f"OFF\n7 1 0\n{rows}7 0 1 2 3 4 5 6\n".encode(), ".off")
    area = np.linalg.norm(face_crosses(vertices, faces), axis=1).sum() / 2
    assert area == pytest.approx(3.5 * np.sin(2 * np.pi / 7))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BOX[:-20].encode(), "expected 8 vertices and 7 faces, a line each, got 13 lines"),
        (b"OFF BINARY\n\0\0", "truncated: expected the counts"),
        (b"ply\n", "expected a file that begins with OFF, got 'ply'"),
        (b"", "expected a file that begins with OFF"),
        (BOX.replace("3 3 4 7", "3 3 4 8").encode(), "expected faces of 8 vertices"),
        (BOX.replace("3 3 4 7", "3 3 x 7").encode(), "broken or truncated mesh"),
    ],
)
def test_off_that_is_broken(data, message):
    with pytest.raises(SignalError, match=message):
        read_triangles(data, ".off")
