"""Distances on a raster: against those that are known, and sides where the nearest point cannot tell."""

import numpy as np
import pytest

from hypersiren.fields.coords import grid
from hypersiren.shapes.distances import distance_raster, look_at


def ball(count: int, radius: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    normals = np.random.default_rng(0).normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return radius * normals, normals


def box(count: int, half: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Points on a box, evenly by area."""
    rng, (a, b, c) = np.random.default_rng(0), half
    area = np.array([b * c, a * c, a * b])
    axis = rng.choice(3, count, p=area / area.sum())
    x = rng.uniform(-1, 1, (count, 3)) * half
    sign = rng.choice([-1.0, 1.0], count)
    rows = np.arange(count)
    x[rows, axis] = sign * np.array(half)[axis]
    normals = np.zeros_like(x)
    normals[rows, axis] = sign
    return x, normals


def centres(cells: int) -> np.ndarray:
    return grid((cells,) * 3).numpy().reshape((cells,) * 3 + (3,))


@pytest.mark.parametrize("count", [300, 10_000])
def test_a_ball(count):
    points, normals = ball(count)
    found = distance_raster(points, normals, 40, look_at(points, normals))
    expected = np.linalg.norm(centres(40), axis=-1) - 0.6
    near = abs(expected) < 0.1
    assert abs(found - expected)[near].max() < (0.05 if count == 300 else 0.01)
    assert (np.sign(found) == np.sign(expected))[abs(expected) > 0.05].all()
    assert abs(found - expected).mean() < 0.03


def test_a_thin_plate_is_inside_between_its_sheets():
    points, normals = box(20_000, (0.8, 0.8, 0.03))
    found = distance_raster(points, normals, 64, look_at(points, normals))
    x = centres(64)
    outside = np.maximum(abs(x) - (0.8, 0.8, 0.03), 0)
    expected = np.linalg.norm(outside, axis=-1) + np.minimum((abs(x) - (0.8, 0.8, 0.03)).max(-1), 0)
    assert (np.sign(found) == np.sign(expected))[abs(expected) > 0.025].all()


def test_noise_is_seen():
    points, normals = ball(20_000)
    noisy = points + 0.01 * np.random.default_rng(1).normal(size=points.shape)
    clean, found = look_at(points, normals), look_at(noisy, normals)
    assert clean.noise < 1e-4
    assert 0.003 < found.noise < 0.02
    assert abs(found.spacing - clean.spacing) < 0.3 * clean.spacing


def test_ways_from_a_sensor_are_free():
    points, normals = ball(4000)
    found = distance_raster(points, -normals, 32, look_at(points, -normals), np.zeros(3))
    radius = np.linalg.norm(centres(32), axis=-1)
    assert (found[radius < 0.5] > 0).all()
    assert (found[(radius > 0.7) & (radius < 0.9)] < 0).all()


@pytest.mark.parametrize("count", [10, 40])
def test_few_points(count):
    points, normals = ball(count)
    found = distance_raster(points, normals, 16, look_at(points, normals))
    assert np.isfinite(found).all()
    assert found[8, 8, 8] < 0 < found[0, 0, 0]
