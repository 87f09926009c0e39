"""Sets of shapes: splits, sides, and folders with all that folders hold."""

import numpy as np
import pytest
import torch

from hypersiren.completion.shapes.task import sides
from hypersiren.shapes.files.mesh import read_closed, write_mesh
from hypersiren.shapes.mesh import Mesh, face_crosses
from hypersiren.shapes.sets.settings import RADIUS
from hypersiren.shapes.sets.shapes import load_shapes, make_shapes
from hypersiren.shapes.sets.solids import solid_mesh
from hypersiren.signals.files import SignalError


def ball(resolution=24):
    from hypersiren.shapes.level_set.extract import extract

    return extract(lambda x: x.norm(dim=-1, keepdim=True) - 0.7, resolution).mesh


def write_off(path, vertices, faces):
    lines = ["OFF", f"{len(vertices)} {len(faces)} 0"]
    lines += [" ".join(map(str, row)) for row in vertices.tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deeper").mkdir()
    for i in range(4):
        write_off(
            tmp_path / f"{i}.off", solid_mesh(i, resolution=12)[1].vertices, solid_mesh(i, resolution=12)[1].faces
        )
    write_mesh(tmp_path / "deeper" / "ball.ply", ball(12))
    opened = ball(12)
    write_mesh(tmp_path / "opened.obj", Mesh(opened.vertices, opened.faces[3:], opened.normals))
    (tmp_path / "broken.off").write_text("OFF\nnonsense")
    (tmp_path / "notes.txt").write_text("no mesh")
    return tmp_path


def test_the_split_is_by_shape_and_seeded():
    splits = load_shapes("solids", count=8)
    names = [set(s.names) for s in splits]
    assert [len(n) for n in names] == [6, 1, 1]
    assert len(set().union(*names)) == 8
    again = load_shapes("solids", count=8)
    assert all(torch.equal(a.points, b.points) and a.names == b.names for a, b in zip(splits, again, strict=True))
    assert load_shapes("solids", count=8, seed=1)[0].names != splits[0].names


def test_a_folder_of_meshes_names_what_it_skips(folder):
    splits = load_shapes("meshes", folder)
    assert sorted(name for s in splits for name in s.names) == ["0.off", "1.off", "2.off", "3.off", "deeper/ball.ply"]
    skipped = sorted(splits[0].skipped)
    assert len(skipped) == 2
    assert skipped[0].startswith("broken.off: broken or truncated")
    assert skipped[1].startswith("opened.obj: expected a closed mesh")
    assert sum(map(len, load_shapes("meshes", folder, count=3))) == 3


def test_folders_of_meshes_are_their_splits(folder, caplog):
    for name, meshes in (("Train", ("0", "1", "2")), ("testing", ("3",))):
        (folder / name).mkdir()
        for each in meshes:
            (folder / f"{each}.off").rename(folder / name / f"{each}.off")
    caplog.set_level("INFO", "hypersiren")
    names = [s.names for s in load_shapes("meshes", folder)]
    assert sorted(names[0] + names[1]) == ["Train/0.off", "Train/1.off", "Train/2.off"]
    assert names[2] == ("testing/3.off",)
    assert (
        "testing is the split test, and val is 15 % of Train, at random: train 2, val 1, test 1 meshes" in caplog.text
    )
    (folder / "valid").mkdir()
    (folder / "valid" / "twin.off").write_bytes((folder / "Train" / "0.off").read_bytes())
    names = [s.names for s in load_shapes("meshes", folder)]
    assert [len(n) for n in names] == [3, 1, 1]
    assert "1 files of val and test are in train too, such as valid/twin.off = Train/0.off" in caplog.text
    (folder / "valid" / "twin.off").write_text("nonsense")
    with pytest.raises(SignalError, match=r"expected a closed mesh .* got 0; valid/twin.off: "):
        load_shapes("meshes", folder)


def test_too_few_meshes_are_an_error_of_one_line(folder, tmp_path):
    for i in range(3):
        (folder / f"{i}.off").unlink()
    with pytest.raises(SignalError, match=r"at least 3 closed meshes .* got 2; .*"):
        load_shapes("meshes", folder)
    with pytest.raises(SignalError, match="no such folder"):
        load_shapes("meshes", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SignalError, match=r"got 0$"):
        load_shapes("meshes", tmp_path / "empty")


def test_a_mesh_turned_inside_out_is_turned_back_and_repeated_vertices_are_joined(tmp_path):
    mesh = ball(12)
    soup = mesh.vertices[mesh.faces[:, ::-1]].reshape(-1, 3)
    write_off(tmp_path / "soup.off", soup, np.arange(len(soup)).reshape(-1, 3))
    vertices, faces = read_closed(tmp_path / "soup.off")
    assert len(vertices) == len(mesh.vertices)
    assert (vertices[faces[:, 0]] * face_crosses(vertices, faces)).sum() > 0


def test_shapes_have_one_size_and_sides_are_right():
    mesh = ball()
    shapes = make_shapes([("ball", mesh.vertices, mesh.faces)])
    assert shapes.points.norm(dim=-1).max() <= RADIUS + 1e-6
    radii = shapes.near[0].norm(dim=-1)
    far = (radii - RADIUS).abs() > 0.01  # of a mesh's facets the ball's radius knows nothing
    assert torch.equal(shapes.side[0].sign()[far], (radii - RADIUS).sign()[far])
    x = 2 * torch.rand(1, 5000, 3, generator=torch.Generator().manual_seed(0)) - 1
    side, distance = sides(shapes.height, x)[0], x[0].norm(dim=-1) - RADIUS
    assert torch.equal(side[side != 0], distance.sign()[side != 0])
    assert (side == 0).float().mean() < 0.15
    assert (distance[side == 0].abs() < 0.1).all()
