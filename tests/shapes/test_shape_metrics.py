"""Measures of shapes against brute force and against surfaces whose distance is known."""

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.fields.siren import Siren
from hypersiren.shapes.level_set.extract import extract
from hypersiren.shapes.mesh import Mesh, components, is_watertight, sample_surface
from hypersiren.shapes.metrics import compare_surfaces, eikonal_error


def mesh_of(vertices, faces) -> Mesh:
    vertices = np.asarray(vertices, float)
    return Mesh(vertices, np.asarray(faces, np.int32).reshape(-1, 3), vertices)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30), st.floats(0.05, 2.0))
def test_all_distances_by_brute_force(seed, n, m, threshold):
    generator = np.random.default_rng(seed)
    points, reference = generator.normal(size=(n, 3)), generator.normal(size=(m, 3))
    normals, reference_normals = unit(generator.normal(size=(n, 3))), unit(generator.normal(size=(m, 3)))
    distances = np.linalg.norm(points[:, None] - reference, axis=-1)
    there, back = distances.min(1), distances.min(0)
    found = compare_surfaces(points, normals, reference, reference_normals, threshold)
    assert np.isclose(found.accuracy, there.mean())
    assert np.isclose(found.completeness, back.mean())
    assert np.isclose(found.chamfer_l1, there.mean() / 2 + back.mean() / 2)
    assert np.isclose(found.chamfer_l2, (there**2).mean() / 2 + (back**2).mean() / 2)
    precision, recall = (there < threshold).mean(), (back < threshold).mean()
    expected = 2 / (1 / precision + 1 / recall) if precision and recall else 0
    assert np.isclose(found.f_score, expected)
    one = (normals * reference_normals[distances.argmin(1)]).sum(1).mean()
    other = (reference_normals * normals[distances.argmin(0)]).sum(1).mean()
    assert np.isclose(found.normal_consistency, (one + other) / 2)


def test_balls_of_two_sizes():
    small = trimesh.creation.icosphere(5)
    points, normals = sample_surface(small.vertices, small.faces, 20_000, seed=0)
    other, other_normals = sample_surface(small.vertices * 1.1, small.faces, 20_000, seed=1)
    found = compare_surfaces(points, normals, other, other_normals, threshold=0.15)
    assert found.chamfer_l1 == pytest.approx(0.1, abs=0.004)
    assert found.chamfer_l2 == pytest.approx(0.01, abs=0.001)
    assert found.f_score == 1
    assert found.normal_consistency > 0.999
    assert compare_surfaces(points, -normals, other, other_normals, threshold=0.15).normal_consistency < -0.999
    assert compare_surfaces(points, normals, other, other_normals, threshold=0.09).f_score == 0
    with pytest.raises(ValueError, match="points on both surfaces, got 0 and 20000"):
        compare_surfaces(points[:0], normals[:0], other, other_normals, 0.1)


def test_the_eikonal_error_of_fields_that_are_known():
    x = torch.rand(1000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    assert eikonal_error(lambda x: x.norm(dim=-1, keepdim=True), x, chunk=64) < 1e-6
    siren = Siren(3, 1, 16, 1)
    expected = (siren.jet(x).gradient.norm(dim=-1) - 1).abs().mean().item()
    assert eikonal_error(siren, x, chunk=300) == pytest.approx(expected, rel=1e-5)


def test_watertight_or_not():
    ball = trimesh.creation.icosphere(1)
    faces = ball.faces
    assert is_watertight(mesh_of(ball.vertices, faces))
    for wrong in (
        faces[1:],  # a hole
        np.vstack([faces, faces[:1]]),  # a face twice
        np.vstack([faces, faces[:1, ::-1]]),  # and once more from behind
        np.vstack([faces[1:], faces[:1, ::-1]]),  # turned
        np.vstack([faces, [[0, 0, 1], [1, 0, 0]]]),  # without an area
        np.vstack([faces, [[0, 0, 50], [0, 0, 51]]]),
        faces[:0],
    ):
        assert not is_watertight(mesh_of(np.vstack([ball.vertices, ball.vertices]), wrong))
    # Two faces back to back are closed.
    assert is_watertight(mesh_of(np.eye(3), [[0, 1, 2], [0, 2, 1]]))


def test_components_count_what_hangs_together():
    ball = trimesh.creation.icosphere(1)
    n = len(ball.vertices)
    two = np.vstack([ball.faces, ball.faces + n])
    vertices = np.vstack([ball.vertices, ball.vertices + 5, [[9, 9, 9]]])
    assert components(mesh_of(ball.vertices, ball.faces)) == 1
    assert components(mesh_of(vertices, two)) == 2
    assert components(mesh_of(vertices, ball.faces)) == 1
    assert components(mesh_of(vertices, two[:0])) == 0


def test_an_extracted_ball_is_near_the_true_one():
    mesh = extract(lambda x: x.norm(dim=-1, keepdim=True) - 0.5, 48).mesh
    points, normals = sample_surface(mesh.vertices, mesh.faces, 20_000)
    true = unit(np.random.default_rng(0).normal(size=(20_000, 3)))
    found = compare_surfaces(points, normals, true / 2, true, threshold=0.05)
    # Random samples of an area pi have distances of about 0.5 sqrt(pi / 20000) even on equal surfaces.
    assert found.chamfer_l1 == pytest.approx(0.5 * np.sqrt(np.pi / 20_000), rel=0.1)
    assert found.normal_consistency > 0.995
    assert is_watertight(mesh)
    assert components(mesh) == 1
