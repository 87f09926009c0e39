"""Colours of a mesh: from a field that has them, in the files, and in the picture."""

import numpy as np
import pytest
import torch
import trimesh

from hypersiren.shapes.files.mesh import write_mesh
from hypersiren.shapes.picture import render_mesh
from hypersiren.shapes.surface import Placement, coloured, surface


def field(x: torch.Tensor) -> torch.Tensor:
    """A ball whose colour is its place."""
    return torch.cat([x.norm(dim=-1, keepdim=True) - 0.5, 2 * x], dim=-1)


PLACE = Placement(scale=3.0, centre=[100.0, 0.0, 0.0], lower=[-0.6] * 3, upper=[0.6] * 3)


@pytest.mark.parametrize("ending", ["ply", "obj", "glb"])
def test_a_field_with_colours_gives_a_mesh_with_colours(tmp_path, ending):
    mesh = surface(field, PLACE, 24).mesh
    assert mesh.colours is None
    painted = coloured(mesh, field)
    np.testing.assert_allclose(painted.colours, mesh.vertices + 0.5, atol=0.01)
    write_mesh(tmp_path / f"a.{ending}", painted.moved(3.0, np.array(PLACE.centre)))
    read = trimesh.load_mesh(tmp_path / f"a.{ending}", process=False)
    np.testing.assert_allclose(read.visual.vertex_colors[:, :3] / 255, painted.colours, atol=0.003)
    np.testing.assert_allclose(read.vertices, painted.moved(3.0, np.array(PLACE.centre)).vertices, atol=1e-5)
    write_mesh(tmp_path / f"b.{ending}", mesh)
    assert not trimesh.load_mesh(tmp_path / f"b.{ending}", process=False).visual.defined


def test_the_picture_shows_them():
    mesh = coloured(surface(field, PLACE, 24).mesh, field)
    picture = render_mesh(mesh, (60, 80), view=(0, 0))  # from +x, with y to the right and z upwards
    left, right, low, high = picture[30, 20], picture[30, 60], picture[50, 40], picture[10, 40]
    assert right[1] / right[0] > 1.5 * left[1] / left[0]
    assert high[2] / high[0] > 1.5 * low[2] / low[0]


def test_a_field_without_colours_changes_nothing():
    mesh = surface(lambda x: field(x)[..., :1], PLACE, 12).mesh
    assert coloured(mesh, lambda x: field(x)[..., :1]) is mesh
    with pytest.raises(ValueError, match=r"got \(216, 2\)"):
        surface(lambda x: field(x)[..., :2], PLACE, 12)
