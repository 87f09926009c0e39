"""Helmholtz's equation as a loss: medium, sources, absorbing layer, and how its residual is measured."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.fields.jets import Jet
from hypersiren.fields.operators import Field
from hypersiren.plotting import Picture
from hypersiren.tasks.waves.settings import ResidualLoss
from hypersiren.waves.media import Medium, VelocityImage
from hypersiren.waves.near_field import WithNearField
from hypersiren.waves.pml import PML
from hypersiren.waves.residuals import AMPLITUDE, gaussian_sources, helmholtz_residual

Norm = Literal["l2", "l1"]

VIEW = 128
"""Pixels along each axis of the square that is compared and shown."""

REACH = 6.1
"""Standard deviations from a source to where the authors' code cuts it off (1e-5 of its density at variance 1e-4)."""


def medium_values(medium: Medium) -> Tensor:
    """What a medium is known by: its velocities, or m on a grid."""
    return medium.velocity if isinstance(medium, VelocityImage) else medium(grid((64, 64), dtype=torch.float64))


@dataclass(frozen=True)
class WavePoints:
    """N random points at which the equation is asked for."""

    x: Float[Tensor, "N 2"]


@dataclass(frozen=True)
class Equation:
    """Helmholtz's equation with S sources, and how its residual is measured.

    Attributes:
        wavenumber: k.
        sources: Where each source is.
        amplitude, variance: Of the Gaussian sources.
        pml: The absorbing layer.
        scale: Size of the wavefields, that the residual is divided by.
        loss: How the residual is measured.
    """

    wavenumber: float
    sources: Float[Tensor, "S 2"]
    amplitude: complex = AMPLITUDE
    variance: float = 1e-4
    pml: PML = PML()  # noqa: RUF009  (frozen)
    scale: float = 1.0
    loss: ResidualLoss = ResidualLoss()  # noqa: RUF009  (frozen)

    def complete(self, field: Field, m: float = 0.0) -> Field:
        """The wavefields of a network: itself, and what is given in closed form.

        Args:
            field: The network.
            m: Of the medium around the sources, for the whole near field; 0 for its peak, which is all that a network
                does not see.
        """
        if not self.loss.near_field:
            return field
        kappa = self.wavenumber**2 * m
        return WithNearField(field, self.sources, self.amplitude, self.variance, self.loss.near_field, kappa)

    def residual(self, x: Float[Tensor, "N 2"], jet: Jet, m: Float[Tensor, "*batch N 1"]) -> Float[Tensor, "*out N C"]:
        """What is missing for the equation, relative to k² and to the wavefields' size."""
        f = gaussian_sources(x, self.sources, self.amplitude, self.variance)
        residual = helmholtz_residual(x, jet, self.wavenumber, m, f, self.pml) / (self.wavenumber**2 * self.scale)
        if self.loss.balance:
            residual = residual / (1 + self.pml.absorption(x).square()).prod(-1, keepdim=True).sqrt()
        return residual

    def terms(self, x: Float[Tensor, "N 2"], jet: Jet, m: Float[Tensor, "*batch N 1"]) -> dict[str, Tensor]:
        """The residual where no source is, and where one is."""
        size = misfit(self.residual(x, jet, m), self.loss.norm)
        near = torch.cdist(x, self.sources).amin(-1, keepdim=True) < REACH * math.sqrt(self.variance)
        away = torch.where(near, 0.0, size).mean()
        return {"residual": away, "source": self.loss.source_weight * torch.where(near, size, 0.0).mean()}

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "N 2"]:
        """Random points of [-1, 1]², some of them around the sources."""
        device = self.sources.device
        x = 2 * torch.rand(count - self.loss.source_points, 2, generator=generator, device=device) - 1
        which = torch.randint(len(self.sources), (self.loss.source_points,), generator=generator, device=device)
        # Uniform in the disc that the source fills.
        radius = REACH * math.sqrt(self.variance)
        r = radius * torch.rand(self.loss.source_points, 1, generator=generator, device=device).sqrt()
        angle = 2 * torch.pi * torch.rand(self.loss.source_points, 1, generator=generator, device=device)
        around = self.sources[which] + r * torch.cat([angle.cos(), angle.sin()], dim=-1)
        return torch.cat([x, around.clamp(-1, 1)])


def misfit(difference: Float[Tensor, "*shape"], norm: Norm) -> Float[Tensor, "*shape"]:
    """Squares or absolute values."""
    return difference.square() if norm == "l2" else difference.abs()


def check_equation(equation: Equation, points: int) -> None:
    """Refuse sources that are not in the open square, and more points around them than there are in all.

    Raises:
        UserError: If it is so.
    """
    if equation.loss.source_points >= points:
        raise UserError(
            f"expected loss.source_points below training.points, got {equation.loss.source_points} of {points}"
        )
    half = 1 - equation.pml.width
    for source in equation.sources.tolist():
        if not max(map(abs, source)) < half:
            raise UserError(
                f"expected sources in the square between -{half:g} and {half:g}, which is free of the absorbing layer, "
                f"got one at {tuple(round(each, 4) for each in source)}"
            )


def wave_picture(title: str, values: Float[Tensor, " N"], full: float, half: float, unit: str = "u") -> Picture:
    """A wavefield on the grid of the square |x_0|, |x_1| < `half`: -`full` is blue, 0 white, `full` red."""
    return square_picture(title, values, half, unit=unit, limits=(-full, full), colors="bwr")


def velocity_picture(title: str, m: Float[Tensor, "N 1"], half: float, fastest: float = 2.0) -> Picture:
    """Velocities 1 / sqrt(m) on the grid of the square, from 0 to `fastest`."""
    unit = "velocity c (uniform: 1)"
    return square_picture(title, m.rsqrt().flatten(), half, unit=unit, limits=(0.0, fastest))


def velocity_error_picture(m: Float[Tensor, "*N"], truth: Float[Tensor, "*N"], half: float) -> Picture:
    """Velocities that were found, less the true ones."""
    error = (m.rsqrt() - truth.rsqrt()).flatten()
    off = np.quantile(error.abs().cpu(), 0.995).item() or 1e-12
    return square_picture("Velocity: error", error, half, unit="result - truth", limits=(-off, off), colors="bwr")


def medium_errors(
    m: Float[Tensor, "*N"], truth: Float[Tensor, "*N"], start: Float[Tensor, "*N"]
) -> tuple[float, float, float]:
    """How far a medium is off, in squared slownesses m.

    Returns:
        The mean squared error of the velocity, that of the start medium, and the correlation of the change of m.

    Example:
        >>> one = torch.ones(4)
        >>> medium_errors(one / 4, one / 4, one)
        (0.0, 1.0, 1.0)
    """
    c = truth.rsqrt()
    found, before = ((each.rsqrt() - c).square().mean().item() for each in (m, start))
    sizes = (m - start).norm() * (truth - start).norm()
    return found, before, (((m - start) * (truth - start)).sum() / sizes.clamp_min(1e-12)).item()


def square_picture(title: str, values: Float[Tensor, " N"], half: float, **settings: Any) -> Picture:
    """Values on the grid of the square: x_0 downwards, x_1 to the right.

    Args:
        title: Above it.
        values: At the pixels.
        half: Half of the square's width.
        settings: `unit`, `limits` and `colors` of the `Picture`.
    """
    square, extent = values.view(VIEW, VIEW).cpu().numpy(), (-half, half, half, -half)
    return Picture(title, square, extent=extent, x_label="$x_1$", y_label="$x_0$", **settings)
