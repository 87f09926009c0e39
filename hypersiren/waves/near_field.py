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

What is left has the peak k² m p, and around the source what w leaves of f. A network does not see either; a solve that
is to be exact to 1e-3 does. Where the medium is m_0 around the source, the peak may be that of Helmholtz's equation,
with kappa = k² m_0 a blurred function of Bessel and Weber,

    -lap p - kappa p = exp(-z) / (2 pi v)    p = -Y_0(sqrt(kappa) r) exp(-kappa v / 2) / 4    beyond the source

under the window (1 - s)^4 (1 + 4 s + 10 s²), s = r² / R², which is 1 up to s³.

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
        kappa: k² m_0 at the sources, or 0, see `near_field`.

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
    kappa: float = 0.0

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
        return near_field(x, self.centres, self.amplitude, self.variance, self.radius, derivatives, self.kappa)

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
    kappa: float = 0.0,
) -> Jet:
    """The jet of a w p around each of S sources, as 2 S channels, with gradient and Hessian's diagonal.

    Args:
        x: Coordinates.
        centres, amplitude, variance: Of the Gaussian sources, as in `waves.gaussian_sources`.
        radius: R, from which on the near field is zero; best within the open square and well above the source's width.
        derivatives: Whether they are wanted.
        kappa: k² m_0 for the peak of Helmholtz's equation; 0 for that of Poisson's.

    Example:
        >>> near = near_field(torch.rand(7, 2), torch.zeros(3, 2), 1 + 1j, 1e-4, radius=0.3)
        >>> near.value.shape, near.hessian_diagonal.shape
        (torch.Size([7, 6]), torch.Size([7, 6, 2]))
    """
    offset = x.unsqueeze(-2) - centres  # (..., N, S, 2)
    squares = offset.square()
    # All by q = r²: f(q) has the gradient 2 f' x and the Hessian's diagonal 2 f' + 4 f'' x².
    q = squares.sum(-1, keepdim=True)
    p, dp, ddp = _wave_peak(q, variance, kappa) if kappa else _peak(q, variance, radius)
    w, dw, ddw = _window(q / radius**2, flat=bool(kappa))

    def channels(y: Float[Tensor, "*batch N S K"]) -> Float[Tensor, "*batch N 2*S K"]:
        """a y as channels."""
        return torch.stack([amplitude.real * y, amplitude.imag * y], dim=-2).flatten(-3, -2)

    if not derivatives:
        return Jet(channels(w * p).squeeze(-1), None)
    dw, ddw = dw / radius**2, ddw / radius**4
    f, df = w * p, 2 * (w * dp + dw * p)  # 2 f'
    ddf = 4 * (w * ddp + 2 * dw * dp + ddw * p)  # 4 f''
    found = channels(torch.cat([f, df * offset, df + ddf * squares], dim=-1))
    return Jet(found[..., 0], found[..., 1:3], hessian_diagonal=found[..., 3:])


def _window(s: Float[Tensor, "*shape 1"], flat: bool) -> tuple[Tensor, Tensor, Tensor]:
    """w and its first two derivatives by s = r² / R²."""
    left = (1 - s).clamp(min=0)
    if not flat:
        return left**4, -4 * left**3, 12 * left**2
    inside = s.clamp(max=1)
    w = left**4 * (1 + 4 * inside + 10 * inside.square())
    return w, -60 * inside.square() * left**3, 60 * inside * left.square() * (5 * inside - 2)


def _peak(q: Float[Tensor, "*shape 1"], variance: float, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """p of Poisson's equation and its first two derivatives by q = r²."""
    z, (places, weights) = q / (2 * variance), _rule(q.device, q.dtype)
    near = (torch.exp(-z * places).unsqueeze(-2) * weights).sum(-1)  # no product of matrices, which may be rounded
    far = z.clamp(min=FAR)
    inverse = far.reciprocal()
    values = torch.where(z < FAR, near, torch.cat([TOTAL - far.log(), inverse, inverse.square()], dim=-1))
    p, dp, ddp = values.split(1, dim=-1)
    offset = math.log(2 * variance / radius**2) + TOTAL
    return (p - offset) / (4 * math.pi), dp / (-8 * math.pi * variance), ddp / (16 * math.pi * variance**2)


def _wave_peak(q: Float[Tensor, "*shape 1"], variance: float, kappa: float) -> tuple[Tensor, Tensor, Tensor]:
    """p of Helmholtz's equation and its first two derivatives by q = r²."""
    k, size = math.sqrt(kappa), -math.exp(-kappa * variance / 2) / 4
    z = q / (2 * variance)
    r = (2 * variance * z.clamp(min=FAR)).sqrt()
    y0, y1 = torch.special.bessel_y0(k * r), torch.special.bessel_y1(k * r)
    far = size * y0, -size * k * y1 / (2 * r), -size * k / 4 * (k * y0 / r - 2 * y1 / r.square()) / r
    near = _series(z.clamp(max=FAR) * (2 / FAR) - 1, _peak_series(variance, kappa))
    slope = 1 / (FAR * variance)  # of the series' argument by q
    found = [torch.where(z < FAR, a * slope**i, b) for i, (a, b) in enumerate(zip(near, far, strict=True))]
    return found[0], found[1], found[2]


def _series(t: Tensor, coefficients: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """A series of Chebyshev's polynomials and its first two derivatives at t in [-1, 1], by Clenshaw's recurrence."""
    zero = torch.zeros_like(t)
    b, c, d = (zero, zero), (zero, zero), (zero, zero)
    for coefficient in reversed(coefficients[1:]):
        d = 2 * t * d[0] - d[1] + 4 * c[0], d[0]
        c = 2 * t * c[0] - c[1] + 2 * b[0], c[0]
        b = 2 * t * b[0] - b[1] + coefficient, b[0]
    return t * b[0] - b[1] + coefficients[0], t * c[0] - c[1] + b[0], t * d[0] - d[1] + 2 * c[0]


@cache
def _peak_series(variance: float, kappa: float, degree: int = 64) -> tuple[float, ...]:
    """p within the source, z < `FAR`, as a series of Chebyshev's polynomials of 2 z / `FAR` - 1.

    By the addition theorem, -(pi / 2) (Y_0(k r) int_0^r J_0(k s) g(s) s ds + J_0(k r) int_r^inf Y_0(k s) g(s) s ds).
    """
    from scipy.special import j0, y0

    k, reach = math.sqrt(kappa), math.sqrt(2 * variance * FAR) * 1.2
    t = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    r = np.sqrt(variance * FAR * (t + 1))[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(200)
    nodes, weights = (nodes + 1) / 2, weights / 2

    def part(function, lower, upper):  # closer to the lower end, where Y_0 may be steep
        s = lower + (upper - lower) * nodes**2
        values = function(k * s) * np.exp(-(s**2) / (2 * variance)) * s * 2 * nodes
        return values @ weights * (upper - lower)[:, 0] / (2 * math.pi * variance)

    inner, outer = part(j0, 0 * r, r), part(y0, r, np.full_like(r, reach))
    values = -math.pi / 2 * (y0(k * r[:, 0]) * inner + j0(k * r[:, 0]) * outer)
    return tuple(np.polynomial.chebyshev.chebfit(t, values, degree).tolist())


@cache
def _rule(device: torch.device, dtype: torch.dtype) -> tuple[Float[Tensor, " Q"], Float[Tensor, "3 Q"]]:
    """Places t, and weights of exp(-z t) in the integrals of (1 - exp(-z t)) / t, less `TOTAL` + C, and the two slopes.

    Copied to a device once, and not in every step.
    """
    with torch.inference_mode(False):  # a training may want them that were first asked for in inference
        rule = torch.from_numpy(np.stack([WEIGHTS / PLACES, WEIGHTS, WEIGHTS * PLACES]))
        return torch.from_numpy(PLACES).to(device, dtype), rule.to(device, dtype)
