"""Wave: a pulse at rest spreads through a medium (paper, section 4.3), one real field of time and place.

    u_tt = c² (u_00 + u_11)        u(0, x) = u0(x)        u_t(0, x) = 0

By default the field is of windows, and the equation is solved in its weak form (`waves.windowed_wave`).

For a network the start is either built into the field (`waves.initial_pulse`), or asked for by two more terms, as in
the paper. Points are drawn from the cone that decides what happens in [-1, 1]² until the end, most of them where the
pulse can have come to; times may be let grow over the training. Residuals are multiplied by the variance of the pulse,
which makes them of the order of 1. The truth, exact in the uniform plane and leapfrog's elsewhere
(`hypersiren.waves.wave_solver`), is only compared with.

Symbols: N points (t, x_0, x_1), T frames, c velocity, v variance of the pulse.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hypersiren.errors import UserError
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import evaluate, grid
from hypersiren.fields.operators import Field, diagonal_jet
from hypersiren.fields.raster import is_windowed
from hypersiren.fields.separable import is_separable, separable_raster
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep
from hypersiren.plotting import Picture, film
from hypersiren.tasks.panels import Panel, VideoPanel
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import FieldTask, content_digest
from hypersiren.tasks.waves.equation import medium_values, misfit
from hypersiren.tasks.waves.settings import WaveLoss, WaveSettings
from hypersiren.tasks.waves.windows import MOST_WINDOWS, OVERLAP, moving_windows, ridge_of, tell_slabs, wave_width
from hypersiren.waves.initial_pulse import InitialPulse
from hypersiren.waves.media import Medium, cell_means, open_medium, uniform
from hypersiren.waves.reach import timed, wave_box
from hypersiren.waves.residuals import wave_residual
from hypersiren.waves.wave_solver import solve_wave, uniform_wave
from hypersiren.waves.windowed_wave import RIDGE, solve_windowed_wave, window_counts

LOG = logging.getLogger(__name__)

FRAMES, SHOWN = 20, 4
"""Frames after the first that are compared and move, and those of them that stand side by side."""

VIEW = 128
"""Pixels of a frame along each axis."""


@dataclass(frozen=True)
class WaveBatch:
    """N points where the equation is asked for, and some at time 0 (none where the start is exact).

    Attributes:
        x: (t, x_0, x_1).
        start: Likewise, t = 0.
    """

    x: Float[Tensor, "N 3"]
    start: Float[Tensor, "M 3"]


class Wave(FieldTask):
    """The wave task.

    Args:
        medium: m(x) = 1 / c(x)².
        loss: How the equation and its start are measured. The start is built into the field, or asked for.
        source: Where the pulse is.
        variance: v, of the pulse; its peak is 1.
        duration: Times run from 0 to this.
        points: Random points a step.
        cells: Cells along each axis of the finite differences that find the truth, where the medium is not uniform.
        device: Where to compute.

    Raises:
        UserError: If the pulse is not inside [-1, 1]², or too narrow for the cells.

    Example:
        >>> from hypersiren import Siren
        >>> task = Wave(loss=WaveLoss(exact_start=False), variance=0.01, points=20, cells=64)
        >>> sorted(task.loss(Siren(3, 1, 8), task.sample(torch.Generator())))
        ['rates', 'residual', 'values']
    """

    name = "wave"
    defaults = WaveSettings()
    unit = "points"
    criterion: str | None = None
    in_features, out_features = 3, 1
    playback: Mapping[str, Any] = {"kind": "wavefield"}
    samples: tuple[int, ...] = (FRAMES, VIEW, VIEW)
    measures = (
        Measure("error", "relative L2 error", "%", factor=100),
        Measure("last_error", "relative L2 error of the last frame", "%", factor=100),
        Measure("mse", "mean squared error"),
    )

    def __init__(
        self,
        medium: Medium = uniform,
        loss: WaveLoss = WaveLoss(),  # noqa: B008 - frozen
        *,
        source: Sequence[float] = (0.0, 0.0),
        variance: float = 5e-4,
        duration: float = 0.4,
        points: int = 4096,
        cells: int = 768,
        device: torch.device | str = "cpu",
    ):
        self.medium, self.variance, self.duration, self.growth = medium, variance, duration, loss.growth
        self.norm, self.values, self.rates = loss.norm, loss.values, loss.rates
        self.start_points = 0 if loss.exact_start else loss.start_points
        self.points = self.batch_size = points
        self.cells = cells
        if not max(map(abs, source)) < 1:
            raise UserError(f"expected the source inside [-1, 1]², got {tuple(source)}")
        if math.sqrt(variance) < 2 * (2 / cells):
            needed = math.ceil(4 / math.sqrt(variance))
            raise UserError(
                f"a pulse of variance {variance:g} is narrower than a grid of {cells} x {cells} cells can resolve: "
                f"expected at least {needed} x {needed}"
            )
        self.centre = torch.tensor(list(source), dtype=torch.float32, device=device)
        self.device = self.centre.device
        self._velocity = cell_means(medium, cells).rsqrt().numpy()
        self.velocity_there = medium(self.centre[None]).rsqrt().item()
        self.fastest = float(self._velocity.max())
        self.times = [duration * i / FRAMES for i in range(FRAMES + 1)]
        box = wave_box(self.centre.tolist(), variance, self.fastest, duration)
        self.box = timed(box, medium, variance, duration)
        self.width = wave_width(self.box, math.sqrt(variance), self.velocity_there, float(self._velocity.min()))
        windows = math.prod(window_counts(self.box, self.width, OVERLAP))
        self.windowed = loss == WaveLoss() and windows <= MOST_WINDOWS
        if windows > MOST_WINDOWS:
            LOG.info("windows are not solved: %d in space would be needed, more than %d", windows, MOST_WINDOWS)
        self.grid = grid((VIEW, VIEW), device=device)

    @classmethod
    def open(cls, settings: WaveSettings, device: torch.device | str = "cpu") -> "Wave":
        """The task in a medium by name or of a file.

        Args:
            settings: `WaveSettings`.
            device: Where to compute.

        Raises:
            SignalError: If the file cannot be read.
            UserError: As for the class.
        """
        signal = settings.signal
        medium = open_medium(signal.path, **signal.model_dump(include={"slowest", "fastest", "background"}))
        shape = signal.model_dump(include={"source", "variance", "duration", "cells"})
        return cls(medium, settings.loss, **shape, points=settings.training.points, device=device)

    def complete(self, field: Field) -> Field:
        """The wave of a network: itself, or started exactly. Windows start as they are solved."""
        if self.start_points or is_windowed(field):
            return field
        return InitialPulse(field, self.centre, variance=self.variance, velocity=self.velocity_there)

    def windowed_field(self, network: Network, keep: Keep | None = None) -> CompactWindows:
        """The windowed field that solves the equation; slabs of time that are solved are kept.

        Raises:
            UserError: If a prior is asked for, which the equation does not have.
        """
        ridge = ridge_of(network, RIDGE)
        fastest_turn = 3 * self.velocity_there / math.sqrt(self.variance)
        field = moving_windows(network, self.box, self.width, self.duration, fastest_turn, self.samples)
        solve_windowed_wave(
            field.to(self.device), self.box, self.medium, self.pulse, ridge=ridge, keep=keep, progress=tell_slabs
        )
        return field.to(self.grid.dtype)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> WaveBatch:
        """Random points in the part of the cone that the training has come to, and at the start."""
        end = self.duration * (min(1.0, 0.1 + 0.9 * progress / self.growth) if self.growth else 1.0)
        t = end * torch.rand(self.points, 1, generator=generator, device=self.device)
        x = torch.cat([t, self._places(t, generator)], dim=-1)
        still = torch.zeros(self.start_points, 1, device=self.device)
        return WaveBatch(x, torch.cat([still, self._places(still, generator)], dim=-1))

    def _places(self, t: Float[Tensor, "N 1"], generator: torch.Generator) -> Float[Tensor, "N 2"]:
        """Places for times: 7 of 10 where the pulse can have come to, the others wherever they matter to the end."""
        near = round(0.7 * len(t))
        u = torch.rand(len(t), 2, generator=generator, device=self.device)
        radius = (self.fastest * t[:near] + 4 * math.sqrt(self.variance)) * u[:near, :1].sqrt()
        angle = 2 * torch.pi * u[:near, 1:]
        around = self.centre + radius * torch.cat([angle.cos(), angle.sin()], dim=-1)
        return torch.cat([around, (1 + self.fastest * (self.duration - t[near:])) * (2 * u[near:] - 1)])

    def loss(self, field: Field, batch: WaveBatch) -> dict[str, Tensor]:
        """The residual times v, and what is asked of the start."""
        velocity = self.medium(batch.x[:, 1:]).rsqrt()
        residual = wave_residual(diagonal_jet(self.complete(field), batch.x), velocity)
        terms = {"residual": misfit(self.variance * residual, self.norm).mean()}
        if self.start_points or is_windowed(field):
            start = batch.start if self.start_points else F.pad(batch.x[:, 1:], (1, 0))
            jet = diagonal_jet(field, start)
            assert jet.gradient is not None
            rates = math.sqrt(self.variance) * jet.gradient[..., 0]
            terms["values"] = self.values * misfit(jet.value - self.pulse(start[:, 1:]), self.norm).mean()
            terms["rates"] = self.rates * misfit(rates, self.norm).mean()
        return terms

    def pulse(self, x: Float[Tensor, "N 2"]) -> Float[Tensor, "N 1"]:
        """u0."""
        return torch.exp(-(x - self.centre.to(x)).square().sum(-1, keepdim=True) / (2 * self.variance))

    @cached_property
    def truth(self) -> Float[Tensor, "T H W"]:
        """The frames, found when they are first asked for."""
        if self.medium is uniform:
            away = (self.grid - self.centre).double().norm(dim=1).cpu().numpy()
            exact = uniform_wave(away, self.times, self.variance)
            return torch.from_numpy(exact).float().view(-1, VIEW, VIEW).to(self.device)

        def start(x: np.ndarray) -> np.ndarray:
            return self.pulse(torch.from_numpy(x).to(self.device).flatten(0, 1)).view(x.shape[:-1]).cpu().numpy()

        # Near the border the pulse goes on beyond it; where it is 8 deviations away, float64 has no more of it.
        reach = self.centre.abs().max().item() + 8 * math.sqrt(self.variance) - 1
        solved = solve_wave(start, self._velocity, self.times, n=self.cells, reach=max(reach, 0.0))
        frames = torch.from_numpy(solved).float()[:, None]
        points = self.grid.cpu().flip(-1).view(1, VIEW, VIEW, 2).expand(len(frames), -1, -1, -1)
        found = torch.nn.functional.grid_sample(frames, points, "bicubic", "border", align_corners=False)
        return found[:, 0].to(self.device)

    def solve(self, field: Field) -> Float[Tensor, "T H W"]:
        """The frames of a field."""
        if is_separable(field):
            axis = self.grid[:VIEW, 1].double()
            times = torch.tensor(self.times, dtype=torch.float64, device=self.device)
            return separable_raster(field, [times, axis, axis]).squeeze(-1)  # type: ignore[arg-type]
        wave = self.complete(field)
        frames = [evaluate(wave, torch.cat([torch.full_like(self.grid[:, :1], t), self.grid], -1)) for t in self.times]
        return torch.stack(frames).view(-1, VIEW, VIEW)

    def digest(self) -> str:
        return content_digest(medium_values(self.medium))

    def evaluate(self, field: Field) -> dict[str, float]:
        """Over all frames but the first: relative L2 error and mean squared error; the error of the last frame."""
        difference, truth = (self.once(field, self.solve) - self.truth)[1:], self.truth[1:]
        return {
            "error": (difference.norm() / truth.norm()).item(),
            "mse": difference.square().mean().item(),
            "last_error": (difference[-1].norm() / truth[-1].norm()).item(),
        }

    def panels(self, field: Field) -> dict[str, Panel]:
        """The wave moving, beside the truth."""
        pairs = zip(
            self._at_times("Truth", self.truth), self._at_times("Result", self.once(field, self.solve)), strict=True
        )
        return {"movie": VideoPanel(torch.from_numpy(film(list(pairs))), fps=10.0)}

    def summary(self, field: Field) -> Rows:
        """Frames of truth, result and error below each other, with their times."""
        found, every = self.once(field, self.solve), FRAMES // SHOWN
        rows = {"true_fit": ("Truth", self.truth), "fit": ("Result", found), "error": ("Error", found - self.truth)}
        return [
            {f"{name}_{i}": picture for i, picture in enumerate(self._at_times(*row)) if i and i % every == 0}
            for name, row in rows.items()
        ]

    def _at_times(self, what: str, frames: Float[Tensor, "T H W"]) -> list[Picture]:
        """Pictures of all frames. Later frames are weaker: each is drawn on the scale of its own truth."""
        full = reduce(self.truth.abs(), "t h w -> t 1 1", "max").clamp_min(1e-6)
        return [
            Picture(
                f"{what}, t = {time:.2f}", part, "u / max |u| of the truth", (-1.0, 1.0), "bwr", (-1.0, 1.0, 1.0, -1.0),
                "$x_1$", "$x_0$",
            )
            for time, part in zip(self.times, (frames / full).cpu().numpy(), strict=True)
        ]  # fmt: skip
