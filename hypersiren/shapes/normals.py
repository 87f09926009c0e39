"""Normals of points that come without: planes through neighbours, turned to agree with each other.

Symbols: N points, U places, K neighbours, E pairs.
"""

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from hypersiren.shapes.sides import space_filling

LOG = logging.getLogger(__name__)

NEIGHBOURS = 24
"""Nearest points through which a plane is laid."""

LINKED = 12
"""The nearest of them, with which a normal is made to agree."""

SAME = 1e-6
"""Points in one cell of so much of the longest side are one place to a plane."""

LINE = 0.01
"""Where points spread less than this across a line, as a share of their variance along it, no plane is known."""

AT_ONCE = 20_000
"""Points worked on together: few enough for a processor's cache, and for Ctrl-C to be heard."""


@dataclass(frozen=True)
class Estimate:
    """Normals that were estimated.

    Attributes:
        normals: Unit normals.
        doubtful: Points whose neighbours lie along a line, so that any plane through it would do.
    """

    normals: Float[np.ndarray, "N 3"]
    doubtful: int


def estimate_normals(
    points: Float[np.ndarray, "N 3"], sensor: Float[np.ndarray, " 3"] | None = None
) -> Float[np.ndarray, "N 3"]:
    """Unit normals by local principal components: where the 24 nearest places spread least.

    They point towards the sensor. Where none is known, they are made to agree from neighbour to neighbour, along the
    tree that bends least (Hoppe et al. 1992, section 3.3), and the points that lie farthest out in many directions
    tell which side is outside. That holds for closed surfaces that are sampled densely; where thin parts or gaps let
    the tree jump to another sheet, the normals beyond may point inwards.

    Points that are repeated are one place, and have one normal.

    Example:
        >>> ball = np.random.default_rng(0).normal(size=(500, 3))
        >>> ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        >>> bool(((estimate_normals(ball.repeat(30, axis=0)) * ball.repeat(30, axis=0)).sum(1) > 0.9).all())
        True
    """
    return estimate(points, sensor).normals


def estimate(points: Float[np.ndarray, "N 3"], sensor: Float[np.ndarray, " 3"] | None = None) -> Estimate:
    """As `estimate_normals`, and for how many points they are in doubt."""
    lower = points.min(0)
    side = np.ptp(points, axis=0).max() or 1.0
    # Near points are near in memory, too, which makes the search twice as fast.
    order = space_filling((points - lower) * (2 / side) - 1).argsort(kind="stable")
    cells = np.round((points[order] - lower) / (SAME * side)).astype(np.int64)
    first, place = unique_rows(cells)
    places = points[order[first]]
    normals, neighbours, doubtful = _planes(places)
    if sensor is None:
        signs = _agreeing(places, normals, neighbours)
    else:
        signs = np.where(((sensor - places) * normals).sum(1) < 0, -1, 1)
    normals *= signs[:, None]
    found = np.empty_like(normals, shape=points.shape)
    found[order] = normals[place]
    return Estimate(found, int(doubtful[place].sum()))


def unique_rows(rows: np.ndarray) -> tuple[Int[np.ndarray, " U"], Int[np.ndarray, " N"]]:
    """Where each of the different rows stands first, in the order of the rows, and which of them each row is.

    NumPy's own by axis takes four times as long, and sorts them.

    Example:
        >>> first, which = unique_rows(np.array([[3, 1], [2, 2], [3, 1]]))
        >>> first.tolist(), which.tolist()
        ([0, 1], [0, 1, 0])
    """
    order = np.lexsort(rows.T)
    new = np.ones(len(rows), bool)
    new[1:] = (rows[order[1:]] != rows[order[:-1]]).any(1)
    first = order[new]  # lexsort is stable
    rank = np.empty(len(first), np.int64)
    by_place = first.argsort()
    rank[by_place] = np.arange(len(first))
    which = np.empty(len(rows), np.int64)
    which[order] = rank[new.cumsum() - 1]
    return first[by_place], which


def _planes(
    points: Float[np.ndarray, "U 3"],
) -> tuple[Float[np.ndarray, "U 3"], Int[np.ndarray, "U K"], Bool[np.ndarray, " U"]]:
    """The direction in which the nearest points spread least, those points but itself, and whether it is in doubt."""
    from scipy.spatial import cKDTree

    n = len(points)
    tree = cKDTree(points)
    normals, doubtful = np.empty((n, 3)), np.zeros(n, bool)
    neighbours = np.empty((n, min(LINKED, n)), np.int32)
    for start in range(0, n, AT_ONCE):
        LOG.debug("estimating normals: %s of %s points", f"{start:,}", f"{n:,}")
        rows = slice(start, start + AT_ONCE)
        nearest = tree.query(points[rows], min(NEIGHBOURS, n), workers=-1)[1].reshape(-1, min(NEIGHBOURS, n))
        normals[rows], doubtful[rows] = _least_spread(points[nearest])
        neighbours[rows] = nearest[:, : neighbours.shape[1]]
    more = NEIGHBOURS
    while doubtful.any() and more < min(16 * NEIGHBOURS, n):  # lines of a scanner: as far as to the next ones
        more = min(4 * more, n)
        rows_left = np.flatnonzero(doubtful)
        for part in np.array_split(rows_left, -(-len(rows_left) * more // (NEIGHBOURS * AT_ONCE))):
            LOG.debug("estimating normals of %s points on lines, from %d nearest", f"{len(rows_left):,}", more)
            nearest = tree.query(points[part], more, workers=-1)[1]
            normals[part], doubtful[part] = _least_spread(points[nearest])
            neighbours[part] = nearest[:, :: more // neighbours.shape[1]][:, : neighbours.shape[1]]
    return normals, neighbours[:, 1:], doubtful


def _least_spread(near: Float[np.ndarray, "B K 3"]) -> tuple[Float[np.ndarray, "B 3"], Bool[np.ndarray, " B"]]:
    """The direction of least variance of each group of points, and whether they lie along a line."""
    spread = near - near.mean(1, keepdims=True)
    variances, axes = np.linalg.eigh(spread.transpose(0, 2, 1) @ spread)
    return axes[:, :, 0], variances[:, 1] <= LINE * variances[:, 2]


def _agreeing(
    points: Float[np.ndarray, "U 3"], normals: Float[np.ndarray, "U 3"], neighbours: Int[np.ndarray, "U K"]
) -> Int[np.ndarray, " U"]:
    """For each normal 1 or -1: what makes neighbours agree, and the outermost points outward, each part by itself."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    n, k = neighbours.shape
    bend = np.empty((n, k))
    for start in range(0, n, AT_ONCE):
        LOG.debug("turning normals: %s of %s points", f"{start:,}", f"{n:,}")
        rows = np.arange(start, min(start + AT_ONCE, n))
        other = neighbours[rows]
        agreement = _agreement(points, normals, rows.repeat(k), other.ravel()).reshape(-1, k)
        bend[rows] = 1.001 - np.abs(agreement)  # not zero, which would be no edge
    LOG.debug("turning normals: tree of %s points", f"{n:,}")
    # 32 bits: the tree takes no others before SciPy 1.14.
    starts = np.arange(n + 1, dtype=np.int64) * k
    graph = csr_array((bend.ravel(), neighbours.ravel(), starts.astype(np.int32)), (n, n))
    tree = minimum_spanning_tree(graph, overwrite=True).tocoo()
    del bend, graph
    one, other = tree.row, tree.col
    against = _agreement(points, normals, one, other) < 0
    signs, part = two_sided(one, other, against, n)
    return signs * _outwards(points, normals * signs[:, None], part)[part]


def two_sided(
    one: Int[np.ndarray, " E"], other: Int[np.ndarray, " E"], against: Bool[np.ndarray, " E"], count: int
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """For each thing 1 or -1, so that pairs which are against each other differ, and the part that it belongs to.

    Where that is impossible, as on a Moebius strip, it holds for some pairs only.

    Example:
        >>> two_sided(np.array([0, 1]), np.array([1, 2]), np.array([True, False]), 4)[0].tolist()
        [1, -1, -1, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Each thing twice, as it is and turned: what belongs together is one part of that graph.
    first, second = np.concatenate([one, one + count]), np.concatenate([other, other + count])
    second = np.where(np.concatenate([against, against]), (second + count) % (2 * count), second)
    links = coo_array((np.ones(len(first), np.int8), (first, second)), (2 * count, 2 * count)).tocsr()
    _, label = connected_components(links, directed=False)
    as_it_is, turned = label[:count], label[count:]
    part = np.unique(np.minimum(as_it_is, turned), return_inverse=True)[1].reshape(-1)
    return np.where(as_it_is <= turned, 1, -1), part


def _outwards(
    points: Float[np.ndarray, "U 3"], normals: Float[np.ndarray, "U 3"], part: Int[np.ndarray, " U"]
) -> Int[np.ndarray, " P"]:
    """For each part 1 or -1: what turns its normals outwards, where it lies farthest out in 64 directions."""
    order = part.argsort(kind="stable")
    points, normals, part = points[order], normals[order], part[order]
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    vote = np.zeros(len(starts))
    for direction in np.random.default_rng(0).normal(size=(64, 3)):
        along = points @ direction
        outermost = np.flatnonzero(along >= np.maximum.reduceat(along, starts)[part])
        _, first = np.unique(part[outermost], return_index=True)
        vote += normals[outermost[first]] @ direction
    return np.where(vote < 0, -1, 1)


def _agreement(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    one: Int[np.ndarray, " E"],
    other: Int[np.ndarray, " E"],
) -> Float[np.ndarray, " E"]:
    """The cosine between the normals of pairs of points, one normal mirrored halfway between the points.

    On an arc, and across the edge of a box, that cosine is 1 however far the surface turns.
    """
    way = points[other] - points[one]
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12)
    n, m = normals[one], normals[other]
    return (n * m).sum(1) - 2 * (way * n).sum(1) * (way * m).sum(1)
