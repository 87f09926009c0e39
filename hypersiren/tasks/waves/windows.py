"""Windows for waves: how many they are, how many features each has, and where their equations are asked for.

Chosen on the uniform medium and the paper's square at wavenumber 20, for seconds and error; see eval/README.md.
"""

import logging
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import grid
from hypersiren.fields.lattice import lattice_siren
from hypersiren.fields.row_solve import RIDGE
from hypersiren.fields.settings import Network
from hypersiren.signals.sets.disk import free_memory
from hypersiren.waves.media import Medium
from hypersiren.waves.reach import Box
from hypersiren.waves.windowed_wave import FREQUENCIES, TIME_OVERLAP, TURN, wave_windows, window_counts

LOG = logging.getLogger(__name__)

OVERLAP = 0.45
"""Share of a window that it gives to each neighbour: the second derivatives of its weight are then small."""

PERIOD = 4.0
"""Of the lowest frequency; a window has 2. Long waves are close to polynomials, which smooth solutions want."""

FEATURES = 100
"""Of a window in the plane."""

STEP, WAVES = 0.14, 0.9
"""Between windows in the plane, at most: in coordinates, and in the shortest wavelengths."""

TOLD = 2 * 2**30
"""Bytes from which on a solve says what it costs."""

DENSITY = 2.5
"""Points for each of a window's features, within a step."""


WAVE_FEATURES, WAVE_STEPS, ENOUGH = 65, (4.0, 4.5, 5.0, 5.5, 6.0), 750
"""Of a window of a wave in space; from window to window, in standard deviations of the pulse where it is shortest; and
windows in space from which on the larger of these steps are taken."""

MOST_WINDOWS = 2500
"""Windows in space of a wave that is solved by default: their factors have some 3 GB."""


def wave_width(box: Box, deviation: float, there: float, slowest: float) -> float:
    """The width of a wave's windows: a pulse becomes shorter where the medium is slower.

    Args:
        box: What they must cover.
        deviation: Standard deviation of the pulse.
        there, slowest: Velocity where the pulse is, and the least.
    """
    shortest = deviation * min(1.0, slowest / there)
    widths = [step * shortest / (1 - OVERLAP) for step in WAVE_STEPS]
    return next((w for w in widths if math.prod(window_counts(box, w, OVERLAP)) <= ENOUGH), widths[-1])


def moving_windows(
    network: Network, box: Box, width: float, duration: float, fastest_turn: float, samples: Sequence[int]
) -> CompactWindows:
    """Windows of time and place, in double precision, without numbers.

    Args:
        network: Its `numbers` for each value of what is shown, its `window` in pixels of that, its `overlap` in space.
        box: What they must cover.
        width: Of a window in space, if the network does not say.
        duration: Last time.
        fastest_turn: Radians in a unit of time, of the highest frequency.
        samples: Frames, and pixels along each axis, of what is shown.
    """
    overlap, features, values = network.overlap or OVERLAP, WAVE_FEATURES, math.prod(samples)
    slab = 2 * TURN / fastest_turn
    slabs = max(1, 1 + math.ceil((duration / slab - 1) / (1 - TIME_OVERLAP)))
    each = 2 * FREQUENCIES * slabs

    def counted(width: float) -> int:
        return math.prod(window_counts(box, width, overlap))

    if network.window is not None:
        width = network.window * 2 / samples[-1]
        if network.numbers is not None:
            features = max(5, 2 * round(network.numbers * values / (each * counted(width))) - 1)
    elif network.numbers is not None:
        width, pairs = 2.0, (features + 1) // 2
        while width > 1e-3 and each * pairs * counted(width) < network.numbers * values:
            width *= 0.99
    return wave_windows(box, width, overlap, features, duration, slabs)


def tell_slabs(done: int, total: int) -> None:
    """A line on the progress of a solve."""
    LOG.info("solving windows: %d %%", 100 * done // total)


def square_windows(
    network: Network, shortest: float, half: float, pixels: int, device: torch.device | str
) -> CompactWindows:
    """Windows over [-1, 1]² with two channels, in double precision, without numbers.

    Args:
        network: Its `numbers` for each value of what is shown, its `window` in pixels of that, its `overlap`.
        shortest: Wavelength.
        half: Half of the width of what is shown.
        pixels: Of what is shown, along each axis.
        device: Where to solve.
    """
    overlap = OVERLAP if network.overlap is None else network.overlap
    features, values = FEATURES, pixels**2
    if network.window is not None:
        width = network.window * 2 * half / pixels
        count = 1 + math.ceil((2 - width) / ((1 - overlap) * width))
        if network.numbers is not None:
            features = max(4, round(network.numbers * values / count**2))
    elif network.numbers is not None:
        count = max(1, round(math.sqrt(network.numbers * values / features)))
    else:
        count = math.ceil(2 / min(STEP, WAVES * shortest) - overlap / (1 - overlap))
    siren = lattice_siren(2, 2, features, PERIOD)
    return CompactWindows(siren, (count, count), overlap, counts=(features, features)).double().to(device)


def tell_cost(field: CompactWindows) -> None:
    """Say what the equations of windows over a square cost, where that is much.

    The number of products and of the factors' blocks is that of nested dissection; the constants are measured, see
    eval/README.md.

    Raises:
        UserError: If the memory is not free.
    """
    side, features = field.windows.count[0], field.counts[0]
    size = 9 * 16 * features**2 * side**2 * math.log2(max(side, 2))
    minutes = 6e-11 * (features * side) ** 3
    if size < TOLD:
        return
    what = f"{side} x {side} windows need some {size / 2**30:.1f} GiB of memory"
    if (free := free_memory(field.coefficients.device)) is not None and size > free:
        raise UserError(
            f"{what}, and {free / 2**30:.1f} GiB are free: expected a lower wavenumber, fewer --network.numbers, or "
            "--network.kind siren, which is trained"
        )
    LOG.info("%s, and some %.2g minutes of a processor's core", what, minutes)


def point_grid(field: CompactWindows) -> tuple[Float[Tensor, "N 2"], float]:
    """Points on a regular grid over [-1, 1]², as many as the features of the windows ask for, and their distance."""
    features = field.counts[0]
    each = math.ceil(math.sqrt(DENSITY * features)) * field.windows.count[0]
    device = field.coefficients.device
    return grid((each, each), device=device, dtype=torch.float64), 2 / each


def border_grid(count: int, device: torch.device | str) -> Float[Tensor, "N 2"]:
    """So many points along each side of [-1, 1]²."""
    along = grid((count,), device=device, dtype=torch.float64).squeeze(1)
    one = torch.ones_like(along)
    sides = ((along, one), (along, -one), (one, along), (-one, along))
    return torch.cat([torch.stack(side, -1) for side in sides])


def smoothed(medium: Medium, x: Float[Tensor, "N 2"], width: float, samples: int = 8) -> Float[Tensor, "N 1"]:
    """The mean of a medium over squares of this width: windows do not resolve a jump.

    Example:
        >>> from hypersiren.waves.media import square
        >>> smoothed(square, torch.tensor([[0.0, 0.3]]), 0.1).tolist()
        [[0.625]]
    """
    offsets = grid((samples, samples), -width / 2, width / 2, device=x.device, dtype=x.dtype)
    return torch.stack([medium(x + offset) for offset in offsets]).mean(0)


def ridge_of(network: Network, ridge: float = RIDGE) -> float:
    """The ridge of a solve, by default `ridge`.

    Raises:
        UserError: If a prior is asked for that rows of derivatives do not have.
    """
    if network.smoothness is not None:
        raise UserError(
            "network.smoothness: expected none where an equation is solved, which says how smooth a field is"
        )
    return ridge if network.noise is None else network.noise
