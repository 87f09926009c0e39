"""Waves: what a field must satisfy to be one, as pure functions of its jet (paper, section 4.3).

- Helmholtz's equation, one frequency: complex wavefields (two channels each, see `complex_channels`) of (x_0, x_1),
  with the perfectly matched layer of `pml`: d_0(A d_0 u) + d_1(B d_1 u) + C k² m u = -f.
- The wave equation: a real field of (t, x_0, x_1), u_tt = c² (u_00 + u_11).
- Full waveform inversion: S wavefields and the medium itself as one more channel of the same field.

Jets carry all derivatives that are needed: `field.jet(x, second="diagonal")`.

Symbols: N points, S sources and their wavefields, u wavefield, f source, k wavenumber, m squared slowness, c velocity.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.jets import Jet
from hypersiren.waves.complex_channels import multiply, pair
from hypersiren.waves.pml import PML

VARIANCE = 1e-4
"""Variance of the paper's Gaussian source (authors' code)."""

AMPLITUDE = 1 + 1j
"""Strength of the paper's source, the integral of f over the plane (authors' code)."""


def gaussian(
    x: Float[Tensor, "*batch N D"], centres: Float[Tensor, "S D"], variance: float = VARIANCE
) -> Float[Tensor, "*batch N S"]:
    """The normal density around each of S centres, whose integral is 1.

    Example:
        >>> 2 * math.pi * gaussian(torch.zeros(1, 2), torch.tensor([[0.0, 0.1]]), variance=0.01).item()
        60.65...
    """
    squares = (x.unsqueeze(-2) - centres).square().sum(-1)
    return torch.exp(-squares / (2 * variance)) / (2 * math.pi * variance) ** (x.shape[-1] / 2)


def gaussian_sources(
    x: Float[Tensor, "*batch N 2"],
    centres: Float[Tensor, "S 2"],
    amplitude: complex = AMPLITUDE,
    variance: float = VARIANCE,
) -> Float[Tensor, "*batch N 2*S"]:
    """The source f of each of S wavefields: a Gaussian whose integral is `amplitude`.

    Example:
        >>> gaussian_sources(torch.zeros(7, 2), torch.rand(3, 2)).shape
        torch.Size([7, 6])
    """
    density = gaussian(x, centres, variance)
    return pair(amplitude.real * density, amplitude.imag * density).flatten(-2)


def helmholtz_residual(
    x: Float[Tensor, "*batch N 2"],
    jet: Jet,
    wavenumber: float,
    squared_slowness: Float[Tensor, "*batch2 N 1"] | float = 1.0,
    source: Float[Tensor, "*batch3 N C"] | float = 0.0,
    pml: PML = PML(),  # noqa: B008  (frozen)
) -> Float[Tensor, "*out N C"]:
    """What is missing for Helmholtz's equation: d_0(A d_0 u) + d_1(B d_1 u) + C k² m u + f, zero for its solutions.

    Args:
        x: Coordinates.
        jet: Of C = 2 S channels at x, with gradient and Hessian's diagonal.
        wavenumber: k.
        squared_slowness: m, the same for all wavefields.
        source: f, as channels.
        pml: The layer.

    Raises:
        ValueError: If the jet lacks derivatives, or its channels are not pairs.

    Example:
        >>> from hypersiren.fields.siren import Siren
        >>> x = torch.rand(10, 2)
        >>> jet = Siren(2, 2, 16).jet(x, second="diagonal")
        >>> helmholtz_residual(x, jet, 20.0, source=gaussian_sources(x, torch.zeros(1, 2))).shape
        torch.Size([10, 2])
    """
    value, gradient, curvature = _pieces(jet)
    if value.shape[-1] % 2:
        raise ValueError(f"expected an even number of channels, two for each wavefield, got {value.shape[-1]}")
    # Five products (..., N, S, 5, 2) of complex numbers; the coefficients are the same for all S.
    derivatives = torch.cat([gradient, curvature, value.unsqueeze(-1)], dim=-1).unflatten(-2, (-1, 2)).mT
    layer = pml.coefficients(x)
    c = wavenumber**2 * squared_slowness * layer.c
    shape = torch.broadcast_shapes(c.shape, layer.a.shape)
    coefficients = [z.expand(shape) for z in (layer.da, layer.db, layer.a, layer.b, c)]
    products = multiply(torch.stack(coefficients, dim=-2).unsqueeze(-3), derivatives)
    return products.sum(-2).flatten(-2) + source


def wave_residual(jet: Jet, velocity: Float[Tensor, "*batch N 1"] | float = 1.0) -> Float[Tensor, "*out N C"]:
    """What is missing for the wave equation: u_tt - c² (u_00 + u_11), zero for its solutions.

    Args:
        jet: Of a field of (t, x_0, x_1), with the Hessian's diagonal.
        velocity: c.

    Raises:
        ValueError: If the jet lacks second derivatives.

    Example:
        >>> from hypersiren.fields.siren import Siren
        >>> wave_residual(Siren(3, 1, 16).jet(torch.rand(10, 3), second="diagonal")).shape
        torch.Size([10, 1])
    """
    if (curvature := jet.hessian_diagonal) is None:
        raise ValueError('expected a jet with the Hessian\'s diagonal, field.jet(x, second="diagonal")')
    return curvature[..., 0] - velocity**2 * curvature[..., 1:].sum(-1)


def split_medium(
    x: Float[Tensor, "*batch N 2"], jet: Jet, *, known_beyond: float = 0.75, least: float = 1e-3
) -> tuple[Jet, Float[Tensor, "*out N 1"]]:
    """The wavefields and the medium of an inversion's field, whose last channel is the medium (authors' code).

    Args:
        x: Coordinates.
        jet: Of 2 S + 1 channels at x; the last is m - 1.
        known_beyond: Where |x_0| or |x_1| is beyond, the medium is known to be the background, m = 1.
        least: m is kept above.

    Returns:
        The jet of the 2 S first channels, and m.

    Example:
        >>> from hypersiren.fields.siren import Siren
        >>> x = torch.rand(10, 2)
        >>> wavefields, m = split_medium(x, Siren(2, 11, 16).jet(x, second="diagonal"))
        >>> wavefields.value.shape, m.shape
        (torch.Size([10, 10]), torch.Size([10, 1]))
    """
    value, gradient, curvature = _pieces(jet)
    wavefields = Jet(value[..., :-1], gradient[..., :-1, :], hessian_diagonal=curvature[..., :-1, :])
    return wavefields, medium_of(x, value, known_beyond=known_beyond, least=least)


def medium_of(
    x: Float[Tensor, "*batch N 2"],
    values: Float[Tensor, "*out N C"],
    *,
    known_beyond: float = 0.75,
    least: float = 1e-3,
) -> Float[Tensor, "*out N 1"]:
    """The medium m in the last channel of an inversion's field, see `split_medium`.

    Example:
        >>> medium_of(torch.tensor([[0.0, 0.1], [0.0, 0.8]]), torch.tensor([[7.0, -0.5], [7.0, -0.5]])).tolist()
        [[0.5], [1.0]]
    """
    known = x.abs().amax(-1, keepdim=True) > known_beyond
    return torch.where(known, 1.0, 1 + values[..., -1:].clamp(min=least - 1))


def medium_gradient(
    x: Float[Tensor, "*batch N 2"], jet: Jet, *, known_beyond: float = 0.75, least: float = 1e-3
) -> Float[Tensor, "*out N 2"]:
    """The gradient of the medium m of an inversion's field, see `split_medium`: zero where m is known or kept above.

    Raises:
        ValueError: If the jet lacks derivatives.

    Example:
        >>> from hypersiren.fields.siren import Siren
        >>> x = torch.tensor([[0.0, 0.1], [0.0, 0.8]])
        >>> medium_gradient(x, Siren(2, 11, 16).jet(x, second="diagonal"))[1].tolist()
        [0.0, 0.0]
    """
    value, gradient, _ = _pieces(jet)
    constant = (x.abs().amax(-1, keepdim=True) > known_beyond) | (value[..., -1:] < least - 1)
    return torch.where(constant, 0.0, gradient[..., -1, :])


def _pieces(jet: Jet) -> tuple[Tensor, Tensor, Tensor]:
    if jet.gradient is None or jet.hessian_diagonal is None:
        raise ValueError('expected a jet with gradient and Hessian\'s diagonal, field.jet(x, second="diagonal")')
    return jet.value, jet.gradient, jet.hessian_diagonal
