"""Oriented points: what a signed distance function is fitted to (paper, section 4.2), from points or from a mesh.

A cloud lies in [-1, 1]^3, its longest side with a margin, its aspect kept, and remembers how to return to the units of
its file. Where a file has no normals they are estimated: the direction in which the nearest points spread least, turned
towards the sensor, or outwards where none is known.

Symbols: N points, K neighbours.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from hypersiren.meshes import face_crosses, sample
from hypersiren.ply import ply_faces
from hypersiren.point_files import read_raw_points
from hypersiren.raw_points import read_bytes
from hypersiren.signals import SignalError

MESHES = (".obj", ".ply", ".stl", ".off", ".glb")
"""Endings of mesh files; a .ply may also be points alone."""

_FEWEST = 10
_NEIGHBOURS = 24


@dataclass(frozen=True)
class PointCloud:
    """Points on a surface with their normals, in [-1, 1]^3; `scale * points + centre` is in the input's units.

    Attributes:
        points: Where the points are.
        normals: Unit normals.
        scale, centre: The way back to the input's units.
        skipped: Rows of the input that were left out as not finite or with a normal of no length.
        sensor: Where they were seen from, in the same frame as the points, if that is known.
    """

    points: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"]
    scale: float
    centre: Float[np.ndarray, " 3"]
    skipped: int = 0
    sensor: Float[np.ndarray, " 3"] | None = None

    def to_input(self, x: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "M 3"]:
        """From [-1, 1]^3 to the input's units, in double precision."""
        return x.astype(np.float64) * self.scale + self.centre

    def to_unit(self, x: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "M 3"]:
        """From the input's units to [-1, 1]^3."""
        return ((x - self.centre) / self.scale).astype(np.float32)


def read_points(
    path: str | os.PathLike[str],
    *,
    count: int = 500_000,
    seed: int = 0,
    vertices: bool = False,
    sensor: Sequence[float] | Literal["outwards"] | None = None,
    reach: tuple[float, float] | None = None,
    margin: float = 0.1,
) -> PointCloud:
    """Read oriented points, or sample them on a mesh.

    Args:
        path: Points as .xyz or .txt (x y z, or x y z nx ny nz), .ply, .pcd, .npy or .npz (arrays "points" and perhaps
            "normals"); or a mesh as .obj, .ply, .stl, .off or .glb, which needs the extra `mesh`.
        count: Points to sample on a mesh, evenly by area.
        seed: Of that sample.
        vertices: Take the vertices of a .ply as points even if it has faces.
        sensor: Where the points were seen from; None for what the file says, the VIEWPOINT of a .pcd; "outwards" for
            nowhere, as for an object in a .pcd, which says the origin if nobody told it.
        reach, margin: See `make_cloud`.

    Raises:
        SignalError: If the file cannot be read as such, or `make_cloud` refuses its points.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rows = np.random.default_rng(0).normal(size=(50, 3))
        ...     np.savetxt(f"{folder}/ball.xyz", np.hstack([10 + 2 * rows, rows]))
        ...     cloud = read_points(f"{folder}/ball.xyz")
        >>> cloud.points.shape, f"{abs(cloud.points).max():.3f}"
        ((50, 3), '0.900')
    """
    try:
        ending = Path(path).suffix.lower()
        if ending in MESHES and not (ending == ".ply" and (vertices or not ply_faces(read_bytes(path)))):
            points, normals = sample(*read_triangles(path), count, seed)
            return make_cloud(points, normals, margin=margin)
        raw = read_raw_points(path)
        seen_from = raw.sensor if sensor is None else None if sensor == "outwards" else sensor
        return make_cloud(raw.points, raw.normals, sensor=seen_from, reach=reach, margin=margin)
    except SignalError as error:
        raise SignalError(error.reason, path) from error.__cause__


def read_triangles(path: str | os.PathLike[str]) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and faces of a mesh file, without faces that have no area or a vertex that is not finite."""
    try:
        import trimesh
    except ModuleNotFoundError:
        raise SignalError('expected trimesh for reading meshes: pip install "hypersiren[mesh]"') from None
    data = io.BytesIO(read_bytes(path))
    try:
        mesh = trimesh.load_mesh(data, file_type=Path(path).suffix.lower(), process=False)
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
    except Exception as error:  # its readers raise whatever their file leads them to
        raise SignalError(
            f"broken or truncated mesh ({' '.join(str(error).split()) or type(error).__name__})"
        ) from error
    if not len(faces):
        raise SignalError("expected a mesh, got no faces")
    with np.errstate(all="ignore"):
        areas = np.linalg.norm(face_crosses(vertices, faces), axis=1)
    faces = faces[np.isfinite(areas) & (areas > 0)]
    if not len(faces):
        raise SignalError("expected a mesh with faces that have an area, got none")
    return vertices, faces


def make_cloud(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"] | None = None,
    *,
    sensor: Sequence[float] | np.ndarray | None = None,
    reach: tuple[float, float] | None = None,
    margin: float = 0.1,
) -> PointCloud:
    """Points in any units as a cloud.

    Rows that are not finite, as a lidar marks what it did not see, are left out and counted, and so are rows whose
    normal has no length (if no normal has one, the normals count as absent). Points that occur twice are kept.

    Args:
        points: Where the points are.
        normals: Their normals, of any length; None to estimate them, see `estimate_normals`.
        sensor: Where the points were seen from, in the same units: estimated normals point there. None for outwards.
        reach: Keep only points at such distances from the sensor, from least to most: a scanner also sees its own
            mount, and the street through a window.
        margin: What is left free on either side of the longest side, as a share of it: 0.1 puts it in [-0.9, 0.9].

    Raises:
        SignalError: If fewer than 10 rows remain, all at one place, or so far apart that no scale is finite; or if
            there is a reach without a sensor.
    """
    kept = np.isfinite(points).all(1)
    if normals is not None:
        lengths = np.linalg.norm(normals, axis=1)
        usable = np.isfinite(lengths) & (lengths > 0)
        if usable[kept].any():
            kept &= usable
            normals = normals[kept] / lengths[kept, None]
        else:
            normals = None
    points, skipped = points[kept].astype(np.float64), int((~kept).sum())
    if reach is not None:
        if sensor is None:
            raise SignalError("expected a sensor, from which the reach is measured, got none")
        distances = np.linalg.norm(points - np.asarray(sensor), axis=1)
        within = (distances >= reach[0]) & (distances <= reach[1])
        points, normals = points[within], None if normals is None else normals[within]
    if len(points) < _FEWEST:
        left_out = f", {skipped} left out as not finite or without a normal" if skipped else ""
        raise SignalError(f"expected at least {_FEWEST} points, got {len(points)}{left_out}")
    lower, upper = points.min(0), points.max(0)
    with np.errstate(over="ignore"):
        scale = float((upper - lower).max() / 2 / (1 - margin))
    if scale == 0:
        raise SignalError(f"expected points that lie apart, got {len(points)} at one place")
    if not np.isfinite(scale):
        raise SignalError(f"expected a finite extent, got points from {lower.min():.3g} to {upper.max():.3g}")
    centre = lower / 2 + upper / 2
    unit = (points - centre) / scale
    seen_from = None if sensor is None else (np.asarray(sensor, np.float64) - centre) / scale
    if normals is None:
        normals = estimate_normals(unit, seen_from)
    return PointCloud(unit.astype(np.float32), normals.astype(np.float32), scale, centre, skipped, seen_from)


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

    _, neighbours = cKDTree(points).query(points, min(_NEIGHBOURS, len(points)), workers=-1)
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
    one, other = np.arange(n).repeat(k - 1), neighbours[:, 1:].ravel()
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
