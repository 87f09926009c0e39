"""Polygons as triangles: fans where these lie inside, else ears that are cut off (Meisters 1975). Imports no torch.

A fan of a polygon that is not convex covers what lies outside of it: an L becomes a solid with a wall too many.

Symbols: V vertices, P polygons, T corners of all polygons, F triangles, N corners of one polygon.
"""

import numpy as np
from jaxtyping import Float, Int

from hypersiren.signals.files import SignalError

MOST = 5000
"""Corners of a polygon that is not convex; to cut its ears takes a time that grows with their square."""


def triangulate(
    vertices: Float[np.ndarray, "V 3"], corners: Int[np.ndarray, " T"], counts: Int[np.ndarray, " P"]
) -> Int[np.ndarray, "F 3"]:
    """Triangles of polygons, in the order of these, each turned as its polygon is.

    A polygon that is nearly flat is looked at along its normal (Newell's, twice the area long).

    Args:
        vertices: Where the vertices are.
        corners: The vertices of all polygons, one after the other.
        counts: The number of corners of each; fewer than three give no triangle.

    Raises:
        SignalError: If a corner is no vertex, or a polygon that is not convex has more than 5000 corners.

    Example:
        >>> arrow = np.array([[0, 0, 0], [2, -1, 0], [1, 0, 0], [2, 1, 0.0]])
        >>> triangulate(arrow, np.array([1, 2, 3, 0]), np.array([4])).tolist()
        [[0, 1, 2], [2, 3, 0]]
    """
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(vertices):
        raise SignalError(
            f"broken or truncated mesh: expected faces of {len(vertices)} vertices, from 0 on, got {corners.min()} to "
            f"{corners.max()}"
        )
    ends = counts.cumsum()
    sizes = np.maximum(counts - 2, 0)
    places = sizes.cumsum() - sizes  # where the triangles of each polygon begin
    faces = np.empty((int(sizes.sum()), 3), np.int64)
    for count in np.unique(counts[counts > 2]):
        which = np.flatnonzero(counts == count)
        for part in np.array_split(which, -(-len(which) * int(count) // 1_000_000)):
            rows = corners[(ends[part] - count)[:, None] + np.arange(count)]
            fans = np.stack([rows[:, :1].repeat(count - 2, 1), rows[:, 1:-1], rows[:, 2:]], 2)
            if count > 3:
                for i in np.flatnonzero(~_fits(vertices, rows, fans)):
                    fans[i] = _cut_ears(vertices, rows[i])
            faces[places[part][:, None] + np.arange(count - 2)] = fans
    return faces


def _fits(vertices: np.ndarray, rows: Int[np.ndarray, "P N"], fans: Int[np.ndarray, "P M 3"]) -> np.ndarray:
    """Whether all triangles of each fan turn as the polygon does, or the polygon has no area that could be cut."""
    a, b, c = (vertices[fans[:, :, i]] for i in range(3))
    with np.errstate(all="ignore"):
        crosses = np.cross(b - a, c - a)  # (P, M, 3)
        whole = crosses.sum(1)
        square = (whole**2).sum(1)
        share = (crosses * whole[:, None]).sum(2)
        fits = (share > 1e-9 * square[:, None]).all(1)
        return fits | ~(square > 0) | ~np.isfinite(square)


def _cut_ears(vertices: Float[np.ndarray, "V 3"], polygon: Int[np.ndarray, " N"]) -> Int[np.ndarray, "M 3"]:
    """Triangles of one polygon: a corner with nothing in it is cut off, again and again."""
    if len(polygon) > MOST:
        raise SignalError(
            f"a polygon of {len(polygon)} corners that is not convex, more than the {MOST} that are cut into triangles "
            "here: write the mesh as triangles"
        )
    points = vertices[polygon] - vertices[polygon[0]]
    points = points / np.abs(points).max()
    normal = np.cross(points, np.roll(points, -1, 0)).sum(0)
    normal /= np.linalg.norm(normal)
    right = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    right /= np.linalg.norm(right)
    flat = points @ np.stack([right, np.cross(normal, right)], 1)
    left = list(range(len(polygon)))
    found, at = [], 0
    while len(left) > 3:
        # Of a polygon that crosses itself there may be no ear: then the next corner that turns the right way goes.
        tried = range(at, at + len(left))
        ear = next((i % len(left) for i in tried if _is_ear(flat, left, i % len(left))), None)
        if ear is None:
            ear = next((i % len(left) for i in tried if _turn(flat, left, i % len(left)) > 0), at % len(left))
        found.append((left[ear - 1], left[ear], left[(ear + 1) % len(left)]))
        del left[ear]
        at = ear  # on from here, so that thin slivers do not all meet in one corner
    return polygon[np.array([*found, tuple(left)])]


def _turn(flat: np.ndarray, left: list[int], i: int) -> float:
    """Twice the area of the triangle at a corner, negative where the polygon turns the other way."""
    (ax, ay), (bx, by), (cx, cy) = (flat[left[k]] for k in (i - 1, i, (i + 1) % len(left)))
    return float((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))


def _is_ear(flat: Float[np.ndarray, "N 2"], left: list[int], i: int) -> bool:
    """Whether the triangle at a corner holds no other corner, on its new side neither."""
    if _turn(flat, left, i) <= 1e-12:
        return False
    ends = left[i - 1], left[i], left[(i + 1) % len(left)]
    a, b, c = (flat[k] for k in ends)
    others = flat[left]
    # A place that occurs twice, as where a polygon runs into a hole and back, is no obstacle to itself.
    others = others[(others != a).any(1) & (others != b).any(1) & (others != c).any(1)]
    inside = np.ones(len(others), bool)
    for p, q in ((a, b), (b, c), (c, a)):
        inside &= (q[0] - p[0]) * (others[:, 1] - p[1]) - (q[1] - p[1]) * (others[:, 0] - p[0]) >= -1e-12
    return not inside.any()
