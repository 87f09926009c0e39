"""A SIREN of one sine layer whose frequencies are chosen: the lowest of a lattice, as in a Fourier series.

    phi_k(x) = sin(2 pi k . x / period + b),     b = 0 and pi / 2,     k on the integer lattice, low |k| first.

With a period longer than the interval [-1, 1] these are no basis but a frame (a Fourier extension, Huybrechs 2010):
they need not be periodic, and any number of them may be taken. At equal numbers a window of a photograph is met better
by 5 to 10 dB than with random frequencies.

Symbols: D axes, F features.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hypersiren.fields.siren import Siren


def lattice_frequencies(features: int, dims: int, weights: Sequence[float] | None = None) -> Int[Tensor, "F D"]:
    """The lowest frequencies k of a half of the lattice, each twice (for sine and cosine) but 0, lowest first.

    Args:
        features: F.
        dims: D.
        weights: What each axis' frequency counts for in |k|, such as 1 / samples along it; None for 1.

    Example:
        >>> lattice_frequencies(6, 2).tolist()
        [[0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [1, -1]]
    """
    scale = torch.tensor(list(weights or [1.0] * dims), dtype=torch.float64)
    # A box that surely holds the ball of that many points.
    volume = {1: 2.0, 2: math.pi, 3: 4 * math.pi / 3}.get(dims, 2.0**dims / math.factorial(dims))
    radius = (features * float(scale.prod()) / volume) ** (1 / dims) * 1.2 + 2 * float(scale.max())
    axes = [torch.arange(-r, r + 1) for r in (int(radius / s) + 1 for s in scale.tolist())]
    k = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    first = (k != 0).to(torch.int8).argmax(1, keepdim=True)
    k = k[k.gather(1, first).squeeze(1) >= 0]  # of k and -k one is enough
    size = (k * scale).square().sum(1)
    # Equal sizes in one order, whatever the machine.
    order = sorted(range(len(k)), key=lambda i: (round(size[i].item(), 9), k[i].tolist()))[: features // 2 + 1]
    k = k[torch.tensor(order)]
    return torch.cat([k[:1], k[1:].repeat_interleave(2, 0)])[:features]


@torch.no_grad()
def lattice_siren(
    dims: int,
    channels: int,
    features: int,
    period: float = 2.2,
    weights: Sequence[float] | None = None,
    omega: float = 30.0,
) -> Siren:
    """A Siren of one sine layer with the frequencies of a lattice, and a last layer of zeros.

    Args:
        dims, channels: Of coordinates and values.
        features: F.
        period: Of the lowest frequency; above 2, the length of [-1, 1].
        weights: As in `lattice_frequencies`.
        omega: Its first omega, which changes nothing but the scale of its weights.

    Raises:
        ValueError: If the period is not above 2.

    Example:
        >>> siren = lattice_siren(2, 3, 400)
        >>> siren.features(torch.zeros(1, 2))[0, :3].round(decimals=3).tolist()  # 1, sine and cosine of (0, 1)
        [1.0, 0.0, 1.0]
    """
    if not period > 2:
        raise ValueError(f"expected a period above 2, got {period}")
    siren = Siren(dims, channels, hidden_features=(features,), first_omega=omega)
    k = lattice_frequencies(features, dims, weights)
    first, last = siren._linears()
    first.weight.copy_(2 * math.pi * k / (period * omega))
    phase = torch.arange(features) % 2 == 0  # 1 (the cosine of 0), then sine, cosine, sine, cosine ...
    first.bias.copy_(torch.where(phase, math.pi / 2 / omega, 0.0))
    last.weight.zero_()
    last.bias.zero_()
    return siren


def frequency_sizes(siren: Siren) -> Float[Tensor, " F"]:
    """The length of each feature's frequency, in cycles over [-1, 1], of a Siren of one sine layer.

    Example:
        >>> frequency_sizes(lattice_siren(1, 1, 3, period=4.0)).tolist()
        [0.0, 0.5, 0.5]
    """
    return siren._linears()[0].weight.detach().norm(dim=1) * siren.first_omega / math.pi
