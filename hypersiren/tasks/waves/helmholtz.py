"""Helmholtz: the wavefield of a source at one frequency, in any medium, as if the plane went on (paper, section 4.3).

A network sees the equation alone, with its absorbing layer (`hypersiren.waves.pml`), at random points of [-1, 1]²:

    residual = (d_0(A d_0 u) + d_1(B d_1 u) + C k² m u + f) / k²

balanced by |C|, as squares or absolute values. The peak at a narrow source may be given in closed form
(`waves.near_field`). The truth, the exact solution of the uniform plane or finite differences elsewhere, is only
compared with, in the square that is free of the layer.

By default the field is of windows, which are linear in their numbers: the least squares of the same residual, on a
regular grid of points, are solved in closed form (`hypersiren.fields.row_solve`).

Symbols: N points, S sources, k wavenumber, m squared slowness, f source, u wavefield of two channels each.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import evaluate, grid
from hypersiren.fields.operators import Field, diagonal_jet
from hypersiren.fields.raster import is_windowed
from hypersiren.fields.row_solve import LinearRows, join_rows, linear_rows, solve_rows
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep
from hypersiren.plotting import Plot
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import FieldTask, content_digest
from hypersiren.tasks.waves.equation import (
    VIEW,
    Equation,
    WavePoints,
    check_equation,
    medium_values,
    velocity_picture,
    wave_picture,
)
from hypersiren.tasks.waves.settings import HelmholtzSettings
from hypersiren.tasks.waves.windows import border_grid, point_grid, ridge_of, smoothed, square_windows, tell_cost
from hypersiren.tasks.windows import watch
from hypersiren.waves.complex_channels import to_channels
from hypersiren.waves.helmholtz_solver import (
    cell_sources,
    check_resolution,
    sample_wavefields,
    solve_helmholtz,
    uniform_wavefield,
)
from hypersiren.waves.media import Medium, cell_means, open_medium, uniform
from hypersiren.waves.pml import PML


class Helmholtz(FieldTask):
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
    defaults = HelmholtzSettings()
    unit = "points"
    # The truth is not known to who solves an equation: it must not choose the checkpoint.
    criterion: str | None = None
    in_features, out_features = 2, 2
    windowed = True
    playback: Mapping[str, Any] = {"kind": "wavefield"}
    samples: tuple[int, ...] = (VIEW, VIEW)
    measures = (
        Measure("error", "relative L2 error", "%", factor=100),
        Measure("mse", "mean squared error in the paper's scaling"),
    )

    def __init__(self, equation: Equation, medium: Medium = uniform, *, points: int = 2048, cells: int = 384):
        self.equation, self.medium, self.cells = equation, medium, cells
        self.points = self.batch_size = points
        self.device = equation.sources.device
        check_equation(equation, points)
        half = 1 - equation.pml.width
        self.grid = grid((VIEW, VIEW), -half, half, device=self.device)
        self._m = cell_means(medium, cells)
        check_resolution(cells, equation.wavenumber, self._m.max().item())
        self.m_there = medium(equation.sources[:1]).item()

    @classmethod
    def open(cls, settings: HelmholtzSettings, device: torch.device | str = "cpu") -> "Helmholtz":
        """The task in a medium by name or of a file.

        Args:
            settings: `HelmholtzSettings`.
            device: Where to compute.

        Raises:
            SignalError: If the file cannot be read.
            UserError: As for the class.
        """
        signal = settings.signal
        medium = open_medium(signal.path, **signal.model_dump(include={"slowest", "fastest", "background"}))
        equation = Equation(
            signal.wavenumber,
            torch.tensor([signal.source], dtype=torch.float32, device=device),
            variance=signal.variance,
            pml=PML(signal.layer, signal.absorption),
            loss=settings.loss,
        )
        return cls(equation, medium, points=settings.training.points, cells=signal.cells)

    def complete(self, field: Field) -> Field:
        """The wavefield of a network, or of windows: with the near field, of which windows are given more."""
        return self.equation.complete(field, self.m_there if is_windowed(field) else 0.0)

    def windowed_field(self, network: Network, keep: Keep | None = None) -> CompactWindows:
        """The windowed field that solves the equation on a regular grid of points, with u = 0 on the border.

        Jumps of the medium are smoothed over two points. Nothing of an interrupted solve is kept: it takes seconds.

        Raises:
            UserError: If the loss is not of squares, or has no near field, which windows do not resolve; or if the
                memory does not suffice.
        """
        known, k = self.equation, self.equation.wavenumber
        if known.loss.norm != "l2":
            raise UserError(f"loss.norm: expected l2 for windows, which are least squares, got {known.loss.norm}")
        if not known.loss.near_field:
            raise UserError(
                "loss.near_field: expected above 0 for windows, which do not resolve a narrow source, got 0"
            )
        shortest = 2 * math.pi / (k * math.sqrt(self._m.max().item()))
        field = square_windows(network, shortest, 1 - known.pml.width, VIEW, self.device)
        tell_cost(field)
        x, distance = point_grid(field)
        m = smoothed(self.medium, x, 2 * distance)

        def residual(field: Field, x: Tensor) -> Tensor:
            return known.residual(x, diagonal_jet(known.complete(field, self.m_there), x), m)

        border = border_grid(round(2 / distance), self.device)
        value = torch.zeros(len(border), 5, dtype=torch.complex128, device=self.device)
        value[:, 0] = 1
        rows = join_rows([
            linear_rows(residual, x, 2, pairs=True).scaled(distance),
            LinearRows(border, value, value.new_zeros(len(border), 1)).scaled(math.sqrt(distance)),
        ])  # fmt: skip
        solve_rows(field, rows, ridge=ridge_of(network), watch=watch(field, keep))
        return field.to(self.grid.dtype)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> WavePoints:
        """Random points."""
        return WavePoints(self.equation.draw(self.points, generator))

    def loss(self, field: Field, batch: WavePoints) -> dict[str, Tensor]:
        """The residual where the source is not, and where it is."""
        jet = diagonal_jet(self.complete(field), batch.x)
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

    def digest(self) -> str:
        return content_digest(medium_values(self.medium))

    def evaluate(self, field: Field) -> dict[str, float]:
        """In the open square: the relative L2 error, and the mean squared error of the channels.

        The latter is in the paper's scaling, whose source has the strength 1 + i.
        """
        difference = self.once(field, self.solve) - self.truth
        return {
            "error": (difference.norm() / self.truth.norm()).item(),
            "mse": difference.square().mean().item(),
        }

    def summary(self, field: Field) -> Rows:
        """Real and imaginary part beside the truth, with their errors, and the medium."""
        found, full = self.once(field, self.solve), np.quantile(self.truth.abs().cpu(), 0.99).item()
        off = np.quantile((found - self.truth).abs().cpu(), 0.99).item() or 1e-12
        half, rows = 1 - self.equation.pml.width, list[dict[str, Plot]]()
        times = f"{float(f'{full / off:.2g}'):,g}"
        for c, (part, name) in enumerate([("Re u", "fit"), ("Im u", "imaginary")]):
            rows.append({
                f"true_{name}": wave_picture(f"{part}: truth", self.truth[:, c], full, half, part),
                name: wave_picture(f"{part}: result", found[:, c], full, half, part),
                f"{name}_error": wave_picture(
                    f"{part}: error × {times}", (found - self.truth)[:, c], off, half, f"error of {part}"
                ),
            })  # fmt: skip
        return [*rows, {"velocity": velocity_picture("Velocity of the medium", self.medium(self.grid), half)}]

    def solve(self, field: Field) -> Float[Tensor, "N 2"]:
        """The wavefield on the grid of the open square."""
        return evaluate(self.complete(field), self.grid)
