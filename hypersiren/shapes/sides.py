"""Points with normals as a description of inside and outside: sides, heights, distances and order."""

import numpy as np
from jaxtyping import Float


def from_nearest(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], x: Float[np.ndarray, "M 3"]
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """The distance of each x to the nearest point, and its height above the plane there."""
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(points).query(x, workers=-1)
    return distance, ((x - points[nearest]) * normals[nearest]).sum(1)


SIGMA = 0.02
"""Standard deviation of a near point's place around its surface point, where the longest side is 1.8 long."""


def facing(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], x: Float[np.ndarray, "M 3"]
) -> Float[np.ndarray, " M"]:
    """The cosine between the normal of the point nearest to each x and the way there: its sign tells the side of x.

    Example:
        >>> flat, upwards = np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
        >>> facing(flat, upwards, np.array([[0.0, 0.0, 2.0], [0.0, 0.0, -0.1], [5.0, 0.0, 0.0]])).tolist()
        [1.0, -1.0, 0.0]
    """
    return cosines(*from_nearest(points, normals, x))


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
    from scipy.spatial import cKDTree

    return float(np.median(cKDTree(points).query(asked, workers=-1)[0]))


def space_filling(points: Float[np.ndarray, "N 3"]) -> np.ndarray:
    """Whole numbers by which near points sort near each other: the bits of x, y and z in turn (Morton 1966).

    Example:
        >>> space_filling(np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]])).argsort().tolist()
        [0, 2, 1]
    """
    cells = ((points + 1) / 2 * 1023).clip(0, 1023).astype(np.int64)
    bits = (cells[:, :, None] >> np.arange(10)) & 1  # (N, 3, 10)
    return (bits << (3 * np.arange(10) + np.arange(3)[::-1, None])).sum((1, 2))
