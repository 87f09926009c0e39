"""The near field of a narrow source in closed form, so that a network need not learn it.

A narrow source makes a wavefield with a peak, log r blurred, whose curvature outweighs all the rest of Helmholtz's
equation. The peak is that of Poisson's equation and the same in every medium: with v the Gaussian's variance,

    p(r) = -(1/2 pi) (log(r / R) + E(z) / 2)    z = r² / (2 v)    -lap p = exp(-z) / (2 pi v)

where E is the exponential integral E_1. With C Euler's constant, log z + E_1(z) and its derivatives are integrals of
smooth functions, which a fixed rule of Gauss and Legendre takes exactly:

    log z + E = int_0^1 (1 - exp(-z t)) / t dt - C    its slope: int_0^1 exp(-z t) dt    minus the next: t exp(-z t)

The window w(r) = (1 - r²/R²)^4 ends it smoothly at radius R. A field
u = network + a w p then satisfies the equation with its source if the network satisfies one with a smooth source,
a (2 grad w . grad p + p lap w + k² m w p) and what little of f is outside the window: by linearity, adding the jets
does all of it.

Symbols: N points, S sources, a amplitude, R radius of the window.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hypersiren.fields.jets import Jet
from hypersiren.fields.operators import Field, diagonal_jet

EULER = 0.57721566490153286

FAR = 36.0
"""z from where on exp(-z) is nothing beside 1 / z."""

PLACES, WEIGHTS = (0.5 * np.polynomial.legendre.leggauss(24)[0] + 0.5, 0.5 * np.polynomial.legendre.leggauss(24)[1])
"""Of the rule on [0, 1], exact to 1e-15 for z below `FAR`."""

TOTAL = float((WEIGHTS / PLACES).sum()) - EULER


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
        return self._add(self.field(x), self._near(x, False).value, 0)

    def jet(self, x: Float[Tensor, "*batch N 2"], *, second: Literal["diagonal"] = "diagonal") -> Jet:
        """Values with gradient and Hessian's diagonal."""
        jet, near = diagonal_jet(self.field, x), self._near(x)
        return Jet(
            self._add(jet.value, near.value, 0),
            self._add(jet.gradient, near.gradient, 1),
            hessian_diagonal=self._add(jet.hessian_diagonal, near.hessian_diagonal, 1),
        )

    def _near(self, x: Tensor, derivatives: bool = True) -> Jet:
        return near_field(x, self.centres, self.amplitude, self.variance, self.radius, derivatives)

    @staticmethod
    def _add(y: Tensor | None, near: Tensor | None, axes_after: int) -> Tensor:
        assert y is not None
        assert near is not None
        others = y.shape[-1 - axes_after] - near.shape[-1 - axes_after]
        return y + (F.pad(near, (*(0, 0) * axes_after, 0, others)) if others else near)


def near_field(
    x: Float[Tensor, "*batch N 2"],
    centres: Float[Tensor, "S 2"],
    amplitude: complex,
    variance: float,
    radius: float,
    derivatives: bool = True,
) -> Jet:
    """The jet of a w p around each of S sources, as 2 S channels, with gradient and Hessian's diagonal.

    Args:
        x: Coordinates.
        centres, amplitude, variance: Of the Gaussian sources, as in `waves.gaussian_sources`.
        radius: R, from which on the near field is zero; best within the open square and well above the source's width.
        derivatives: Whether they are wanted.

    Example:
        >>> near = near_field(torch.rand(7, 2), torch.zeros(3, 2), 1 + 1j, 1e-4, radius=0.3)
        >>> near.value.shape, near.hessian_diagonal.shape
        (torch.Size([7, 6]), torch.Size([7, 6, 2]))
    """
    offset = x.unsqueeze(-2) - centres  # (..., N, S, 2)
    squares = offset.square()
    # All by q = r²: f(q) has the gradient 2 f' x and the Hessian's diagonal 2 f' + 4 f'' x².
    q = squares.sum(-1, keepdim=True)
    left = (1 - q / radius**2).clamp(min=0)
    window, (p, dp, ddp) = left.square(), _peak(q, variance, radius)  # the window is that squared
    f = window.square() * p

    def channels(y: Float[Tensor, "*batch N S K"]) -> Float[Tensor, "*batch N 2*S K"]:
        """a y as channels."""
        return torch.stack([amplitude.real * y, amplitude.imag * y], dim=-2).flatten(-3, -2)

    if not derivatives:
        return Jet(channels(f).squeeze(-1), None)
    lean = left / radius**2
    df = window * (2 * window * dp - 8 * lean * p)  # 2 f'
    ddf = window * (4 * window * ddp - 32 * lean * dp + 48 / radius**4 * p)  # 4 f''
    found = channels(torch.cat([f, df * offset, df + ddf * squares], dim=-1))
    return Jet(found[..., 0], found[..., 1:3], hessian_diagonal=found[..., 3:])


def _peak(q: Float[Tensor, "*shape 1"], variance: float, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """p and its first two derivatives by q = r²."""
    z, (places, weights) = q / (2 * variance), _rule(q.device, q.dtype)
    near = (torch.exp(-z * places).unsqueeze(-2) * weights).sum(-1)  # no product of matrices, which may be rounded
    far = z.clamp(min=FAR)
    inverse = far.reciprocal()
    values = torch.where(z < FAR, near, torch.cat([TOTAL - far.log(), inverse, inverse.square()], dim=-1))
    p, dp, ddp = values.split(1, dim=-1)
    offset = math.log(2 * variance / radius**2) + TOTAL
    return (p - offset) / (4 * math.pi), dp / (-8 * math.pi * variance), ddp / (16 * math.pi * variance**2)


@cache
def _rule(device: torch.device, dtype: torch.dtype) -> tuple[Float[Tensor, " Q"], Float[Tensor, "3 Q"]]:
    """Places t, and weights of exp(-z t) in the integrals of (1 - exp(-z t)) / t, less `TOTAL` + C, and the two slopes.

    Copied to a device once, and not in every step.
    """
    with torch.inference_mode(False):  # a training may want them that were first asked for in inference
        rule = torch.from_numpy(np.stack([WEIGHTS / PLACES, WEIGHTS, WEIGHTS * PLACES]))
        return torch.from_numpy(PLACES).to(device, dtype), rule.to(device, dtype)
