"""Where a wave can be, and when: what solvers may leave out.

Symbols: n cells along an axis, c velocity, m squared slowness, t time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float64

from hypersiren.fields.coords import grid
from hypersiren.waves.media import Medium

FAR = 5.0
"""Standard deviations from which on a pulse counts as 0."""


CELLS, SAMPLES = 64, 4
"""Of the grid of arrivals: cells to a unit of length, and points along an axis of a cell where the medium is taken."""

FARTHEST = 8.0
"""Half of the side of that grid at most: of a wave that goes further nothing is left out."""

OCTAGON = 0.92
"""Paths over cells and diagonals are longer than straight ones by at most 1 / cos(pi / 8) = 1 / 0.924."""


@dataclass(frozen=True)
class Box:
    """Where a wave is in space, and how finely it is divided.

    Attributes:
        low, high: Corners of what windows must cover.
        source: Centre of the pulse.
        reach: How far from there the wave can come in the whole time.
        arrivals: When it can first be anywhere, if that is known.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    source: tuple[float, float]
    reach: float
    arrivals: "Arrivals | None" = field(default=None, repr=False, compare=False)

    def reached(self, low: Sequence[float], high: Sequence[float], until: float = math.inf) -> bool:
        """Whether the wave can come to a rectangle by a time."""
        gaps = [max(a - s, s - b, 0.0) for a, b, s in zip(low, high, self.source, strict=True)]
        return math.hypot(*gaps) < self.reach and (self.arrivals is None or self.arrivals.before(until, low, high))


def wave_box(source: Sequence[float], variance: float, fastest: float, duration: float) -> Box:
    """Where a pulse can have come to, and can come back from to [-1, 1]² in time.

    Args:
        source, variance: Of the pulse.
        fastest: Greatest velocity.
        duration: The last time; the first is 0.

    Example:
        >>> wave_box((0.5, 0.0), 1e-4, 1.0, 0.55)
        Box(low=(-0.1, -0.6), high=(1.1, 0.6), source=(0.5, 0.0), reach=0.6)
    """
    far, wide = fastest * duration, FAR * math.sqrt(variance)
    beyond = max(map(abs, source)) + wide - 1  # so far there is something outside at the start
    reach, back = far + wide, 1 + max(far / 2, min(far, beyond))
    low, high = ([x + sign * reach for x in source] for sign in (-1, 1))
    corners = [tuple(round(min(back, max(-back, x)), 12) for x in corner) for corner in (low, high)]
    return Box(corners[0], corners[1], (source[0], source[1]), round(reach, 12))  # type: ignore[arg-type]


def timed(box: Box, medium: Medium, variance: float, duration: float) -> Box:
    """A box that knows when the pulse can come to its places, and is no larger than what it comes to in time.

    A box that reaches beyond `FARTHEST` stays as it is.

    Args:
        box: From `wave_box`.
        medium: m(x).
        variance: Of the pulse.
        duration: The last time.

    Example:
        >>> from hypersiren.waves.media import square
        >>> box = timed(wave_box((0.0, 0.0), 1e-4, 2.0, 0.4), square, 1e-4, 0.4)
        >>> box.reach, 0.55 < box.high[0] < 0.65  # twice as fast up to 0.3 only
        (0.85, True)
    """
    half = max(map(abs, (*box.low, *box.high)))
    if half > FARTHEST:
        return box
    found = arrivals(medium, box.source, FAR * math.sqrt(variance), half)
    n = len(found.times)
    reached = found.times <= duration
    low, high = [], []
    for axis in range(2):
        along = np.flatnonzero(reached.any(1 - axis))
        ends = (found.half * (2 * cell / n - 1) for cell in (along[0], along[-1] + 1))
        first, last = (round(float(end), 12) for end in ends)
        low.append(max(box.low[axis], first))
        high.append(min(box.high[axis], last))
    return replace(box, low=(low[0], low[1]), high=(high[0], high[1]), arrivals=found)


@dataclass(frozen=True)
class Arrivals:
    """Times before which a pulse cannot have come to the cells of a grid over [-half, half]².

    Attributes:
        times: On the cells.
        half: What they span; what lies beyond is as at the border.
    """

    times: Float64[np.ndarray, "n n"]
    half: float

    def before(self, time: float, low: Sequence[float], high: Sequence[float]) -> bool:
        """Whether the pulse may be in a rectangle by a time."""
        n = len(self.times)
        place = (np.array([low, high]) / self.half + 1) * n / 2
        first = np.clip(np.floor(place[0]).astype(int), 0, n - 1)
        last = np.maximum(np.clip(np.ceil(place[1]).astype(int), 0, n), first + 1)
        return bool((self.times[first[0] : last[0], first[1] : last[1]] <= time).any())


def arrivals(medium: Medium, source: Sequence[float], wide: float, half: float) -> Arrivals:
    """When a pulse can first have come to the cells of a grid: shortest paths over cells and their diagonals.

    Args:
        medium: m(x).
        source: Centre of the pulse.
        wide: Radius within which it is at the start.
        half: The grid is over [-half, half]².

    Example:
        >>> from hypersiren.waves.media import square, uniform
        >>> found = arrivals(uniform, (0.0, 0.0), 0.1, half=1.0)
        >>> [found.before(t, (0.5, 0.5), (0.6, 0.6)) for t in (0.55, 0.61)]  # its corner is 0.707 away
        [False, True]
        >>> found = arrivals(square, (0.0, 0.0), 0.1, half=1.0)
        >>> [found.before(t, (0.5, 0.0), (0.6, 0.1)) for t in (0.25, 0.3)]  # 0.2 / 2 to the square's edge, 0.2 on
        [False, True]
    """
    from skimage.graph import MCP_Geometric

    n = 2 * math.ceil(half * CELLS)
    h, x = 2 * half / n, grid((n, n), -half, half, dtype=torch.float64).view(n, n, 2)
    m = medium(grid((n * SAMPLES, n * SAMPLES), -half, half, dtype=torch.float64)).double()
    slowness = reduce(m, "(n i m j) 1 -> n m", "min", n=n, i=SAMPLES, j=SAMPLES).sqrt()
    slowness = -torch.nn.functional.max_pool2d(-slowness[None], 3, 1, 1)[0]  # a jump may lie between samples
    away = (x - x.new_tensor(list(source))).norm(dim=-1) - h  # of the cell's nearest corner, at least
    start = (away <= wide).nonzero().tolist() or [divmod(int(away.argmin()), n)]
    paths = torch.from_numpy(MCP_Geometric(slowness.numpy() * h).find_costs(start)[0])
    straight = (away - wide).clamp_min(0) * slowness.min()
    return Arrivals(torch.maximum(OCTAGON * (paths - h * slowness).clamp_min(0), straight).numpy(), half)
