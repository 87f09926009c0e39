"""Oriented points: what a signed distance function is fitted to (paper, section 4.2), from points or from a mesh.

A cloud lies in [-1, 1]^3, its longest side with a margin, its aspect kept, and remembers how to return to the units of
its file. Where a file has no normals they are estimated: the direction in which the nearest points spread least, turned
towards the sensor, or outwards where none is known.

Symbols: N points, K neighbours.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from hypersiren.shapes.files.mesh import MESHES, read_triangles
from hypersiren.shapes.files.ply import ply_colours, ply_faces
from hypersiren.shapes.files.points import POINTS, read_raw_points
from hypersiren.shapes.files.tables import RawPoints, read_bytes
from hypersiren.shapes.knot import knot
from hypersiren.shapes.mesh import outward_faces, sample_surface, sample_triangles
from hypersiren.shapes.normals import estimate, unique_rows
from hypersiren.shapes.preparation import coarse_numbers, far_note, far_points, spread_evenly
from hypersiren.signals.files import SignalError

LOG = logging.getLogger(__name__)

_FEWEST = 10

_MANY = 100_000
"""Points from which on an estimate of normals is announced: it takes seconds."""


@dataclass(frozen=True)
class PointCloud:
    """Points on a surface with their normals, in [-1, 1]^3; `scale * points + centre` is in the input's units.

    Attributes:
        points: Where the points are.
        normals: Unit normals.
        scale, centre: The way back to the input's units.
        skipped: Rows of the input that were left out as not finite or with a normal of no length.
        sensor: Where they were seen from, in the same frame as the points, if that is known.
        estimated: Whether the normals were estimated.
        notes: What is odd about the input, a line each.
        colours: Red, green and blue of each point in [0, 1], if they are known.
    """

    points: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"]
    scale: float
    centre: Float[np.ndarray, " 3"]
    skipped: int = 0
    sensor: Float[np.ndarray, " 3"] | None = None
    estimated: bool = False
    notes: tuple[str, ...] = ()
    colours: Float[np.ndarray, "N 3"] | None = None

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
    columns: str | None = None,
    points_kept: int | None = None,
    outliers: Literal["keep", "drop"] = "keep",
) -> PointCloud:
    """Read oriented points, or sample them on a mesh.

    Args:
        path: Points as text (.xyz, .txt, .csv, .asc, .pts; see `hypersiren.shapes.files.text`), .ply, .pcd, .npy or
            .npz (arrays "points" and perhaps "normals"); or a mesh as .obj, .ply, .stl, .off or .glb.
        count: Points to sample on a mesh, evenly by area.
        seed: Of that sample.
        vertices: Take the vertices of a .ply as points even if it has faces.
        sensor: Where the points were seen from; None for what the file says, the VIEWPOINT of a .pcd; "outwards" for
            nowhere. The origin, which a .pcd says if nobody told it, counts only where it lies inside of the points'
            convex hull, or where there is a reach.
        reach, margin, outliers: See `make_cloud`.
        columns: Names of the columns of a table, such as "x,y,z,r,g,b"; None for what the file says or shows.
        points_kept: Keep at most so many points of a file of points, spread evenly; None keeps all.

    Raises:
        SignalError: If the file cannot be read as such, or `make_cloud` refuses its points.

    Warns:
        UserWarning: If points are left out, are repeated, lie far from all others, or their numbers are too coarse; if
            normals are estimated, with the side that they are turned to; or if faces of a mesh were turned.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rows = np.random.default_rng(0).normal(size=(50, 3))
        ...     rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        ...     np.savetxt(f"{folder}/ball.xyz", np.hstack([10 + 2 * rows, rows]))
        ...     cloud = read_points(f"{folder}/ball.xyz")
        >>> cloud.points.shape, f"{abs(cloud.points).max():.3f}"
        ((50, 3), '0.900')
    """
    try:
        ending = Path(path).suffix.lower()
        if ending not in (*POINTS, *MESHES):
            raise SignalError(
                f"expected points as {', '.join(POINTS)}, or a mesh as {', '.join(MESHES)}, got {ending!r}"
            )
        data = read_bytes(path)
        if ending in MESHES and not (ending == ".ply" and (vertices or not ply_faces(data))):
            if columns is not None:
                raise SignalError(f"expected no columns, got {columns!r}: a mesh names its numbers itself")
            if points_kept is not None:
                raise SignalError("expected no points_kept: a mesh is sampled, and count says at how many points")
            corners, faces = read_triangles(data, ending)
            faces = turned(corners, faces, f"{os.fspath(path)}: ")
            points, normals, chosen, weights = sample_triangles(corners, faces, count, seed)
            colours = ply_colours(data) if ending == ".ply" else None
            if colours is not None:
                colours = (colours[faces[chosen]] * weights[..., None]).sum(1)
            return told(
                make_cloud(points, normals, margin=margin, outliers=outliers, colours=colours),
                path,
                coarse_numbers(corners[np.unique(faces)]),
            )
        raw = read_raw_points(data, ending, columns)
        seen_from: Any = None if sensor == "outwards" else sensor
        how = "as was asked"
        if sensor is None:
            seen_from, how = _seen_from(raw, reach)
        rules: Any = {"reach": reach, "margin": margin, "points_kept": points_kept, "outliers": outliers}
        cloud = make_cloud(raw.points, raw.normals, sensor=seen_from, colours=raw.colours, **rules)
        lines = [coarse_numbers(raw.points, raw.half)]
        if cloud.skipped:
            lines.append(f"{cloud.skipped} points are left out, not finite, or with a normal of no length")
        if cloud.estimated:
            side = "outwards" if seen_from is None else f"towards the sensor at {tuple(map(float, seen_from))}"
            lines.append(f"normals are estimated and turned {side}, {how}")
        return told(cloud, path, *lines)
    except SignalError as error:
        raise SignalError(error.reason, path) from error.__cause__


def told(cloud: PointCloud, name: str | os.PathLike[str], *lines: str | None) -> PointCloud:
    """The cloud itself; these lines, and what it notes of its input, are said as warnings."""
    for line in (*lines, *cloud.notes):
        if line is not None:
            warnings.warn(f"{os.fspath(name)}: {line}", stacklevel=3)
    return cloud


def turned(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], name: str = "") -> Int[np.ndarray, "G 3"]:
    """Faces of a mesh that look outwards, see `hypersiren.shapes.mesh.outward_faces`; what was turned is said."""
    faces, text = outward_faces(vertices, faces)
    if text is not None:
        warnings.warn(f"{name}{text}", stacklevel=2)
    return faces


def _seen_from(raw: RawPoints, reach: tuple[float, float] | None) -> tuple[Float[np.ndarray, " 3"] | None, str]:
    """The sensor that a file tells of, and how it was chosen."""
    if raw.sensor is None:
        return None, "as of a closed object; --signal.sensor [X,Y,Z] says where they were seen from, if they were"
    if raw.sensor.any() or reach is not None:
        return raw.sensor, "as the file says"
    if _in_hull(raw.sensor, raw.points):
        return raw.sensor, "in the midst of the points; or give --signal.sensor outwards"
    return None, "as its VIEWPOINT is the default, outside of the points; or give --signal.sensor [0,0,0]"


def _in_hull(x: Float[np.ndarray, " 3"], points: Float[np.ndarray, "N 3"]) -> bool:
    """Whether a place lies inside of the convex hull of points; flat points have none."""
    from scipy.spatial import ConvexHull, QhullError

    points = points[np.isfinite(points).all(1)]
    if len(points) < 4 or not ((points.min(0) < x) & (x < points.max(0))).all():
        return False
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):
        return False
    return bool((hull.equations[:, :3] @ x + hull.equations[:, 3] < 0).all())


def make_cloud(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"] | None = None,
    *,
    sensor: Sequence[float] | np.ndarray | None = None,
    reach: tuple[float, float] | None = None,
    margin: float = 0.1,
    points_kept: int | None = None,
    outliers: Literal["keep", "drop"] = "keep",
    colours: Float[np.ndarray, "N 3"] | None = None,
) -> PointCloud:
    """Points in any units as a cloud.

    Rows that are not finite, as a lidar marks what it did not see, are left out and counted, and so are rows whose
    normal has no length (if no normal has one, the normals count as absent). Points that are repeated are kept; where
    normals are estimated each place counts once.

    Args:
        points: Where the points are.
        normals: Their normals, of any length; None to estimate them, see `estimate_normals`.
        sensor: Where the points were seen from, in the same units: estimated normals point there. None for outwards.
        reach: Keep only points at such distances from the sensor, from least to most: a scanner also sees its own
            mount, and the street through a window.
        margin: What is left free on either side of the longest side, as a share of it: 0.1 puts it in [-0.9, 0.9].
        points_kept: Keep at most so many points, at most one in each cell of a grid; None keeps all.
        outliers: "drop" leaves out points that are far from all others, see `hypersiren.shapes.preparation.far_points`;
            "keep" notes them.
        colours: Red, green and blue of each point in [0, 1]; those that are not finite become gray.

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
    colours = None if colours is None else np.nan_to_num(colours[kept], nan=0.5).clip(0, 1)
    if reach is not None:
        if sensor is None:
            raise SignalError("expected a sensor, from which the reach is measured, got none")
        distances = np.linalg.norm(points - np.asarray(sensor), axis=1)
        within = (distances >= reach[0]) & (distances <= reach[1])
        points, normals, colours = _taken(within, points, normals, colours)
    notes = []
    if (far := far_points(points)) is not None:
        if outliers == "drop":
            points, normals, colours = _taken(~far, points, normals, colours)
            notes.append(f"{far.sum()} points far from all others are left out")
        else:
            notes.append(far_note(points, far))
    if points_kept is not None and len(points) > points_kept:
        some = spread_evenly(points, points_kept)
        points, normals, colours = _taken(some, points, normals, colours)
        notes.append(f"{len(points):,} of {len(kept):,} points are kept, spread evenly")
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
    if estimated := normals is None:
        if len(unit) > _MANY:
            LOG.info(f"estimating normals of {len(unit):,} points")
        if repeated := len(unit) - len(unique_rows(points)[0]):
            notes.append(f"{repeated} of {len(points)} points are repeated: normals are estimated from each place once")
        found = estimate(unit, seen_from)
        normals = found.normals
        if found.doubtful:
            notes.append(
                f"normals of {found.doubtful} of {len(points)} points are in doubt: what is nearest to them lies along "
                "lines"
            )
    assert normals is not None
    known = None if colours is None else colours.astype(np.float32)
    return PointCloud(
        unit.astype(np.float32),
        normals.astype(np.float32),
        scale,
        centre,
        skipped,
        seen_from,
        estimated,
        tuple(notes),
        known,
    )


def _taken(index: np.ndarray, *arrays: Any) -> Any:
    """Some rows of each array that is there."""
    return [None if array is None else array[index] for array in arrays]


def open_cloud(path: str | Path, *, count: int = 500_000, seed: int = 0, **arguments: Any) -> PointCloud:
    """Oriented points of a file, see `hypersiren.shapes.cloud.read_points`, or of the knot, where no file is called so.

    Raises:
        SignalError: If the file cannot be read.
    """
    if str(path) == "knot" and not Path(path).exists():
        for name in ("columns", "points_kept"):
            if arguments.get(name) is not None:
                raise SignalError(f"expected no {name} of a shape that is made here", path)
        return make_cloud(*knot(count, seed))
    return read_points(path, count=count, seed=seed, **arguments)


def as_cloud(shape: Any, *, count: int = 500_000, seed: int = 0) -> PointCloud:
    """Whatever holds a shape as oriented points.

    Args:
        shape: A PointCloud, which is returned itself; a file, see `open_cloud`; a pair (points, normals) of arrays or
            tensors (N, 3), for `make_cloud`, which estimates normals that are None; or a mesh with .vertices (V, 3) and
            .faces (F, 3), such as trimesh's.
        count: Points to sample on a mesh.
        seed: Of that sample.

    Raises:
        SignalError: If it is something else, cannot be read, or `make_cloud` refuses its points.

    Example:
        >>> normals = np.random.default_rng(0).normal(size=(50, 3))
        >>> as_cloud((10 + normals, normals)).points.shape
        (50, 3)
        >>> as_cloud(normals)
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: expected a shape as a path, a PointCloud, a pair (points, normals) of
        arrays, or a mesh with .vertices and .faces, got a ndarray; (points, None) estimates normals
    """
    if isinstance(shape, PointCloud):
        return shape
    if isinstance(shape, str | os.PathLike):
        return open_cloud(Path(shape), count=count, seed=seed)
    if isinstance(shape, tuple | list) and len(shape) == 2:
        points = _rows(shape[0], "points")
        normals = None if shape[1] is None else _rows(shape[1], "normals")
        if normals is not None and len(normals) != len(points):
            raise SignalError(f"expected a normal for each point, got {len(points)} points and {len(normals)} normals")
        cloud = make_cloud(points, normals)
        return told(cloud, "points", coarse_numbers(points, "float16" in str(getattr(shape[0], "dtype", ""))))
    if hasattr(shape, "vertices") and hasattr(shape, "faces"):
        vertices, faces = _rows(shape.vertices, "vertices"), np.asarray(shape.faces)
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu" or not len(faces):
            raise SignalError(f"expected faces (F, 3) of integers, got {faces.shape} {faces.dtype}")
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise SignalError(
                f"expected faces of {len(vertices)} vertices from 0 on, got {faces.min()} to {faces.max()}"
            )
        if bad := int((~np.isfinite(vertices[faces]).all((1, 2))).sum()):
            raise SignalError(f"expected finite vertices, got {bad} of {len(faces)} faces with NaN or infinity")
        try:
            cloud = make_cloud(*sample_surface(vertices, turned(vertices, faces, "mesh: "), count, seed))
            return told(cloud, "mesh", coarse_numbers(vertices[np.unique(faces)]))
        except ValueError as error:
            raise SignalError(str(error)) from None
    hint = "; (points, None) estimates normals" if hasattr(shape, "ndim") else ""
    raise SignalError(
        "expected a shape as a path, a PointCloud, a pair (points, normals) of arrays, or a mesh with .vertices and "
        f".faces, got a {type(shape).__name__}{hint}"
    )


def _rows(array: Any, what: str) -> Float[np.ndarray, "N 3"]:
    """An array or tensor (N, 3) of numbers in double precision."""
    # A tensor may be on another device, or have a gradient; torch is not imported to see.
    rows = array.numpy(force=True) if hasattr(array, "numpy") else np.asarray(array)
    if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind not in "fiu":
        raise SignalError(f"expected {what} (N, 3), got {rows.shape} {rows.dtype}")
    return rows.astype(np.float64)
