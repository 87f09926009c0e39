"""Colours of points and of vertices: read, kept beside their points, fitted as channels of a field, meshed."""

import numpy as np
import pytest
import torch
import trimesh

from hypersiren import Siren, fit
from hypersiren.errors import UserError
from hypersiren.shapes.cloud import make_cloud, read_points
from hypersiren.shapes.files.points import read_raw_points
from hypersiren.shapes.mesh import sample_surface, sample_triangles
from hypersiren.signals.files import SignalError
from hypersiren.tasks.shapes.sdf import SDF
from hypersiren.tasks.shapes.settings import SDFSettings

LEVELS = np.array([[0, 51, 255], [255, 102, 0], [1, 2, 3]])
PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
property {kind} {name}red
property {kind} {name}green
property {kind} {name}blue
end_header
"""


def rows(colours):
    return "\n".join(" ".join(map(str, [*point, *colour])) for point, colour in zip(np.eye(3), colours, strict=True))


def pcd(kind: str) -> bytes:
    table = np.zeros(3, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    for i, name in enumerate("xyz"):
        table[name] = np.eye(3)[i]
    table["rgb"] = LEVELS[:, 0] << 16 | LEVELS[:, 1] << 8 | LEVELS[:, 2]
    header = f"FIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F {kind}\nCOUNT 1 1 1 1\nWIDTH 3\nHEIGHT 1\nDATA binary\n"
    return header.encode() + table.tobytes()


FILES = {
    "bytes.ply": PLY.format(kind="uchar", name="").encode() + rows(LEVELS).encode(),
    "floats.ply": PLY.format(kind="float", name="diffuse_").encode() + rows(LEVELS / 255).encode(),
    "words.ply": PLY.format(kind="ushort", name="").encode() + rows(LEVELS * 257).encode(),
    "named.csv": b"x,y,z,Red,Green,Blue\n" + rows(LEVELS).replace(" ", ",").encode(),
    "unnamed.pts": rows(LEVELS).encode(),
    "float.pcd": pcd("F"),
    "whole.pcd": pcd("U"),
}


@pytest.mark.parametrize("name", FILES)
def test_colours_of_points_are_read(name):
    found = read_raw_points(FILES[name], name[name.index(".") :])
    np.testing.assert_array_equal(found.points, np.eye(3))
    np.testing.assert_allclose(found.colours, LEVELS / 255, atol=1e-6)


def test_columns_that_look_like_colours_are_colours_and_others_are_none():
    with pytest.warns(UserWarning, match="columns 4 to 6 are taken as colours"):
        found = read_raw_points(rows(LEVELS).encode(), ".xyz")
    np.testing.assert_allclose(found.colours, LEVELS / 255)
    assert read_raw_points(b"x,y,z,r,g,b\n" + rows(-LEVELS).replace(" ", ",").encode(), ".csv").colours is None
    assert read_raw_points(b"0 0 0\n1 0 0\n", ".xyz").colours is None


def ball(tmp_path, colours=True):
    """A mesh whose colour is linear in the place: on each triangle what corners give is exact."""
    mesh = trimesh.creation.icosphere(3)
    levels = np.round((mesh.vertices + 1) / 2 * 255).astype(np.uint8) if colours else None
    trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=levels, process=False).export(tmp_path / "ball.ply")
    return tmp_path / "ball.ply"


def test_points_of_a_mesh_have_the_colours_between_its_vertices(tmp_path):
    cloud = read_points(ball(tmp_path), count=3000)
    np.testing.assert_allclose(cloud.colours, (cloud.to_input(cloud.points) + 1) / 2, atol=1 / 255)
    assert read_points(ball(tmp_path, colours=False), count=1000).colours is None
    vertices, faces = np.eye(3), np.array([[0, 1, 2]])
    points, _, chosen, weights = sample_triangles(vertices, faces, 100, seed=1)
    np.testing.assert_allclose((vertices[faces[chosen]] * weights[..., None]).sum(1), points)
    np.testing.assert_array_equal(points, sample_surface(vertices, faces, 100, seed=1)[0])


def test_colours_stay_beside_their_points():
    points = np.random.default_rng(0).normal(size=(400, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    colours = (points + 1) / 2
    points[7] = np.nan
    points[9] *= 1e4
    cloud = make_cloud(
        points, points, colours=colours, points_kept=150, outliers="drop", sensor=[0, 0, 2], reach=(0, 2)
    )
    assert 10 < len(cloud.points) <= 150
    np.testing.assert_allclose(cloud.colours, (cloud.to_input(cloud.points) + 1) / 2, atol=1e-5)


def test_a_field_learns_distance_and_colours(tmp_path):
    settings = SDFSettings.model_validate(
        {
            "signal": {"path": str(ball(tmp_path)), "count": 2000, "colours": True, "resolution": 16},
            "training": {"points": 400},
        }
    )
    task = SDF.open(settings)
    plain = SDF.open(SDFSettings.model_validate({"signal": {"path": str(tmp_path / "ball.ply"), "count": 4000}}))
    assert (task.out_features, plain.out_features) == (4, 1)
    assert task.digest() != plain.digest()
    network = {"hidden_features": 32, "hidden_layers": 2, "first_omega": 5.0}
    result = fit(task, network=network, steps=60, lr=3e-3, optimizer="adam")
    assert result.metrics["colour_psnr"] > 17
    assert result.history[-1]["loss/colour"] < 25
    mesh = task.panels(result.field)["mesh"].mesh
    on_ball = np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1) < 0.1
    error = np.abs(mesh.colours - (mesh.vertices + 1) / 2)[on_ball]
    assert np.median(error) < 0.15
    batch = task.sample(torch.Generator().manual_seed(0))
    halves = [task.share(batch, i, 2) for i in range(2)]
    assert torch.equal(torch.cat([half.colours for half in halves]), batch.colours)
    assert "colour" not in plain.loss(Siren(3, 1, 8), plain.sample(torch.Generator()))


def test_colours_that_are_not_there_are_one_line(tmp_path):
    signal = {"path": str(ball(tmp_path, colours=False)), "count": 1000}
    with pytest.raises(SignalError, match=r"expected colours, got none: points with r, g and b"):
        SDF.open(SDFSettings.model_validate({"signal": {**signal, "colours": True}}))
    with pytest.raises((UserError, ValueError), match=r"loss\.colour: expected none without signal.colours, got 3"):
        SDFSettings.model_validate({"signal": signal, "loss": {"colour": 3.0}})
