"""The solids that are made here are closed, one part each, and differ."""

import numpy as np
import pytest

from hypersiren.shapes.mesh import components, face_crosses, is_watertight
from hypersiren.shapes.sets.solids import KINDS, solid_mesh


@pytest.mark.parametrize("index", range(12))
def test_solids_are_closed_with_normals_outwards(index):
    name, mesh = solid_mesh(index, resolution=24)
    assert name == f"{list(KINDS)[index % 6]}-{index:03}"
    assert is_watertight(mesh)
    assert components(mesh) == 1
    assert (mesh.vertices[mesh.faces[:, 0]] * face_crosses(mesh.vertices, mesh.faces)).sum() > 0
    assert np.isfinite(mesh.normals).all()


def test_number_and_seed_decide():
    again, other, seeded = (solid_mesh(i, s, 16)[1] for i, s in ((0, 0), (6, 0), (0, 1)))
    first = solid_mesh(0, 0, 16)[1]
    assert np.array_equal(first.vertices, again.vertices)
    assert first.vertices.shape != other.vertices.shape or not np.allclose(first.vertices, other.vertices)
    assert first.vertices.shape != seeded.vertices.shape or not np.allclose(first.vertices, seeded.vertices)
