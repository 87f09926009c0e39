"""Points with normals as a description of inside and outside: sides, heights, distances and order."""

import logging

import numpy as np
from jaxtyping import Float, Int

LOG = logging.getLogger(__name__)

_CELLS = 128
"""Cells along the longest side of the grid by which the nearest point of a far place is found."""

_FEW = 5_000
"""Points from which on that grid is made."""

_AT_ONCE = 20_000


def from_nearest(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], x: Float[np.ndarray, "M 3"]
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """The distance of each x to the nearest point, and its height above the plane there."""
    distance, nearest = find_nearest(points, x)
    return distance, ((x - points[nearest]) * normals[nearest]).sum(1)


def find_nearest(
    points: Float[np.ndarray, "N 3"], x: Float[np.ndarray, "M 3"]
) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """The distance of each x to the nearest point, and which one that is.

    In parts: a search in one piece hears no Ctrl-C, and takes seconds where many x are far from the points.

    Example:
        >>> distance, nearest = find_nearest(np.eye(3), np.array([[0.0, 0.0, 3.0]]))
        >>> distance.tolist(), nearest.tolist()
        ([2.0], [2])
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    parts = [tree.query(x[start : start + _AT_ONCE], workers=-1) for start in range(0, len(x), _AT_ONCE)]
    if not parts:
        return np.empty(0), np.empty(0, np.int64)
    distances, nearest = zip(*parts, strict=True)
    return np.concatenate(distances), np.concatenate(nearest)


SIGMA = 0.02
"""Standard deviation of a near point's place around its surface point, where the longest side is 1.8 long."""


def facing(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], x: Float[np.ndarray, "M 3"]
) -> Float[np.ndarray, " M"]:
    """The cosine between the normal of a point nearest to each x and the way there: its sign tells the side of x.

    Far from a surface a k-d tree has to look at most of the points: 10,000 times as long as near it, for half a million
    on a plane. So the way to a far x is followed from the surface, for the few cells of a grid by which that grid may
    be wrong on the nearest point. Nothing lies on the rest of the way, and the point nearest to its start is one of
    those nearest to x, up to these few cells. Its side is that of x.

    Example:
        >>> flat, upwards = np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
        >>> facing(flat, upwards, np.array([[0.0, 0.0, 2.0], [0.0, 0.0, -0.1], [5.0, 0.0, 0.0]])).tolist()
        [1.0, -1.0, 0.0]
    """
    from scipy.spatial import cKDTree

    if len(points) < _FEW:
        return cosines(*from_nearest(points, normals, x))
    tree, cosine = cKDTree(points), np.empty(len(x))
    cells = _NearestCells(points, x)
    order = space_filling(x).argsort(kind="stable")  # near places visit the same parts of the tree
    for start in range(0, len(x), _AT_ONCE):
        LOG.debug("telling sides: %s of %s places", f"{start:,}", f"{len(x):,}")
        rows = order[start : start + _AT_ONCE]
        place = x[rows]
        way = place - cells.point(place)
        length = np.linalg.norm(way, axis=1, keepdims=True)
        asked = place - way * np.maximum(0, 1 - 4 * cells.size / np.maximum(length, 1e-30))
        nearest = tree.query(asked, workers=-1)[1]
        way = place - points[nearest]
        cosine[rows] = cosines(np.linalg.norm(way, axis=1), (way * normals[nearest]).sum(1))
    return cosine


class _NearestCells:
    """A grid over points and places: for any of the places a point that is at most 2 sqrt(3) cells too far.

    For the centre of each cell the nearest centre of a cell with a point is exact (a distance transform); from a place
    to its centre, and from that one to the point, it is half a diagonal each, and twice that is how wrong it can be.
    """

    def __init__(self, points: Float[np.ndarray, "N 3"], x: Float[np.ndarray, "M 3"]):
        from scipy.ndimage import distance_transform_edt

        self.lower = np.minimum(points.min(0), x.min(0))
        sides = np.maximum(points.max(0), x.max(0)) - self.lower
        self.size = float(sides.max()) / _CELLS or 1.0
        self.counts = np.floor(sides / self.size).astype(int) + 1
        cell = self._cell(points)
        empty = np.ones(self.counts.prod(), bool)
        empty[cell] = False
        kept = np.empty(len(empty), np.int64)
        kept[cell] = np.arange(len(points))
        places = distance_transform_edt(empty.reshape(self.counts), return_distances=False, return_indices=True)
        self.kept = points[kept[np.ravel_multi_index(tuple(places.reshape(3, -1)), self.counts)]]

    def _cell(self, x: Float[np.ndarray, "M 3"]) -> Int[np.ndarray, " M"]:
        cell = ((x - self.lower) / self.size).astype(int).clip(0, self.counts - 1)
        return np.ravel_multi_index(tuple(cell.T), tuple(self.counts))

    def point(self, x: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "M 3"]:
        """A point that is nearest to each of these places, or nearly so."""
        return self.kept[self._cell(x)]


def cosines(distance: Float[np.ndarray, " M"], height: Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    """What `facing` gives, from what `from_nearest` gives."""
    return height / np.maximum(distance, 1e-9)


def signed_distances(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], x: Float[np.ndarray, "M 3"]
) -> Float[np.ndarray, " M"]:
    """The distance of each x to the nearest of points on a closed surface, negative inside by the normal there.

    Example:
        >>> ends = np.array([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
        >>> signed_distances(ends, ends, np.array([[3.0, 0.0, 0.0], [0.5, 0.0, 0.0]])).tolist()
        [2.0, -0.5]
    """
    distance, height = from_nearest(points, normals, x)
    return np.where(height < 0, -distance, distance)


def median_distance(points: Float[np.ndarray, "N 3"], asked: Float[np.ndarray, "M 3"]) -> float:
    """The median over `asked` of the distance to the nearest of `points`."""
    return float(np.median(find_nearest(points, asked)[0]))


def space_filling(points: Float[np.ndarray, "N 3"]) -> np.ndarray:
    """Whole numbers by which near points sort near each other: the bits of x, y and z in turn (Morton 1966).

    Example:
        >>> space_filling(np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]])).argsort().tolist()
        [0, 2, 1]
    """
    cells = ((points + 1) / 2 * 1023).clip(0, 1023).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for axis in range(3):
        bits = cells[:, axis]
        for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
            bits = (bits | bits << shift) & mask  # two zeros come between each bit and the next
        code |= bits << (2 - axis)
    return code
