"""Marching cubes: closed for every combination of cells, turned the right way, and where scikit-image's are."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.shapes.level_set.cubes import CORNERS, EDGE_AXIS, EDGE_CORNER, FACES, TABLE, triangles
from hypersiren.shapes.mesh import Mesh, components, is_watertight


def surface(inside: np.ndarray) -> Mesh:
    """The surface of a boolean volume, vertices halfway along the grid's edges; welded the slow way."""
    numbers: dict[tuple[int, ...], int] = {}
    faces = []
    for cell in itertools.product(*(range(n - 1) for n in inside.shape)):
        states = torch.tensor([[bool(inside[tuple(cell + corner)]) for corner in CORNERS.numpy()]])
        for edges in triangles(states)[1]:
            names = [(*(cell + CORNERS[EDGE_CORNER[e]].numpy()).tolist(), EDGE_AXIS[e].item()) for e in edges]
            faces.append([numbers.setdefault(name, len(numbers)) for name in names])
    vertices = np.array([np.array(name[:3]) + 0.5 * np.eye(3)[name[3]] for name in numbers]).reshape(-1, 3)
    return Mesh(vertices, np.array(faces, np.int32).reshape(-1, 3), vertices)


def volume(mesh: Mesh) -> float:
    """By the divergence theorem; positive if the normals point outwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**27 - 1))
def test_any_volume_has_a_closed_surface_turned_outwards(bits):
    inside = np.zeros((5, 5, 5), bool)
    inside[1:4, 1:4, 1:4] = np.array([bits >> i & 1 for i in range(27)]).reshape(3, 3, 3)
    if not bits:
        return
    mesh = surface(inside)
    assert is_watertight(mesh)
    assert volume(mesh) > 0


def test_inside_corners_that_touch_by_a_diagonal_are_two_parts():
    inside = np.zeros((4, 4, 4), bool)
    inside[1, 1, 1] = inside[2, 2, 1] = True
    mesh = surface(inside)
    assert components(mesh) == 2
    np.testing.assert_allclose(volume(mesh), 2 * 1 / 6)  # two octahedra of radius 1/2
    assert components(surface(~inside)) == 1  # what is outside hangs together instead


def test_the_table_of_cases():
    assert (TABLE[0] == -1).all()
    assert (TABLE[255] == -1).all()
    for case in range(256):
        inside = torch.tensor([bool(case >> c & 1) for c in range(8)])
        crossed = {e for e in range(12) if inside[EDGE_CORNER[e]] != inside[EDGE_CORNER[e] | 1 << EDGE_AXIS[e]]}
        assert set(TABLE[case].flatten().tolist()) - {-1} == crossed


def test_faces_are_seen_counterclockwise_from_outside():
    for face, (axis, side) in zip(FACES, itertools.product(range(3), (0, 1)), strict=True):
        corners = CORNERS[face].double()
        assert (corners[:, axis] == side).all()
        normal = torch.linalg.cross(corners[1] - corners[0], corners[2] - corners[1])
        assert normal[axis] == (1 if side else -1)
