"""Normals of points that come without: planes through neighbours, turned to agree with each other."""

import numpy as np
from jaxtyping import Float, Int

NEIGHBOURS = 24


def estimate_normals(
    points: Float[np.ndarray, "N 3"], sensor: Float[np.ndarray, " 3"] | None = None
) -> Float[np.ndarray, "N 3"]:
    """Unit normals by local principal components: where the 24 nearest points spread least.

    They point towards the sensor. Where none is known, they are made to agree from neighbour to neighbour, along the
    tree that bends least (Hoppe et al. 1992, section 3.3), and the points that lie farthest out in many directions
    tell which side is outside. That holds for closed surfaces that are sampled densely; where thin parts or gaps let
    the tree jump to another sheet, the normals beyond may point inwards.

    Example:
        >>> ball = np.random.default_rng(0).normal(size=(500, 3))
        >>> ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        >>> bool(((estimate_normals(ball) * ball).sum(1) > 0.9).all())
        True
    """
    from scipy.spatial import cKDTree

    _, neighbours = cKDTree(points).query(points, min(NEIGHBOURS, len(points)), workers=-1)
    normals = np.empty_like(points)
    for rows in np.array_split(np.arange(len(points)), -(-len(points) // 100_000)):  # bounds the memory
        spread = points[neighbours[rows]]
        spread = spread - spread.mean(1, keepdims=True)
        normals[rows] = np.linalg.eigh(spread.transpose(0, 2, 1) @ spread).eigenvectors[:, :, 0]
    if sensor is not None:
        return np.where(((sensor - points) * normals).sum(1, keepdims=True) < 0, -normals, normals)
    return normals * _agreeing(points, normals, neighbours)[:, None]


def _agreeing(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], neighbours: Int[np.ndarray, "N K"]
) -> Float[np.ndarray, " N"]:
    """For each normal 1 or -1: what makes neighbours agree, and the outermost points outward, each part by itself."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

    n, k = neighbours.shape
    # 32 bits: the tree takes no others before SciPy 1.14.
    one, other = np.arange(n, dtype=np.int32).repeat(k - 1), neighbours[:, 1:].ravel().astype(np.int32)
    bend = 1.001 - np.abs(_agreement(points, normals, one, other))  # not zero, which would be no edge
    tree = minimum_spanning_tree(coo_array((bend, (one, other)), (n, n)).tocsr())
    parts, part = connected_components(tree, directed=False)
    directions = np.random.default_rng(0).normal(size=(64, 3))
    signs = np.ones(n)
    for members in np.split(part.argsort(), np.bincount(part, minlength=parts).cumsum()[:-1]):
        order, before = breadth_first_order(tree, members[0], directed=False)
        child, parent = order[1:], before[order[1:]]
        same = np.where(_agreement(points, normals, child, parent) < 0, -1, 1)
        for c, p, sign in zip(child, parent, same, strict=True):
            signs[c] = sign * signs[p]
        outermost = members[(points[members] @ directions.T).argmax(0)]
        if (signs[outermost] * (normals[outermost] * directions).sum(1)).sum() < 0:
            signs[members] *= -1
    return signs


def _agreement(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    one: Int[np.ndarray, " M"],
    other: Int[np.ndarray, " M"],
) -> Float[np.ndarray, " M"]:
    """The cosine between the normals of pairs of points, one normal mirrored halfway between the points.

    On an arc, and across the edge of a box, that cosine is 1 however far the surface turns.
    """
    way = points[other] - points[one]
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12)
    n, m = normals[one], normals[other]
    return (n * m).sum(1) - 2 * (way * n).sum(1) * (way * m).sum(1)
