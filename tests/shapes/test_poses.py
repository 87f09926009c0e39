"""Poses: rotations are rotations, normals follow the surface, and the way back leads back."""

import pytest
import torch

from hypersiren.shapes.mesh import face_crosses
from hypersiren.shapes.sets.poses import random_poses
from hypersiren.shapes.sets.solids import solid_mesh


def some(count=5, seed=0, **arguments):
    return random_poses(count, torch.Generator().manual_seed(seed), **arguments)


@pytest.mark.parametrize("rotation", ["none", "vertical", "full"])
@pytest.mark.parametrize("up", [0, 1, 2])
def test_rotations_are_rotations_and_keep_what_they_shall(rotation, up):
    found = some(200, rotation=rotation, up=up).rotation
    torch.testing.assert_close(found @ found.mT, torch.eye(3).expand(200, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(200))
    moved = (found[:, :, up] - torch.eye(3)[up]).norm(dim=-1)
    assert (moved.max() < 1e-6) == (rotation != "full")
    other = found[:, :, (up + 1) % 3]
    # An even law leaves no direction in the mean.
    assert other.mean(0).norm() == pytest.approx(1.0 if rotation == "none" else 0.0, abs=0.2)


def test_posed_normals_are_those_of_the_posed_mesh():
    _, mesh = solid_mesh(3, resolution=16)
    poses = some(rotation="full", scale=(0.5, 1.0), stretch=1.5, shift=0.1)
    vertices = torch.from_numpy(mesh.vertices).double().expand(5, -1, -1)
    crosses = torch.from_numpy(face_crosses(mesh.vertices.astype(float), mesh.faces))
    large = crosses.norm(dim=-1) > 1e-6
    posed = poses.points(vertices.float()).double().numpy()
    found = poses.normals(crosses.float().expand(5, -1, -1))
    for i in range(5):
        expected = torch.from_numpy(face_crosses(posed[i], mesh.faces))
        expected = expected / expected.norm(dim=-1, keepdim=True)
        torch.testing.assert_close(found[i, large].double(), expected[large], atol=1e-3, rtol=0)


def test_the_way_back_and_the_ranges():
    poses = some(500, rotation="full", scale=(0.5, 0.8), stretch=1.25, shift=0.1)
    x = torch.rand(500, 7, 3)
    torch.testing.assert_close(poses.back(poses.points(x)), x, atol=1e-5, rtol=0)
    assert 0.5 / 1.25 <= poses.scale.min() < 0.45
    assert 0.95 < poses.scale.max() <= 0.8 * 1.25
    assert 0.09 < poses.shift.abs().max() <= 0.1
    assert torch.equal(poses.scale, some(500, rotation="full", scale=(0.5, 0.8), stretch=1.25, shift=0.1).scale)
