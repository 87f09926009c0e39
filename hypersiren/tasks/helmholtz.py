"""Helmholtz: the wavefield of a source at one frequency, in any medium, as if the plane went on (paper, section 4.3).

The network sees the equation alone, with its absorbing layer (`hypersiren.pml`), at random points of [-1, 1]²:

    residual = (d_0(A d_0 u) + d_1(B d_1 u) + C k² m u + f) / k²

balanced by |C|, as squares or absolute values. The peak at a narrow source may be given in closed form
(`hypersiren.near_field`). The truth, the exact solution of the uniform plane or finite differences elsewhere, is only
compared with, in the square that is free of the layer.

Symbols: N points, S sources, k wavenumber, m squared slowness, f source, u wavefield of two channels each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.complex_channels import to_channels
from hypersiren.coords import evaluate, grid
from hypersiren.errors import UserError
from hypersiren.helmholtz_solver import cell_sources, check_resolution, solve_helmholtz, uniform_wavefield
from hypersiren.inversion_data import sample_wavefields
from hypersiren.jets import Jet
from hypersiren.media import Medium, cell_means, open_medium, uniform
from hypersiren.near_field import WithNearField
from hypersiren.operators import diagonal_jet
from hypersiren.pictures import draw_wave
from hypersiren.pml import PML
from hypersiren.tasks import Field, ImagePanel, Panel
from hypersiren.waves import AMPLITUDE, gaussian_sources, helmholtz_residual

Norm = Literal["l2", "l1"]

VIEW = 128
"""Pixels along each axis of the square that is compared and shown."""

REACH = 6.1
"""Standard deviations from a source to where the authors' code cuts it off (1e-5 of its density at variance 1e-4)."""


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
        norm: Mean squares or mean absolute values.
        balance: Whether the residual is divided by |C|, which reaches 26 in the layer's corners.
        near_field: Radius in which a source's peak is given in closed form; 0 for none.
        source_weight: Times the residual where a source is.
        source_points: So many of the N points are drawn around the sources.
    """

    wavenumber: float
    sources: Float[Tensor, "S 2"]
    amplitude: complex = AMPLITUDE
    variance: float = 1e-4
    pml: PML = PML()  # noqa: RUF009  (frozen)
    scale: float = 1.0
    norm: Norm = "l2"
    balance: bool = True
    near_field: float = 0.3
    source_weight: float = 1.0
    source_points: int = 0

    def complete(self, field: Field) -> Field:
        """The wavefields of a network: itself, and what is given in closed form."""
        if not self.near_field:
            return field
        return WithNearField(field, self.sources, self.amplitude, self.variance, self.near_field)

    def terms(self, x: Float[Tensor, "N 2"], jet: Jet, m: Float[Tensor, "*batch N 1"]) -> dict[str, Tensor]:
        """The residual where no source is, and where one is."""
        f = gaussian_sources(x, self.sources, self.amplitude, self.variance)
        residual = helmholtz_residual(x, jet, self.wavenumber, m, f, self.pml) / (self.wavenumber**2 * self.scale)
        if self.balance:
            residual = residual / (1 + self.pml.absorption(x).square()).prod(-1, keepdim=True).sqrt()
        size = misfit(residual, self.norm)
        near = torch.cdist(x, self.sources).amin(-1, keepdim=True) < REACH * math.sqrt(self.variance)
        away = torch.where(near, 0.0, size).mean()
        return {"residual": away, "source": self.source_weight * torch.where(near, size, 0.0).mean()}

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "N 2"]:
        """Random points of [-1, 1]², some of them around the sources."""
        device = self.sources.device
        x = 2 * torch.rand(count - self.source_points, 2, generator=generator, device=device) - 1
        which = torch.randint(len(self.sources), (self.source_points,), generator=generator, device=device)
        # Uniform in the disc that the source fills.
        radius = REACH * math.sqrt(self.variance)
        r = radius * torch.rand(self.source_points, 1, generator=generator, device=device).sqrt()
        angle = 2 * torch.pi * torch.rand(self.source_points, 1, generator=generator, device=device)
        around = self.sources[which] + r * torch.cat([angle.cos(), angle.sin()], dim=-1)
        return torch.cat([x, around.clamp(-1, 1)])


class Helmholtz:
    """The Helmholtz task.

    Args:
        equation: k, one source, the layer, and how the residual is measured.
        medium: m(x).
        points: Random points a step.
        cells: Cells along each axis of the finite differences that find the truth, where the medium is not uniform.

    Raises:
        UserError: If the source is not in the square that is free of the layer, or the cells are too few for k.

    Example:
        >>> from hypersiren import Siren
        >>> task = Helmholtz(Equation(5.0, torch.zeros(1, 2)), points=20)
        >>> sorted(task.loss(Siren(2, 2, 8), task.sample(torch.Generator())))
        ['residual', 'source']
    """

    name = "helmholtz"
    unit = "points"
    # The truth is not known to who solves an equation: it must not choose the checkpoint.
    criterion: str | None = None
    in_features, out_features = 2, 2
    samples: tuple[int, ...] = (VIEW, VIEW)

    def __init__(self, equation: Equation, medium: Medium = uniform, *, points: int = 2048, cells: int = 384):
        self.equation, self.medium, self.cells = equation, medium, cells
        self.points = self.batch_size = points
        self.device = equation.sources.device
        check_equation(equation, points)
        half = 1 - equation.pml.width
        self.grid = grid((VIEW, VIEW), -half, half, device=self.device)
        self._m = cell_means(medium, cells)
        check_resolution(cells, equation.wavenumber, self._m.max().item())

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        slowest: float = 1.0,
        fastest: float = 2.0,
        source: Sequence[float] = (0.0, 0.0),
        layer: float = 0.5,
        absorption: float = 5.0,
        cells: int = 384,
        points: int = 2048,
        seed: int = 0,
        device: torch.device | str = "cpu",
        **equation: Any,
    ) -> "Helmholtz":
        """The task in a medium by name or of a file, see `hypersiren.fit_config`.

        Raises:
            SignalError: If the file cannot be read.
            UserError: As for the class.
        """
        medium = open_medium(path, slowest=slowest, fastest=fastest)
        sources = torch.tensor([list(source)], dtype=torch.float32, device=device)
        made = Equation(sources=sources, pml=PML(layer, absorption), **equation)
        return cls(made, medium, points=points, cells=cells)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> WavePoints:
        """Random points."""
        return WavePoints(self.equation.draw(self.points, generator))

    def loss(self, field: Field, batch: WavePoints) -> dict[str, Tensor]:
        """The residual where the source is not, and where it is."""
        jet = diagonal_jet(self.equation.complete(field), batch.x)
        return self.equation.terms(batch.x, jet, self.medium(batch.x))

    @cached_property
    def truth(self) -> Float[Tensor, "N 2"]:
        """The wavefield on the grid of the open square, found when it is first asked for."""
        known, x = self.equation, self.grid.double().cpu().numpy()
        centres = known.sources.double().cpu().numpy()
        if self.medium is uniform:
            u = uniform_wavefield(x, known.wavenumber, centres[0].tolist(), known.amplitude, known.variance)[:, None]
        else:
            f = cell_sources(self.cells, centres, known.amplitude, known.variance)
            u = sample_wavefields(solve_helmholtz(self._m.numpy(), f, known.wavenumber, known.pml), x)
        return to_channels(torch.from_numpy(u)).float().to(self.device)

    def evaluate(self, field: Field) -> dict[str, float]:
        """In the open square: the relative L2 error, and the mean squared error of the channels.

        The latter is in the paper's scaling, whose source has the strength 1 + i.
        """
        difference = self.solve(field) - self.truth
        return {
            "error": (difference.norm() / self.truth.norm()).item(),
            "mse": difference.square().mean().item(),
        }

    def panels(self, field: Field) -> dict[str, Panel]:
        """Real and imaginary part beside the truth, their errors on the same scale, and the medium."""
        found, full = self.solve(field), np.quantile(self.truth.abs().cpu(), 0.99).item()
        shown = {"fit": 0, "imaginary": 1}
        panels: dict[str, Panel] = {name: square_panel(found[:, c], full) for name, c in shown.items()}
        panels |= {f"true_{name}": square_panel(self.truth[:, c], full) for name, c in shown.items()}
        panels["error"] = square_panel((found - self.truth)[:, 0], full)
        panels["imaginary_error"] = square_panel((found - self.truth)[:, 1], full)
        panels["velocity"] = velocity_panel(self.medium(self.grid))
        return panels

    def solve(self, field: Field) -> Float[Tensor, "N 2"]:
        """The wavefield on the grid of the open square."""
        return evaluate(self.equation.complete(field), self.grid)


def misfit(difference: Float[Tensor, "*shape"], norm: Norm) -> Float[Tensor, "*shape"]:
    """Squares or absolute values."""
    return difference.square() if norm == "l2" else difference.abs()


def check_equation(equation: Equation, points: int) -> None:
    """Refuse sources that are not in the open square, and more points around them than there are in all.

    Raises:
        UserError: If it is so.
    """
    if equation.source_points >= points:
        raise UserError(f"expected loss.source_points below training.points, got {equation.source_points} of {points}")
    half = 1 - equation.pml.width
    for source in equation.sources.tolist():
        if not max(map(abs, source)) < half:
            raise UserError(
                f"expected sources in the square between -{half:g} and {half:g}, which is free of the absorbing layer, "
                f"got one at {tuple(round(each, 4) for each in source)}"
            )


def square_panel(values: Float[Tensor, " N"], full: float) -> ImagePanel:
    """Signed values on the grid of the square, blue to red; `full` is full red."""
    return ImagePanel(draw_wave(values.view(VIEW, VIEW), full))


def velocity_panel(m: Float[Tensor, "N 1"], fastest: float = 2.0) -> ImagePanel:
    """Velocities on the grid of the square: 0 is black, `fastest` white."""
    return ImagePanel((m.rsqrt() / fastest).clamp(0, 1).view(VIEW, VIEW, 1))
