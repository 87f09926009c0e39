"""Ground truth of the wave equation u_tt = c² (u_00 + u_11) in free space (paper, section 4.3): leapfrog in time.

Second order in time, fourth in space, float64, started from rest:

    u^1 = u^0 + (dt² / 2) c² lap u^0        u^(i+1) = 2 u^i - u^(i-1) + dt² c² lap u^i

Free space needs no absorbing border: the grid is enlarged until nothing that leaves [-1, 1]² can be back in time.
Of a round pulse in a uniform medium the wave is known as an integral.

Symbols: n cells along an axis, h their width, T times, c velocity.
"""

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64
from scipy.interpolate import CubicSpline
from scipy.special import j0

from hypersiren.errors import UserError

LOG = logging.getLogger(__name__)

LARGEST_COURANT = math.sqrt(3 / 8)
"""Courant number c dt / h from which on leapfrog with the fourth-order Laplacian in two dimensions is unstable."""


def solve_wave(
    start: Float64[np.ndarray, "n n"] | Callable[[Float64[np.ndarray, "N N 2"]], Float64[np.ndarray, "N N"]],
    velocity: Float64[np.ndarray, "n n"] | float,
    times: Sequence[float],
    courant: float = 0.3,
    *,
    n: int | None = None,
    reach: float = math.inf,
) -> Float64[np.ndarray, "T n n"]:
    """Wavefields at given times on the cells of `coords.grid((n, n))`, at rest at time 0, in free space.

    Args:
        start: u at time 0 on the cells, zero beyond them; or a function of coordinates, which may go on beyond.
        velocity: c on the cells; beyond them as on the border.
        times: Ascending, from 0 on; between steps by the parabola through three of them.
        courant: Largest c dt / h; the error falls with its square.
        n: Cells along each axis, of a function.
        reach: How far beyond the border a function is not zero; what is farther away is left out.

    Raises:
        UserError: If the velocity is not finite and positive, or the Courant number is unstable.
        ValueError: If the times do not ascend from 0, or a function has no n.

    Example:
        >>> r = np.hypot(*np.meshgrid(*[(np.arange(50) + 0.5) / 25 - 1] * 2))
        >>> u = solve_wave(np.exp(-((r / 0.15) ** 2)), 1.0, [0.0, 0.4])
        >>> np.round(u[:, 25, 25], 2)  # the pulse has left its place, with the trough that follows it in the plane
        array([ 0.97, -0.1 ])
    """
    n = n if callable(start) else len(start)
    if n is None:
        raise ValueError("expected n, the cells along each axis, of a function")
    at = np.asarray(times, dtype=np.float64)
    velocity = np.broadcast_to(np.asarray(velocity, dtype=np.float64), (n, n))
    possible = np.isfinite(velocity) & (velocity > 0)
    if not possible.all():
        raise UserError(f"expected finite velocities above 0 everywhere, got {velocity[~possible][0]:g}")
    if not 0 < courant < LARGEST_COURANT:
        raise UserError(f"expected a Courant number between 0 and {LARGEST_COURANT:.3f}, got {courant:g}: unstable")
    if not len(at) or at[0] < 0 or (np.diff(at) < 0).any():
        raise ValueError(f"expected ascending times from 0 on, got {list(times)}")
    h, fastest = 2 / n, velocity.max()
    step = courant * h / fastest
    steps = max(1, math.ceil(at[-1] / step))
    dt = at[-1] / steps or step
    far = fastest * at[-1]  # what is farther away does not arrive in time
    beyond = min(far, reach) if callable(start) else 0.0
    margin = math.ceil(max(far / 2, beyond) / h) + 2  # there and back takes longer than all the time
    factor = np.pad((velocity * dt / h) ** 2 / 12, margin, mode="edge")
    now = start(_centres(n, margin)) if callable(start) else np.pad(start, margin)
    change = factor * _laplacian(now)
    before = now + change / 2  # at rest, time may as well run backwards
    inside = np.s_[margin:-margin, margin:-margin]
    found: list[np.ndarray] = []
    LOG.debug("solving the wave equation by finite differences in %d steps", steps)
    for i in range(steps + 1):
        after = 2 * now - before + change
        while len(found) < len(at) and at[len(found)] < (i + 0.5) * dt + 1e-12:
            part = at[len(found)] / dt - i
            parabola = now + part / 2 * (after - before) + part**2 / 2 * (after - 2 * now + before)
            found.append(parabola[inside])
        before, now = now, after
        change = factor * _laplacian(now)
    return np.stack(found)


def uniform_wave(r: Float64[np.ndarray, " N"], times: Sequence[float], variance: float) -> Float64[np.ndarray, "T N"]:
    """The wave of the pulse exp(-r² / 2 v), at rest at time 0, in the plane where c = 1, by Hankel's transform:

        u(t, r) = ∫ v exp(-v k² / 2) J_0(k r) cos(k t) k dk

    Args:
        r: Distances from the pulse.
        times: t.
        variance: v.

    Example:
        >>> uniform_wave(np.array([0.0, 0.3]), [0.0, 0.3], 0.01).round(3).tolist()
        [[1.0, 0.011], [-0.18, 0.155]]
    """
    width, farthest = math.sqrt(variance), float(np.max(r, initial=0.0))
    panels = math.ceil((farthest + max(times) + 2 * width) / width)  # of Gauss's 16 points, each of some 8 radians
    at, size = np.polynomial.legendre.leggauss(16)
    step = 8 / width / panels
    k = ((np.arange(panels)[:, None] + (at + 1) / 2) * step).ravel()
    table = np.linspace(0, farthest + width, 8 + math.ceil(24 * (farthest / width + 1)))
    density = variance * np.exp(-variance * k**2 / 2) * k * np.tile(size * step / 2, panels)
    values = (np.cos(np.outer(times, k)) * density) @ j0(np.outer(k, table))
    return CubicSpline(table, values, axis=1)(r)


def _centres(n: int, margin: int) -> Float64[np.ndarray, "N N 2"]:
    """Of n cells along each axis of [-1, 1]², and of `margin` more on each side."""
    axis = (2 * np.arange(-margin, n + margin) + 1) / n - 1
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)


def _laplacian(u: np.ndarray) -> np.ndarray:
    """12 h² times the Laplacian, of fourth order; u is zero beyond the array."""
    u = np.pad(u, 2)
    inside = np.s_[2:-2]
    rows, columns = u[:, inside], u[inside]
    near = rows[1:-3] + rows[3:-1] + columns[:, 1:-3] + columns[:, 3:-1]
    far = rows[:-4] + rows[4:] + columns[:, :-4] + columns[:, 4:]
    return 16 * near - far - 60 * u[inside, inside]
