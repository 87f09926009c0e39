"""Surfaces of fields that are known, the sparse way against the dense one, and against scikit-image."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.errors import UserError
from hypersiren.fields.siren import Siren
from hypersiren.shapes.level_set import extract as level_sets
from hypersiren.shapes.level_set import slabs as level_slabs
from hypersiren.shapes.level_set.extract import extract
from hypersiren.shapes.mesh import Mesh, components, is_watertight, trim
from hypersiren.shapes.surface import Placement, surface


def sphere(radius=0.5, centre=(0.0, 0.0, 0.0)):
    return lambda x: (x - x.new_tensor(centre)).norm(dim=-1, keepdim=True) - radius


def torus(x):
    ring = x[..., :2].norm(dim=-1, keepdim=True) - 0.55
    return torch.cat([ring, x[..., 2:]], -1).norm(dim=-1, keepdim=True) - 0.2


def two_balls(x):
    return torch.minimum(sphere(0.3, (-0.5, 0.1, 0.2))(x), sphere(0.11, (0.61, 0.33, -0.4))(x))


def gyroid(x):
    u, v, w = (6 * x).unbind(-1)
    return (u.sin() * v.cos() + v.sin() * w.cos() + w.sin() * u.cos()).unsqueeze(-1)


def steep_outside(x):
    """Nearly flat around its zero, so that its gradient says little."""
    return sphere(0.4)(x) ** 3


def step(x):
    """An occupancy: no gradient anywhere."""
    return torch.sign(sphere(0.45, (0.1, 0.0, 0.0))(x))


def small_and_flat(x):
    """A ball of 0.3 whose inside hides beneath a plateau without a gradient: the first test must be wrong."""
    return torch.where(sphere(0.3)(x) < 0, sphere(0.3)(x), 0.2 + 0 * sphere(0.3)(x))


FIELDS = {
    "sphere": sphere(),
    "torus": torus,
    "two_balls": two_balls,
    "gyroid": gyroid,
    "steep_outside": steep_outside,
    "step": step,
    "small_and_flat": small_and_flat,
    "siren": Siren(3, 1, 16, 1, generator=torch.Generator().manual_seed(0)).double(),
}


def canonical(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in order of their places, and faces in terms of them, in order, each from its least vertex on."""
    order = np.lexsort(mesh.vertices.T)
    faces = order.argsort()[mesh.faces]
    first = faces.argmin(1)
    faces = np.stack([faces[np.arange(len(faces)), (first + i) % 3] for i in range(3)], 1)
    return mesh.vertices[order], faces[np.lexsort(faces.T)]


def dense(field, resolution, monkeypatch, *box, **settings):
    with monkeypatch.context() as patch:
        patch.setattr(level_sets, "_FACTORS", ())
        found = extract(field, resolution, *box, **settings)
    assert found.evaluations == found.dense
    return found


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("resolution", [40, 97])
def test_sparse_equals_dense(field, resolution, monkeypatch):
    found = extract(field, resolution, dtype=torch.float64)
    expected = dense(field, resolution, monkeypatch, dtype=torch.float64)
    for one, other in zip(canonical(found.mesh), canonical(expected.mesh), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("points", [1, 20_000])
def test_slabs_leave_no_seams(points, monkeypatch):
    whole = extract(two_balls, 61, dtype=torch.float64)
    monkeypatch.setattr(level_slabs, "_SLAB_POINTS", points)
    slabs = extract(two_balls, 61, dtype=torch.float64)
    assert slabs.evaluations == whole.evaluations
    for one, other in zip(canonical(slabs.mesh), canonical(whole.mesh), strict=True):
        np.testing.assert_array_equal(one, other)
    assert is_watertight(slabs.mesh)
    assert components(slabs.mesh) == 2


@pytest.mark.parametrize("field", [sphere(), torus, gyroid], ids=["sphere", "torus", "gyroid"])
def test_vertices_are_those_of_scikit_image(field):
    from skimage.measure import marching_cubes

    n, lower, upper = 24, np.array([-0.9, -1.0, -0.8]), np.array([0.9, 0.8, 1.0])
    axes = [torch.linspace(a, b, n + 1, dtype=torch.float64) for a, b in zip(lower, upper, strict=True)]
    volume = field(torch.cartesian_prod(*axes)).view(n + 1, n + 1, n + 1).numpy()
    expected, *_ = marching_cubes(volume, 0.0, spacing=(upper - lower) / n, method="lorensen")
    found = extract(field, n, lower, upper, dtype=torch.float64).mesh.vertices
    assert len(found) == len(expected)
    order, other = (np.lexsort(v.round(4).T) for v in (found, expected + lower))
    np.testing.assert_allclose(found[order], expected[other] + lower, atol=2e-5)


@settings(deadline=None, max_examples=30)
@given(
    resolution=st.integers(24, 90),
    centre=st.tuples(*[st.floats(-3, 3)] * 3),
    radius=st.floats(0.2, 2.0),
    room=st.tuples(*[st.floats(1.2, 2.0)] * 6),
)
def test_spheres_lie_where_they_should(resolution, centre, radius, room):
    """Within h² / R of the sphere and without a shift, in boxes of any shape around it."""
    centre, room = np.array(centre), np.array(room)
    lower, upper = centre - radius * room[:3], centre + radius * room[3:]
    found = extract(sphere(radius, tuple(centre)), resolution, lower, upper, dtype=torch.float64)
    h = (upper - lower).max() / resolution
    offsets = found.mesh.vertices - centre
    radii = np.linalg.norm(offsets, axis=1)
    # Cells may be longer than h by as much as rounding their number makes them.
    assert np.abs(radii - radius).max() < 0.4 * h**2 / radius
    a, b, c = (offsets[found.mesh.faces[:, i]] for i in range(3))
    volumes = (a * np.cross(b, c)).sum(1) / 6
    centroid = (volumes[:, None] * (a + b + c) / 4).sum(0) / volumes.sum()
    assert np.abs(centroid).max() < 0.05 * h**2 / radius
    np.testing.assert_allclose(found.mesh.normals, offsets / radii[:, None], atol=1e-6)
    assert is_watertight(found.mesh)


def test_the_error_falls_with_the_square_of_the_cells():
    errors = []
    for resolution in (20, 40, 80, 160):
        mesh = extract(sphere(), resolution, dtype=torch.float64).mesh
        errors.append(np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.5).mean())
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (np.abs(rates - 2) < 0.25).all()


@pytest.mark.parametrize("resolution", [31, 64, 150])
@pytest.mark.parametrize("name", ["two_balls", "gyroid", "step"])
def test_only_where_it_matters(name, resolution, monkeypatch):
    """A ball around a place, through which the surface runs: within it the same mesh, for fewer evaluations."""
    place, reach = np.array([[-0.2, 0.1, 0.2]]), 0.3

    def where(centres, radius):
        return (centres - centres.new_tensor(place[0])).norm(dim=-1) <= reach + radius

    whole = dense(FIELDS[name], resolution, monkeypatch, dtype=torch.float64)
    found = extract(FIELDS[name], resolution, dtype=torch.float64, where=where)
    expected, got = (trim(each.mesh, place, reach) for each in (whole, found))
    assert len(expected.faces)
    for a, b in zip(canonical(expected), canonical(got), strict=True):
        np.testing.assert_array_equal(a, b)
    assert found.evaluations < 0.4 * whole.evaluations


def test_few_evaluations_each_point_once():
    asked = []

    def counted(x):
        asked.append(x)
        return sphere()(x)

    found = extract(counted, 256)
    assert found.dense == 257**3
    assert found.evaluations < 0.05 * found.dense
    corners = torch.cat([x for x in asked if not x.requires_grad])
    index = (corners.double() + 1) * 128
    corners = corners[(index - index.round()).abs().amax(1) < 1e-3]
    # Centres of blocks lie on grid points too; those were asked for a second time, with their gradient.
    assert len(corners.unique(dim=0)) > 0.6 * found.evaluations


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(4, 9))
def test_noise_is_watertight(seed, resolution):
    """Values without any order, many of them exactly at the level, outside at the box's sides."""
    values = torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, [resolution + 1] * 3)).double()
    for axis in range(3):
        values.index_fill_(axis, torch.tensor([0, resolution]), 1.0)

    def noise(x):
        u, v, w = ((x + 1) / 2 * resolution).round().long().clamp(0, resolution).unbind(-1)
        return values[u, v, w].unsqueeze(-1) + 0 * x[..., :1]

    if (values < 0).any():
        found = extract(noise, resolution, dtype=torch.float64)
        assert is_watertight(found.mesh)
        assert len(np.unique(found.mesh.vertices, axis=0)) == len(found.mesh.vertices)


def test_single_precision_is_watertight_and_has_no_vertex_twice():
    mesh = extract(Siren(3, 1, 16, 1, generator=torch.Generator().manual_seed(1)), 64).mesh
    assert mesh.vertices.dtype == mesh.normals.dtype == np.float32
    inner = (np.abs(mesh.vertices) < 1).all(1)
    assert inner.mean() > 0.5
    assert len(np.unique(mesh.vertices, axis=0)) == len(mesh.vertices)
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)


def test_another_level():
    mesh = extract(sphere(0.0), 32, level=0.7, dtype=torch.float64).mesh
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.7, atol=1e-3)


def test_cells_are_nearly_cubes_in_any_box():
    found = extract(sphere(0.3), 20, (-0.5, -0.5, -0.5), (0.5, 1.5, 0.52))
    assert found.dense == 11 * 21 * 11


def test_surfaces_are_open_at_the_sides_of_the_box():
    mesh = extract(lambda x: x[..., :1] - 0.123, 10, dtype=torch.float64).mesh
    assert not is_watertight(mesh)
    np.testing.assert_allclose(mesh.vertices.min(0), [0.123, -1, -1])
    np.testing.assert_allclose(mesh.vertices.max(0), [0.123, 1, 1])
    np.testing.assert_array_equal(mesh.normals, [[1, 0, 0]] * 121)


def test_progress_rises_to_one(monkeypatch):
    monkeypatch.setattr(level_slabs, "_SLAB_POINTS", 10_000)
    shares = []
    extract(sphere(), 32, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 3


def test_what_has_no_surface():
    with pytest.raises(UserError, match=r"a surface where the field is 0, got values from 0\.\d+ to 1\.\d+ in the box"):
        extract(sphere(-0.2), 16)
    with pytest.raises(UserError, match=r"where the field is 3, got values from -0\.\d+ to 1\.\d+ in"):
        extract(sphere(0.5), 64, level=3.0)
    with pytest.raises(UserError, match="finite values, got NaN or infinity"):
        extract(lambda x: sphere()(x) * math.nan, 16)
    with pytest.raises(ValueError, match=r"values \(\d+, 1\), got \(\d+, 3\)"):
        extract(lambda x: x, 16)
    with pytest.raises(ValueError, match="lower < upper"):
        extract(sphere(), 16, (0, 0, 0), (1, 0, 1))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        extract(sphere(), 0)


def test_a_surface_out_of_reach_is_none():
    seen = Placement(1.0, [0.0] * 3, [-1.0] * 3, [1.0] * 3, reach=0.05, seen=[[0.0, 0.0, 0.57]])
    with pytest.raises(UserError, match=r"a surface within 0\.05 of the points, got none"):
        surface(sphere(0.5), seen, 20)
    assert len(surface(sphere(0.5), replace(seen, reach=0.3), 20).mesh.faces) > 0
