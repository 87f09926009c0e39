"""A signed distance function as a windowed field, solved in closed form.

The distances of `hypersiren.shapes.distances` are a signal on a raster, for which windows are solved as for any other.
Then those that hold points are corrected for these: the distance is 0 there, and its gradient is the normal. How fine
the raster is, and how far heights and normals are trusted, follows from how densely and exactly the surface is sampled.

The constants were chosen on a bunny, a koala, a cube, a kitten and a knot, sampled densely, sparsely and with noise;
see eval/README.md.
"""

import logging
import math

import numpy as np
import torch
from jaxtyping import Float

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.point_solve import fit_points
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep, solve_raster
from hypersiren.shapes.distances import Sampling, distance_raster, look_at
from hypersiren.shapes.normals import unique_rows
from hypersiren.tasks.windows import watch

LOG = logging.getLogger(__name__)

STEP, LAP = 6, 2
"""Cells from window to window, and those that neighbours share."""

PERIOD = 4.0
"""Of the lowest frequency; a window has 2. Long waves are close to polynomials, which smooth solutions want."""

NUMBERS = 0.5
"""Of the field for each cell."""

SMOOTHNESS, NOISE = 2.0, 1e-6
"""Of the prior, see `hypersiren.fields.settings.Network`."""

CELL, NOISY_CELL = 0.75, 1.5
"""Width of a cell in units of the points' distance, where points are exact and where they are noisy."""

NOISY = 0.1
"""Noise of points that counts as much, as a share of their distance."""

CELLS = (32, 160)
"""Along each axis, at least and at most, where no number is asked for."""

RASTER, PRIOR = 0.14, 3.2
"""Standard deviations of the raster's distances and of a window's numbers, in units of half a window."""

KEPT = 1_000_000
"""Points of a cloud at most: of more, every so many-th is taken. The finest cells have a dozen of these."""

MOST = (48, 192)
"""Points of a window, at most, that it is corrected for, where they are exact and where they are noisy."""

VALUE, GRADIENT = 0.01, 0.1
"""Standard deviations of the heights of points, in that unit, and of their normals, at least."""


def solve_shape(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    sensor: Float[np.ndarray, " 3"] | None,
    network: Network,
    device: torch.device | str,
    keep: Keep | None = None,
) -> CompactWindows:
    """The windowed field of a shape's distance.

    Args:
        points: In [-1, 1]^3; those near each other should stand near each other.
        normals: Unit normals.
        sensor: Where points of an open scan were seen from.
        network: Its numbers for each value of the points, which have 4 (a distance and its gradient), its windows and
            its prior.
        device: Where to solve.
        keep: Is asked whether to stop. Nothing of an interrupted solve is kept: it takes seconds.
    """
    once = np.sort(unique_rows(points)[0])
    some = once[:: -(-len(once) // KEPT)]
    points, normals = points[some], normals[some]
    found = look_at(points, normals)
    cells, (step, lap) = _cells(found, network, len(once)), _pixels(network)
    LOG.info("measuring distances at %d x %d x %d cells", cells, cells, cells)
    values = torch.from_numpy(distance_raster(points, normals, cells, found, sensor)).unsqueeze(-1)
    size, decay = (cells,) * 3, SMOOTHNESS if network.smoothness is None else network.smoothness
    field = solve_raster(
        size, lambda a, b: values[a:b], 1, NUMBERS, (step,) * 3, (lap,) * 3, period=PERIOD,
        ridge=NOISE if network.noise is None else network.noise, decay=decay, device=device,
    )  # fmt: skip
    pixels, half = field.windows.pixels(size), field.windows.width[0] / 2
    assert pixels is not None
    LOG.info("fitting windows to the points")
    fit_points(
        field,
        torch.from_numpy(points).to(device),
        torch.zeros(len(points), device=device),
        torch.from_numpy(normals).to(device),
        local=[width for width, _ in pixels],
        decay=decay,
        raster_deviation=RASTER * half,
        prior_deviation=PRIOR * half,
        value_deviation=max(VALUE * half, found.noise),
        gradient_deviation=min(1.0, max(GRADIENT, found.noise / found.spacing)),
        most=MOST[found.noise > NOISY * found.spacing],
        watch=watch(field, keep),
    )
    return field


def _cells(found: Sampling, network: Network, count: int) -> int:
    """Along each axis."""
    if network.numbers is not None:
        return max(4, round((network.numbers * 4 * count / NUMBERS) ** (1 / 3)))
    noisy = min(1.0, found.noise / (NOISY * found.spacing))
    cell = found.spacing * CELL ** (1 - noisy) * NOISY_CELL**noisy
    return min(max(math.ceil(2 / cell), CELLS[0]), CELLS[1])


def _pixels(network: Network) -> tuple[int, int]:
    """Cells from window to window, and those that neighbours share."""
    both = STEP + LAP if network.window is None else network.window
    share = LAP / (STEP + LAP) if network.overlap is None else network.overlap
    lap = max(1, min(both // 2, round(share * both)))
    return both - lap, lap
