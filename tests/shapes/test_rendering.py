"""The rasteriser against a slow one, and pictures whose content is known."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.shapes.mesh import Mesh
from hypersiren.shapes.picture import _nearest, render_mesh


def solid(mesh: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(mesh.vertices), np.asarray(mesh.faces).astype(np.int32), np.asarray(mesh.vertex_normals))


def shown(picture: np.ndarray) -> np.ndarray:
    """Which pixels are not background."""
    return np.abs(picture - picture[0, 0]).max(-1) > 0.02


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 5.0, 30.0, 200.0]))
def test_the_nearest_triangle_wins_at_every_pixel(seed, spread):
    generator = np.random.default_rng(seed)
    height, width, count = 20, 30, 12
    centres = generator.uniform(-5, 35, (count, 1, 2))
    corners = centres + generator.normal(size=(count, 3, 2)) * spread
    screen = np.concatenate([corners, generator.uniform(0.1, 1, (count, 3, 1))], 2).reshape(-1, 3)
    faces = np.arange(3 * count).reshape(count, 3)
    # Solved pixel by pixel and triangle by triangle.
    expected, margin = np.full(height * width, -1), np.full(height * width, np.inf)
    for pixel in range(height * width):
        best = -np.inf
        for face in range(count):
            a, b, c = screen[faces[face]]
            matrix = np.array([[*a[:2], 1], [*b[:2], 1], [*c[:2], 1]]).T
            weights = np.linalg.solve(matrix, [pixel % width + 0.5, pixel // width + 0.5, 1])
            margin[pixel] = min(margin[pixel], np.abs(weights).min())
            near = weights @ [a[2], b[2], c[2]]
            if (weights >= 0).all() and near > best:
                best, expected[pixel] = near, face
    pixel, face, weights = _nearest(screen, faces, height, width)
    found = np.full(height * width, -1)
    found[pixel] = face
    clear = margin > 1e-9
    np.testing.assert_array_equal(found[clear], expected[clear])
    np.testing.assert_allclose(weights.sum(1), 1)
    places = (weights[:, :, None] * screen[faces[face], :2]).sum(1)
    np.testing.assert_allclose(places, np.stack([pixel % width, pixel // width], 1) + 0.5, atol=1e-6)


@pytest.mark.parametrize("view", [(0, 0), (35, 20), (200, -60), (90, 90)])
@pytest.mark.parametrize("up", [0, 1, 2])
def test_a_ball_is_a_disc_from_everywhere(view, up):
    picture = render_mesh(solid(trimesh.creation.icosphere(4)), (120, 200), view, up=up)
    assert picture.shape == (120, 200, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    disc = shown(picture)
    rows, columns = np.flatnonzero(disc.any(1)), np.flatnonzero(disc.any(0))
    assert abs(np.ptp(rows) + 1 - 0.92 * 120) < 3
    assert abs(np.ptp(rows) - np.ptp(columns)) < 3
    assert abs(disc.sum() - np.pi / 4 * (np.ptp(rows) + 1) ** 2) < 0.02 * disc.sum()
    # Lit from above on the left.
    brightness = picture.mean(-1)
    assert brightness[40, 80] > brightness[80, 120] + 0.1


def test_left_right_up_and_down_are_so():
    """Seen from +x with z upwards, +y lies on the right; a long arm points there, a short one up."""
    arms = trimesh.util.concatenate(
        [
            trimesh.creation.box((0.2, 2, 0.2), trimesh.transformations.translation_matrix([0, 1, 0])),
            trimesh.creation.box((0.2, 0.2, 1), trimesh.transformations.translation_matrix([0, 0, 0.5])),
        ]
    )
    picture = shown(render_mesh(solid(arms), (100, 200), (0, 0)))
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    corner = picture[rows[0] : rows[0] + 10, columns[0] : columns[0] + 10]
    assert corner.mean() > 0.8  # the upright arm stands at the left
    assert picture[rows[-1] - 5, columns[-1] - 5]
    assert not picture[rows[0] + 5, columns[-1] - 5]


def test_near_things_hide_far_ones_and_walls_that_face_away_hide_nothing():
    ball = trimesh.creation.icosphere(3, radius=0.3)
    room = trimesh.creation.box((2, 2, 2))
    room.unmerge_vertices()  # so that edges are sharp
    outside = render_mesh(solid(trimesh.util.concatenate([ball, room])), (80, 80), (0, 0))
    room.invert()
    inside = render_mesh(solid(trimesh.util.concatenate([ball, room])), (80, 80), (0, 0))
    wall = render_mesh(solid(room), (80, 80), (0, 0))
    centre = np.s_[30:50, 30:50, 0]
    assert np.ptp(outside[centre]) < 0.01  # a wall, of one colour
    assert np.ptp(inside[centre]) > 0.05  # the ball
    assert np.ptp(wall[centre]) < 0.01  # the far wall


def test_a_cut_takes_the_top_off():
    tower = trimesh.util.concatenate(
        [trimesh.creation.box((1, 1, 1), trimesh.transformations.translation_matrix([0, 0, z])) for z in (0, 1.5, 3)]
    )
    assert shown(render_mesh(solid(tower), (90, 90), (0, 0))).any(0).sum() < 30
    assert shown(render_mesh(solid(tower), (90, 90), (0, 0), cut=0.3)).any(0).sum() > 70
    assert not shown(render_mesh(solid(tower), (90, 90), (0, 0), cut=0.0)).any()
