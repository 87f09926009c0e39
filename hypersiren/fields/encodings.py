"""Encodings: what a coordinate network may see in place of the bare coordinates (baselines of the paper and after it).

    positional   x, sin(2^i pi x_d), cos(2^i pi x_d)      Mildenhall et al., ECCV 2020 (NeRF); SIREN's reference code
    Fourier      cos(pi f . x), sin(pi f . x), f ~ N      Tancik et al., NeurIPS 2020
    RBF          exp(-(sigma |x - c|²)²)                  SIREN's reference code, supplement of its paper

Symbols: N points, D coordinate dimensions, E encoded features.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.savable import savable


def nyquist_octaves(samples: int) -> int:
    """Octaves of a positional encoding for so many samples along an axis: floor(log2(samples / 4)), none below 4.

    SIREN's reference code has this count. Its highest frequency, 2^(octaves - 1) pi, lies at or below a quarter of the
    samples' Nyquist frequency: what it cannot express, the layers behind it must.

    Example:
        >>> nyquist_octaves(512), nyquist_octaves(256), nyquist_octaves(255)
        (7, 6, 5)
    """
    return max(0, math.floor(math.log2(samples / 4)))


@savable
class PositionalEncoding(nn.Module):
    """x with sin(2^i pi x_d) and cos(2^i pi x_d) for each octave i of each axis d.

    Args:
        octaves: Octaves along each of the D axes, such as `nyquist_octaves` gives.

    Example:
        >>> PositionalEncoding([7, 7])(torch.zeros(5, 2)).shape
        torch.Size([5, 30])
    """

    axes: Tensor
    frequencies: Tensor

    def __init__(self, octaves: Sequence[int]):
        super().__init__()
        self.in_features, self.out_features = len(octaves), len(octaves) + 2 * sum(octaves)
        pairs = [(d, math.pi * 2**i) for d, count in enumerate(octaves) for i in range(count)]
        # Not in the state_dict: the octaves say it all.
        self.register_buffer("axes", torch.tensor([d for d, _ in pairs], dtype=torch.long), persistent=False)
        self.register_buffer("frequencies", torch.tensor([f for _, f in pairs]), persistent=False)

    def forward(self, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*batch N E"]:
        phase = x[..., self.axes] * self.frequencies
        return torch.cat([x, torch.sin(phase), torch.cos(phase)], dim=-1)


@savable
class FourierFeatures(nn.Module):
    """cos(pi f . x) and sin(pi f . x) for random frequencies f, drawn once and kept in the state_dict.

    Args:
        in_features: Coordinate dimensions D.
        frequencies: Frequencies drawn; there are twice as many features. The authors have 256.
        std: Standard deviation of f ~ N(0, std²); the authors' best for images of 512² is 10. Theirs is 2 pi f . v with
            v on [0, 1], which is the same frequency: our domain is twice as long.
        generator: Source of the frequencies; the global one if None.

    Example:
        >>> FourierFeatures(2)(torch.zeros(5, 2)).shape
        torch.Size([5, 512])
    """

    frequencies: Tensor

    def __init__(
        self, in_features: int, frequencies: int = 256, std: float = 10.0, *, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, 2 * frequencies
        self.register_buffer("frequencies", std * torch.randn(frequencies, in_features, generator=generator))

    def forward(self, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*batch N E"]:
        phase = math.pi * (x @ self.frequencies.mT)
        return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)


@savable
class RadialBasis(nn.Module):
    """exp(-(sigma_j |x - c_j|²)²) for learned centres c_j and widths sigma_j.

    The square of the square is the reference code's: flatter at the centre than a Gaussian and steeper at its side.

    Args:
        in_features: Coordinate dimensions D.
        centres: Centres, at first c ~ U(-1, 1); the paper has 1024.
        sigma: The sigma_j at first, 10 in the reference code: half height at |x - c| = 0.29.
        generator: Source of the centres; the global one if None.

    Example:
        >>> RadialBasis(2, centres=7)(torch.zeros(5, 2)).shape
        torch.Size([5, 7])
    """

    def __init__(
        self, in_features: int, centres: int = 1024, sigma: float = 10.0, *, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, centres
        self.centres = nn.Parameter(nn.init.uniform_(torch.empty(centres, in_features), -1, 1, generator))
        self.sigmas = nn.Parameter(torch.full((centres,), sigma))

    def forward(self, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*batch N E"]:
        # |x - c|² multiplied out: no (N, E, D) differences in memory.
        squares = x.square().sum(-1, keepdim=True) - 2 * x @ self.centres.mT + self.centres.square().sum(-1)
        return torch.exp(-(self.sigmas * squares).square())
