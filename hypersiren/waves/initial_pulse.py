"""Waves that start from rest with a given pulse, exactly, whatever the network says.

The paper asks for u = u0 and u_t = 0 at t = 0 by terms of the loss; a field that cannot break them learns the wave
equation alone, and far faster. With phi = 1 - exp(-(t / tau)²), which vanishes at t = 0 with its derivative,

    u(t, x) = (1 - phi(t)) u0(x) + phi(t) network(t, x)        u0 = a exp(-|x - centre|² / 2 v)

and after some tau, the time in which the pulse leaves its place, u is the network itself.

Symbols: N points (t, x_0, x_1), a amplitude, v variance.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hypersiren.fields.jets import Jet
from hypersiren.fields.operators import Field, diagonal_jet


@dataclass(frozen=True)
class InitialPulse:
    """A field of (t, x_0, x_1) that begins as a pulse at rest: see above.

    Attributes:
        field: The network, with one channel.
        centre: (2,), of the pulse.
        amplitude: Of the pulse, its peak (authors' code: 1/50).
        variance: Of the pulse (authors' code: 5e-4).
        velocity: c at the pulse; tau is sqrt(variance) / c.

    Example:
        >>> from hypersiren.fields.siren import Siren
        >>> field = InitialPulse(Siren(3, 1, 16), torch.zeros(2), amplitude=2.0)
        >>> field(torch.zeros(1, 3)).item()
        2.0
    """

    field: Field
    centre: Float[Tensor, "2"]
    amplitude: float = 1.0
    variance: float = 5e-4
    velocity: float = 1.0

    def __call__(self, x: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*out N 1"]:
        start, (phi, _, _) = self._start(x).value, self._blend(x)
        return start + phi * (self.field(x) - start)

    def jet(self, x: Float[Tensor, "*batch N 3"], *, second: Literal["diagonal"] = "diagonal") -> Jet:
        """Values with gradient and Hessian's diagonal."""
        start, jet = self._start(x), diagonal_jet(self.field, x)
        assert start.gradient is not None and start.hessian_diagonal is not None  # noqa: PT018
        assert jet.gradient is not None and jet.hessian_diagonal is not None  # noqa: PT018
        # u = u0 + phi w; phi depends on time alone, the first coordinate.
        w, dw = jet.value - start.value, jet.gradient - start.gradient
        ddw = jet.hessian_diagonal - start.hessian_diagonal
        phi, dphi, ddphi = (y.unsqueeze(-1) for y in self._blend(x))
        by_time = dphi * w.unsqueeze(-1)
        by_time_twice = ddphi * w.unsqueeze(-1) + 2 * dphi * dw[..., :1]
        return Jet(
            start.value + phi.squeeze(-1) * w,
            start.gradient + phi * dw + F.pad(by_time, (0, 2)),
            hessian_diagonal=start.hessian_diagonal + phi * ddw + F.pad(by_time_twice, (0, 2)),
        )

    def _blend(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi and its two derivatives by time."""
        t, rate = x[..., :1], self.velocity**2 / self.variance
        rest = torch.exp(-rate * t.square())
        return 1 - rest, 2 * rate * t * rest, 2 * rate * (1 - 2 * rate * t.square()) * rest

    def _start(self, x: Tensor) -> Jet:
        """The jet of u0, at rest in time."""
        offset = x[..., 1:] - self.centre
        value = self.amplitude * torch.exp(-offset.square().sum(-1, keepdim=True) / (2 * self.variance))
        gradient = -value * offset / self.variance
        diagonal = value * (offset.square() / self.variance - 1) / self.variance
        still = torch.zeros_like(value)
        return Jet(
            value,
            torch.cat([still, gradient], dim=-1).unsqueeze(-2),
            hessian_diagonal=torch.cat([still, diagonal], dim=-1).unsqueeze(-2),
        )
