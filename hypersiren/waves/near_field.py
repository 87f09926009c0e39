"""The near field of a narrow source in closed form, so that a network need not learn it.

A narrow source makes a wavefield with a peak, log r blurred, whose curvature outweighs all the rest of Helmholtz's
equation. The peak is that of Poisson's equation and the same in every medium: with v the Gaussian's variance,

    p(r) = -(1/2 pi) (log(r / R) + E(z) / 2)    z = r² / (2 v)    -lap p = exp(-z) / (2 pi v)

where E is the exponential integral E_1. The window w(r) = (1 - r²/R²)^4 ends it smoothly at radius R. A field
u = network + a w p then satisfies the equation with its source if the network satisfies one with a smooth source,
a (2 grad w . grad p + p lap w + k² m w p) and what little of f is outside the window: by linearity, adding the jets
does all of it.

Symbols: N points, S sources, a amplitude, R radius of the window.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hypersiren.fields.jets import Jet
from hypersiren.fields.operators import Field, diagonal_jet
from hypersiren.waves.complex_channels import pair

EULER = 0.57721566490153286


@dataclass(frozen=True)
class WithNearField:
    """A field of wavefields, 2 S channels or more, to whose first 2 S the near field of S sources is added.

    Attributes:
        field: The network; channels beyond 2 S (an inversion's medium) stay as they are.
        centres, amplitude, variance: Of the Gaussian sources, as in `waves.gaussian_sources`.
        radius: R, see `near_field`.

    Example:
        >>> from hypersiren.fields.siren import Siren
        >>> field = WithNearField(Siren(2, 2, 16), torch.zeros(1, 2))
        >>> field.jet(torch.rand(7, 2)).gradient.shape
        torch.Size([7, 2, 2])
    """

    field: Field
    centres: Float[Tensor, "S 2"]
    amplitude: complex = 1 + 1j
    variance: float = 1e-4
    radius: float = 0.3

    def __call__(self, x: Float[Tensor, "*batch N 2"]) -> Float[Tensor, "*out N C"]:
        return self._add(self.field(x), self._near(x).value, 0)

    def jet(self, x: Float[Tensor, "*batch N 2"], *, second: Literal["diagonal"] = "diagonal") -> Jet:
        """Values with gradient and Hessian's diagonal."""
        jet, near = diagonal_jet(self.field, x), self._near(x)
        return Jet(
            self._add(jet.value, near.value, 0),
            self._add(jet.gradient, near.gradient, 1),
            hessian_diagonal=self._add(jet.hessian_diagonal, near.hessian_diagonal, 1),
        )

    def _near(self, x: Tensor) -> Jet:
        return near_field(x, self.centres, self.amplitude, self.variance, self.radius)

    @staticmethod
    def _add(y: Tensor | None, near: Tensor | None, axes_after: int) -> Tensor:
        assert y is not None
        assert near is not None
        others = y.shape[-1 - axes_after] - near.shape[-1 - axes_after]
        return y + F.pad(near, (*(0, 0) * axes_after, 0, others))


def near_field(
    x: Float[Tensor, "*batch N 2"],
    centres: Float[Tensor, "S 2"],
    amplitude: complex,
    variance: float,
    radius: float,
) -> Jet:
    """The jet of a w p around each of S sources, as 2 S channels, with gradient and Hessian's diagonal.

    Args:
        x: Coordinates.
        centres, amplitude, variance: Of the Gaussian sources, as in `waves.gaussian_sources`.
        radius: R, from which on the near field is zero; best within the open square and well above the source's width.

    Example:
        >>> near = near_field(torch.rand(7, 2), torch.zeros(3, 2), 1 + 1j, 1e-4, radius=0.3)
        >>> near.value.shape, near.hessian_diagonal.shape
        (torch.Size([7, 6]), torch.Size([7, 6, 2]))
    """
    offset = x.unsqueeze(-2) - centres  # (..., N, S, 2)
    # All by q = r²: f(q) has the gradient 2 f' x and the Hessian's diagonal 2 f' + 4 f'' x².
    q = offset.square().sum(-1)
    z = q / (2 * variance)
    p = -(math.log(2 * variance / radius**2) + _log_plus_e1(z)) / (4 * math.pi)
    dp = -_mean_decay(z) / (8 * math.pi * variance)
    ddp = _mean_slope(z) / (16 * math.pi * variance**2)
    left = (1 - q / radius**2).clamp(min=0)
    w, dw, ddw = left**4, -4 * left**3 / radius**2, 12 * left**2 / radius**4
    f, df, ddf = w * p, w * dp + dw * p, w * ddp + 2 * dw * dp + ddw * p
    gradient = 2 * df.unsqueeze(-1) * offset
    diagonal = 2 * df.unsqueeze(-1) + 4 * ddf.unsqueeze(-1) * offset.square()

    def channels(y: Tensor) -> Tensor:
        """a y as channels, for y real (..., S)."""
        return pair(amplitude.real * y, amplitude.imag * y).flatten(-2)

    return Jet(
        channels(f),
        torch.stack([channels(y) for y in gradient.unbind(-1)], dim=-1),
        hessian_diagonal=torch.stack([channels(y) for y in diagonal.unbind(-1)], dim=-1),
    )


def _mean_decay(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """(1 - exp(-z)) / z, the derivative of log z + E_1(z)."""
    z = z.clamp(min=1e-30)
    return -torch.expm1(-z) / z


def _mean_slope(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """(1 - (1 + z) exp(-z)) / z², minus the derivative of that; by its power series where the difference cancels."""
    small, large = z.clamp(max=0.5), z.clamp(min=0.5)
    term, series = torch.ones_like(z), torch.full_like(z, 0.5)
    for n in range(1, 13):
        term = term * -small / n
        series = series + term / (n + 2)
    return torch.where(z < 0.5, series, (1 - (1 + large) * torch.exp(-large)) / large.square())


def _log_plus_e1(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log z + E_1(z), smooth at 0: the power series up to z = 2, E_1's continued fraction beyond."""
    small = z.clamp(max=2.0)
    term, series = -torch.ones_like(z), torch.full_like(z, -EULER)
    for n in range(1, 26):
        term = term * -small / n
        series = series + term / n
    large = z.clamp(min=2.0)
    fraction = large
    for n in range(40, 0, -1):
        fraction = large + n / (1 + n / fraction)
    return torch.where(z < 2, series, torch.log(large) + torch.exp(-large) / fraction)
