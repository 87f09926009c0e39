"""Windows for waves: how many they are, how many features each has, and where their equations are asked for.

Chosen on the uniform medium and the paper's square at wavenumber 20, for seconds and error; see eval/README.md.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import grid
from hypersiren.fields.lattice import lattice_siren
from hypersiren.fields.row_solve import RIDGE
from hypersiren.fields.settings import Network
from hypersiren.waves.media import Medium

OVERLAP = 0.45
"""Share of a window that it gives to each neighbour: the second derivatives of its weight are then small."""

PERIOD = 4.0
"""Of the lowest frequency; a window has 2. Long waves are close to polynomials, which smooth solutions want."""

FEATURES = 100
"""Of a window in the plane."""

STEP, WAVES = 0.14, 0.65
"""Between windows in the plane, at most: in coordinates, and in the shortest wavelengths."""

DENSITY = 2.5
"""Points for each of a window's features, within a step."""


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


def ridge_of(network: Network) -> float:
    """The ridge of a solve.

    Raises:
        UserError: If a prior is asked for that rows of derivatives do not have.
    """
    if network.smoothness is not None:
        raise UserError(
            "network.smoothness: expected none where an equation is solved, which says how smooth a field is"
        )
    return RIDGE if network.noise is None else network.noise
