"""Signed distances from oriented points on a regular raster, in closed form: what windows are solved for.

Near a point the distance is the height above its plane (Hoppe et al. 1992); beyond the disc that the point stands for,
it is the distance to that disc.

On which side a place lies, the nearest normal tells where the place lies right above a point. Elsewhere, across an
edge, between two sheets or far away, the whole cloud tells: points of area a_i with normals n_i are the jump of a
function chi, 1 inside and 0 outside,

    laplacian chi = -div sum_i a_i n_i delta(x - p_i),

solved by a Fourier transform (Kazhdan 2005; its periods lie far enough apart for a closed shape).

Symbols: N points, n cells along each axis.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from hypersiren.shapes.sides import SIGMA

BAND = 6
"""Cells from the points within which the nearest point is exact; beyond, it is that of a cell that is nearest."""

PROBED, APART = 4_000, 5
"""Points by which noise is estimated, each with the neighbour of this rank, itself being the first."""

UPRIGHT = 0.9
"""Cosine between the normal and the way from a point, from which on the point tells the side."""

FAR = 3.0
"""Distances of points, or cells, from which on the whole cloud tells the side."""

WAYS = 64
"""Places that are told free on the way from a sensor to each point."""

_AT_ONCE = 2**18


@dataclass(frozen=True)
class Sampling:
    """How a surface is sampled.

    Attributes:
        spacing: The distance of points, sqrt(area / N), in the middle of the cloud's.
        areas: Of the surface, for each point.
        noise: Standard deviation of the points' heights, from normals too; it is too low where it is large.
    """

    spacing: float
    areas: Float[np.ndarray, " N"]
    noise: float


def look_at(points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"]) -> Sampling:
    """Look at how densely and how exactly points lie on their surface.

    Example:
        >>> flat = np.stack(np.meshgrid(np.arange(30), np.arange(30), [0]), -1).reshape(-1, 3) / 30
        >>> upwards = np.tile([0.0, 0, 1], (900, 1))
        >>> found = look_at(flat, upwards)
        >>> round(found.spacing, 3), found.noise
        (0.034, 0.0)
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    near = min(7, len(points))
    distance = np.concatenate([tree.query(part, near, workers=-1)[0][:, -1] for part in _parts(points)])
    # Points that are repeated stand for no area.
    areas = math.pi * distance**2 / max(1, near - 1)
    # On a smooth surface the way between two points is across their mean normal, up to third order.
    some = slice(None, None, max(1, len(points) // PROBED))
    _, other = tree.query(points[some], [min(APART, len(points))], workers=-1)
    across = ((points[other[:, 0]] - points[some]) * (normals[other[:, 0]] + normals[some])).sum(1) / 2
    noise = 1.4826 * float(np.median(np.abs(across))) / math.sqrt(2)
    return Sampling(float(np.sqrt(np.median(areas))), areas, noise)


def _parts(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + _AT_ONCE] for start in range(0, len(x), _AT_ONCE)]


def distance_raster(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    cells: int,
    found: Sampling,
    sensor: Float[np.ndarray, " 3"] | None = None,
) -> Float[np.ndarray, "n n n"]:
    """The signed distance, negative inside, at the centres of the cells of [-1, 1]^3.

    Args:
        points: In [-1, 1]^3.
        normals: Unit normals, outwards.
        cells: n.
        found: Their sampling.
        sensor: Where points of a scan were seen from: the ways to them are free, and what lies beyond an open scan is
            told by the nearest point alone.

    Example:
        >>> ball = np.random.default_rng(0).normal(size=(2000, 3))
        >>> ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        >>> d = distance_raster(ball / 2, ball, 32, look_at(ball / 2, ball))
        >>> [round(float(d[i, 16, 16]), 1) for i in (0, 7, 8, 15)]
        [0.5, 0.0, -0.0, -0.4]
    """
    from scipy.ndimage import distance_transform_edt
    from scipy.spatial import cKDTree

    shape = (cells,) * 3
    empty = np.ones(cells**3, bool)
    place = _cell(points, cells)
    empty[place] = False
    kept = np.zeros(len(empty), np.int32)
    kept[place] = np.arange(len(points))
    far, index = distance_transform_edt(empty.reshape(shape), return_indices=True)
    nearest = kept[np.ravel_multi_index(tuple(index.reshape(3, -1)), shape)]
    del empty, kept, index
    band = (far.reshape(-1) <= BAND).nonzero()[0]
    del far
    centre = (np.arange(cells, dtype=np.float32) + 0.5) * np.float32(2 / cells) - 1
    tree = cKDTree(points)
    points, normals = points.astype(np.float32), normals.astype(np.float32)
    for some in _parts(band):
        at = centre[np.stack(np.unravel_index(some, shape), -1)]
        nearest[some] = tree.query(at, workers=-1)[1]
    side = None if sensor is not None else _side(points, normals, found, cells).reshape(-1)
    value = np.empty(len(nearest), np.float32)
    far = FAR * max(found.spacing, 2 / cells)
    for start in range(0, len(value), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        at = centre[np.stack(np.unravel_index(np.arange(start, min(start + _AT_ONCE, len(value))), shape), -1)]
        way = at - points[nearest[rows]]
        height, length = (way * normals[nearest[rows]]).sum(1), np.linalg.norm(way, axis=1)
        beside = np.sqrt(np.maximum(length**2 - height**2, 0))
        distance = np.hypot(height, np.maximum(beside - found.spacing, 0))
        sign = np.sign(height)
        if side is not None:
            slanted = (np.abs(height) < UPRIGHT * length) & (length > found.spacing)
            sign = np.where(slanted | (length > far), side[rows], sign)
        value[rows] = distance * sign
    if sensor is not None:
        free = _free(points, sensor, cells)
        value[free] = np.abs(value[free])
    return value.reshape(shape)


def _cell(points: Float[np.ndarray, "N 3"], cells: int) -> Int[np.ndarray, " N"]:
    index = ((points + 1) * (cells / 2)).astype(int).clip(0, cells - 1)
    return np.ravel_multi_index(tuple(index.T), (cells,) * 3)


def _side(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], found: Sampling, cells: int
) -> Float[np.ndarray, "n n n"]:
    """1 outside, -1 inside, and between where that is not clear: chi, scaled."""
    from scipy import fft

    shape = (cells,) * 3
    place = (points + 1) * (cells / 2) - 0.5
    low = np.floor(place).astype(int)
    share = place - low
    waves = [np.fft.fftfreq(cells, 2 / cells) * 2 * np.pi for _ in range(2)]
    waves.append(np.fft.rfftfreq(cells, 2 / cells) * 2 * np.pi)
    k = [w.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)]) for axis, w in enumerate(waves)]
    total = np.zeros((cells, cells, cells // 2 + 1), np.complex64)
    for axis in range(3):
        flux = np.zeros(cells**3)
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod([share[:, a] if c else 1 - share[:, a] for a, c in enumerate(corner)], axis=0)
            to = np.ravel_multi_index(tuple(((low + corner) % cells).T), shape)
            flux += np.bincount(to, weight * found.areas * normals[:, axis], cells**3)
        total += k[axis] * fft.rfftn(flux.reshape(shape).astype(np.float32))
    square = sum(each**2 for each in k)
    width = max(2 / cells, found.spacing)
    square[0, 0, 0] = 1  # type: ignore[index]
    total *= 1j * np.exp(-0.5 * width**2 * square) / square
    total[0, 0, 0] = 0
    chi = fft.irfftn(total, shape)
    at = chi.reshape(-1)[_cell(points, cells)]
    outside = np.median(at) - chi
    scale = np.median(np.abs(outside)) or 1.0
    return np.clip(2 * outside / scale, -1, 1)


def _free(points: Float[np.ndarray, "N 3"], sensor: Float[np.ndarray, " 3"], cells: int) -> Bool[np.ndarray, " C"]:
    """Cells on the ways from the sensor to the points, short of them."""
    free = np.zeros(cells**3, bool)
    some = points[:: max(1, len(points) // 50_000)]
    way = some - sensor
    length = np.linalg.norm(way, axis=1, keepdims=True)
    ends = sensor + way * np.maximum(0, 1 - 2 * SIGMA / np.maximum(length, 1e-9))
    for share in np.linspace(0, 1, WAYS):
        free[_cell(sensor + share * (ends - sensor), cells)] = True
    return free
