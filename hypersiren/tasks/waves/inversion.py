"""Inversion: find a medium from waves that were measured around it, full waveform inversion (paper, section 4.3).

The field says the medium's velocity, between a least and a greatest one; where the medium is known, beyond a border, it
stays what it is. The waves in it are solved for by finite differences (`hypersiren.waves.wavefields`), and the misfit
at the receivers has its gradient from the adjoint. (The paper's own way is `joint_inversion`.)

High frequencies alone have many wrong optima, in which the waves are some periods off (Bunks et al. 1995). So the
lowest frequency comes first. When its data are met, or its share of the steps is over, the next one joins; once all are
met to within the noise, the search ends. Each frequency has a grid that is just fine enough for it. What that grid gets
wrong in the start medium, compared with a finer one, is subtracted from the data.

Data at a few receivers leave much of the medium open; a prior, not the paper's, prefers media of small total variation.

Symbols: N points, K frequencies, S sources, R receivers, n cells along an axis, k wavenumber, m squared slowness,
c = 1 / sqrt(m) velocity.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Complex128, Float, Float64, Int
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.fields.operators import Field
from hypersiren.fields.pixel_grid import PixelGrid
from hypersiren.plotting import Curve, Plot, draw_rows, figure_pixels
from hypersiren.tasks.panels import ImagePanel, Panel
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import FieldTask, content_digest
from hypersiren.tasks.waves.equation import (
    VIEW,
    medium_errors,
    medium_values,
    velocity_error_picture,
    velocity_picture,
    wave_picture,
)
from hypersiren.tasks.waves.joint_inversion import JointInversion, smooth_norm
from hypersiren.tasks.waves.settings import InversionLoss, InversionSettings
from hypersiren.waves.helmholtz_solver import check_resolution
from hypersiren.waves.measurements import (
    FILE_WAVENUMBER,
    InversionData,
    line_and_sides,
    make_inversion,
    read_inversion,
)
from hypersiren.waves.media import Medium, cell_means, open_medium, uniform
from hypersiren.waves.pml import PML
from hypersiren.waves.wavefields import InnerWavefields, Sampling, helmholtz_wavefields, point_sources, sampling

LOG = logging.getLogger(__name__)

SIMULATED = (2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0)
"""Wavenumbers of simulated data, if none are given."""

CELLS, FEWEST, MOST = 10, 64, 512
"""Cells to the shortest wavelength; and the fewest and the most along an axis that are chosen."""

FINE = 160
"""Cells at least, and `MOST` at most, of the grid, twice as fine as the frequency's, that says what it gets wrong."""

LAST = 0.4
"""Share of the steps that is kept for all frequencies together."""


@dataclass(frozen=True)
class Frequency:
    """What is needed to find the data of one frequency in any medium.

    Attributes:
        wavenumber: k.
        x: The cells' centres.
        free: Which of them are searched.
        start: The squared slowness of the start medium.
        sources: f on the cells.
        found: What is found at the receivers in a medium on the cells, which is the start medium where it is known.
        measured: What was measured, less what the grid gets wrong in the start medium.
        scale: Root mean square of what was measured.
        pml: The absorbing layer.
    """

    wavenumber: float
    x: Float[Tensor, "cells 2"]
    free: Bool[Tensor, " cells"]
    start: Float64[Tensor, "n n"]
    sources: Complex128[Tensor, "S n n"]
    found: InnerWavefields
    measured: Complex128[Tensor, "R S"]
    scale: float
    pml: PML

    def wavefields(self, m: Float[Tensor, "n n"]) -> Complex128[Tensor, "S n n"]:
        """Those of all sources in a medium."""
        return helmholtz_wavefields(m, self.sources, self.wavenumber, self.pml)

    def misses(self, m: Float[Tensor, "n n"]) -> Complex128[Tensor, "R S"]:
        """What is found at the receivers less what was measured, relative to the data."""
        return (self.found(m) - self.measured) / self.scale


@dataclass(frozen=True)
class InversionBatch:
    """A step asks for the `count` lowest frequencies."""

    count: Int[Tensor, ""]


class Inversion(FieldTask):
    """The inversion task.

    Args:
        data: What was measured.
        truth: The medium, where it is known; it is only compared with.
        loss: What is known of the medium, and how closely data are met.
        start: The medium that the search begins with.
        noise: Of the data, relative to them.
        pml: The absorbing layer.
        device: Where the field is; waves are solved for on the CPU.

    Raises:
        UserError: If a source or receiver is in the layer, the start medium is faster or slower than the medium can be,
            or a grid has too few cells for a wavenumber.

    Example:
        >>> from hypersiren import Siren
        >>> from hypersiren.waves.media import circle
        >>> data = make_inversion(circle, *line_and_sides(2, 4), wavenumber=[3.0, 5.0], n=64)
        >>> task = Inversion(data)
        >>> sorted(task.loss(Siren(2, 1, 8), task.sample(torch.Generator())))
        ['data', 'variation']
    """

    name = "inversion"
    defaults = InversionSettings()
    unit = "steps"
    criterion: str | None = None
    in_features, out_features = 2, 1
    playback: Mapping[str, Any] = {"kind": "medium"}
    samples: tuple[int, ...] = (VIEW, VIEW)
    # Only the second is known where the medium is not.
    measures = (
        Measure("velocity_mse", "mean squared error of the velocity"),
        Measure("data_error", "relative misfit of the data", "%", factor=100),
        Measure("start_mse", "mean squared error of the velocity", "of the start medium", ""),
        Measure("correlation", "correlation of the change of squared slowness", better="higher"),
    )

    def __init__(
        self,
        data: InversionData,
        truth: Medium | None = None,
        loss: InversionLoss = InversionLoss(),  # noqa: B008 - frozen
        *,
        start: Medium = uniform,
        noise: float = 0.0,
        pml: PML = PML(),  # noqa: B008 - frozen
        device: torch.device | str = "cpu",
    ):
        self.data, self.true_medium, self.start, self.pml = data, truth, start, pml
        self.loss_settings, self.target = loss, math.hypot(noise, loss.tolerance)
        self.trained_steps = max(500, 250 + 50 * len(data.wavenumbers))
        self.half = 1 - pml.width
        check_places(data, self.half)
        self.grid = grid((VIEW, VIEW), -self.half, self.half, device=device)
        self.device = self.grid.device
        self._check_start()
        self.frequencies = [self._frequency(i) for i in range(len(data.wavenumbers))]
        self.set_state({})

    @classmethod
    def open(cls, settings: InversionSettings, device: torch.device | str = "cpu") -> FieldTask:
        """The task of a file of data, or of what is measured in a medium by name or of a file.

        Args:
            settings: `InversionSettings`. Where `loss.waves` is network, the task is a `JointInversion`.
            device: Where to compute.

        Raises:
            SignalError: If a file cannot be read, or is not what it should be.
            UserError: If a source or receiver is where none can be, or the cells are too few for k.
        """
        signal, loss, joint = settings.signal, settings.loss, settings.loss.waves == "network"
        pml = PML(signal.layer, signal.absorption)
        velocities = signal.model_dump(include={"slowest", "fastest", "background"})
        start = open_medium(signal.start, **velocities)
        if joint and str(signal.start) != "uniform":
            raise UserError(f"expected no signal.start where waves are the network's, got {signal.start}")
        if signal.path.suffix.lower() in (".mat", ".npz"):
            data = read_inversion(signal.path, signal.wavenumber)
            known = None if signal.truth is None else open_medium(signal.truth, **velocities)
        else:
            known = open_medium(signal.path, **velocities)
            k = signal.wavenumber or ((FILE_WAVENUMBER,) if joint else SIMULATED)
            check_resolution(signal.cells, max(k), cell_means(known, signal.cells).max().item())
            if loss.cells == signal.cells:
                raise UserError(
                    f"expected other cells for the inversion than for its data, got loss.cells and signal.cells "
                    f"{loss.cells}: on one grid the errors of both cancel"
                )
            if not joint:
                for one in k:
                    choose_cells(one, loss, start)
            places = line_and_sides(signal.sources, signal.receivers, 1 - signal.layer)
            LOG.info("simulating data of %d frequencies on %d x %d cells", len(k), signal.cells, signal.cells)
            data = make_inversion(known, *places, k, variance=signal.variance, n=signal.cells, pml=pml)
            data = data.with_noise(signal.noise, settings.seed) if signal.noise else data
        if joint:
            return JointInversion(data, known, loss, points=settings.training.points, pml=pml, device=device)
        return cls(data, known, loss, start=start, noise=signal.noise, pml=pml, device=device)

    def _check_start(self) -> None:
        """Refuse a start medium that has velocities which the medium cannot have."""
        c = self.start(self.grid).rsqrt()
        least, greatest = self.loss_settings.velocities
        if not (least < c.min() and c.max() < greatest):
            raise UserError(
                f"expected a start medium of velocities between loss.velocities, {least:g} and {greatest:g}, "
                f"got {c.min().item():.4g} to {c.max().item():.4g}"
            )

    def _frequency(self, i: int) -> Frequency:
        k, data, shape = self.data.wavenumbers[i], self.data, self.loss_settings
        n = choose_cells(k, shape, self.start)

        def at(n: int) -> tuple[Tensor, Tensor, Sampling]:
            f = point_sources(n, data.sources, k, data.amplitude, data.variance)
            return cell_means(self.start, n), f, sampling(n, data.receivers)

        (m, f, receivers), (fine_m, fine_f, fine_receivers) = at(n), at(max(n, min(max(2 * n, FINE), MOST)))
        wrong = receivers(helmholtz_wavefields(m, f, k, self.pml)) - fine_receivers(
            helmholtz_wavefields(fine_m, fine_f, k, self.pml)
        )
        x = grid((n, n), device=self.device)
        free = x.abs().amax(-1) <= shape.known_beyond
        measured = (torch.from_numpy(data.values[i]) + wrong).to(self.device)
        found = InnerWavefields.around(free.view(n, n), m, f, receivers, k, self.pml)
        return Frequency(k, x, free, m, f, found, measured, float(data.scales[i]), self.pml)

    def velocity(self, field: Field, x: Float[Tensor, "N 2"]) -> Float[Tensor, "*batch N 1"]:
        """c of a field, wherever it is searched for: that of the start medium where the field is 0."""
        least, greatest = self.loss_settings.velocities
        share = (self.start(x).rsqrt() - least) / (greatest - least)
        return least + (greatest - least) * torch.sigmoid(field(x) + share.logit())

    def medium(self, field: Field, x: Float[Tensor, "N 2"]) -> Float[Tensor, "N 1"]:
        """m of a field; where the medium is known, that of the start medium."""
        known = x.abs().amax(-1, keepdim=True) > self.loss_settings.known_beyond
        return torch.where(known, self.start(x), self.velocity(field, x).square().reciprocal())

    def on_cells(self, field: Field, frequency: Frequency) -> Float64[Tensor, "*batch n n"]:
        """m of a field on the cells of a frequency."""
        found = self.velocity(field, frequency.x[frequency.free])[..., 0].double().square().reciprocal()
        whole = frequency.start.to(self.device).flatten().expand(*found.shape[:-1], -1)
        return whole.masked_scatter(frequency.free, found).unflatten(-1, frequency.start.shape)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> InversionBatch:
        """The frequencies of the stage that the search is in; nothing is drawn."""
        return InversionBatch(torch.tensor(self.stage + 1))

    def share(self, batch: InversionBatch, index: int, count: int) -> InversionBatch:
        """There are no parts."""
        raise UserError("an inversion whose waves are solved for has no parts: expected one process, and no parts")

    def loss(self, field: Field, batch: InversionBatch) -> dict[str, Tensor]:
        """The misfit of the frequencies of the stage, and the total variation."""
        terms, squares = {}, []
        for i, frequency in enumerate(self.frequencies[: int(batch.count)]):
            media = self.on_cells(field, frequency)
            media = media.reshape(-1, *media.shape[-2:])
            squares.append(torch.stack([frequency.misses(m).abs().square().mean() for m in media]).mean())
            self.misfits[i] = math.sqrt(squares[-1].item())
        terms["data"] = self.loss_settings.data * torch.stack(squares).mean()
        if prior := self.loss_settings.prior(len(self.frequencies)):
            variations = [total_variation(m) for m in media]
            terms["variation"] = prior * torch.stack(variations).mean()
        return terms

    def advance(self, done: int, steps: int) -> bool:
        """After a step: whether a frequency is done, so that the next one joins, or all are met."""
        last, met = len(self.frequencies) - 1, [misfit <= self.target for misfit in self.misfits]
        if self.stage == last:
            self.finished = all(met)
            if done == steps and not self.finished:
                missed = [each.wavenumber for each, is_met in zip(self.frequencies, met, strict=True) if not is_met]
                names = ", ".join(f"{k:g}" for k in missed)
                LOG.info("all %d steps are done; not met to %.2g %%: k = %s", steps, 100 * self.target, names)
            return self.finished
        if not met[self.stage] and done < (1 - LAST) * steps * (self.stage + 1) / last:
            return False
        k, misfit = self.frequencies[self.stage].wavenumber, self.misfits[self.stage]
        self.stage += 1
        joins = self.frequencies[self.stage].wavenumber
        words = "are met, to %.2g %%" if met[self.stage - 1] else "are %.2g %% off, and its share of the steps is over"
        LOG.info(f"step %d: the data of k = %g {words}; k = %g joins", done, k, 100 * misfit, joins)
        return True

    def state(self) -> dict[str, Any]:
        return {"stage": self.stage, "finished": self.finished}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.stage, self.finished = int(state.get("stage", 0)), bool(state.get("finished", False))
        self.misfits = [math.inf] * len(self.frequencies)

    def pixels(self) -> PixelGrid:
        """The plain pixel grid that a field is compared with: a number for each cell of the highest frequency."""
        side = round(math.sqrt(self.frequencies[-1].free.sum().item()))
        return PixelGrid(side, 1, extent=self.loss_settings.known_beyond).to(self.device)

    @torch.no_grad()
    def recover(self, field: Field) -> Float[Tensor, "N 1"]:
        """m on the grid of the open square."""
        return self.medium(field, self.grid)

    @cached_property
    def truth(self) -> Float[Tensor, "N 1"] | None:
        """The true m on that grid, where it is known."""
        return None if self.true_medium is None else self.true_medium(self.grid)

    def digest(self) -> str:
        # Values that were made are the same up to the rounding of the machine.
        relative = self.data.values / self.data.scales[:, None, None]
        known = None if self.true_medium is None else medium_values(self.true_medium)
        parts = [np.round(1e4 * part) + 0 for part in (relative.real, relative.imag)]
        return content_digest(
            self.data.receivers,
            self.data.sources,
            repr(self.data.wavenumbers),
            *parts,
            known,
            medium_values(self.start),
        )

    @torch.no_grad()
    def fits(self, field: Field) -> list[Complex128[Tensor, "R S"]]:
        """The misses of every frequency."""
        return [each.misses(self.on_cells(field, each)).cpu() for each in self.frequencies]

    def evaluate(self, field: Field) -> dict[str, float]:
        """Relative misfit of the data, of each frequency too; and errors of the velocity in the open square.

        The latter, where the medium is known, are mean squares, of what was found and of the start medium, and the
        correlation of the change of squared slowness with the true one.
        """
        each = [misses.abs().square().mean().item() for misses in self.once(field, self.fits)]
        metrics = {"data_error": math.sqrt(sum(each) / len(each))}
        if len(each) > 1:
            metrics |= {
                f"data_error_{f.wavenumber:g}": math.sqrt(e) for f, e in zip(self.frequencies, each, strict=True)
            }
        if self.truth is not None:
            errors = medium_errors(self.once(field, self.recover), self.truth, self.start(self.grid))
            metrics |= zip(("velocity_mse", "start_mse", "correlation"), errors, strict=True)
        return metrics

    def panels(self, field: Field) -> dict[str, Panel]:
        """The velocity, and the true one."""
        plots = self._velocities(field)
        return {
            name: ImagePanel.of(figure_pixels(draw_rows([[plots[key]]])))
            for name, key in (("velocity", "fit"), ("true_velocity", "true_fit"))
            if key in plots
        }

    def _velocities(self, field: Field) -> dict[str, Plot]:
        """Pictures of truth, result and error, or of start and result."""
        m, half = self.once(field, self.recover), self.half
        start = self.start(self.grid)
        others = start if self.truth is None else self.truth
        fastest = max(2.0, 1.02 * others.rsqrt().max().item())
        plots: dict[str, Plot] = {"fit": velocity_picture("Velocity: result", m, half, fastest)}
        if self.truth is None:
            return {"start": velocity_picture("Velocity: start", start, half, fastest), **plots}
        wrong = velocity_error_picture(m, self.truth, half)
        return {"true_fit": velocity_picture("Velocity: truth", self.truth, half, fastest), **plots, "error": wrong}

    @torch.no_grad()
    def summary(self, field: Field) -> Rows:
        """The velocity beside the true one; the first wavefield, and at the receivers; the misfit of each frequency."""
        last, misses = self.frequencies[-1], self.once(field, self.fits)
        u = last.wavefields(self.on_cells(field, last).cpu())[:1]
        n, half = u.shape[-1], self.half
        shown = sampling(n, self.grid.double().cpu().numpy())(u)[:, 0].real
        full = np.quantile(shown.abs(), 0.99).item() or 1.0
        waves: dict[str, Plot] = {
            "wavefield": wave_picture(f"Re u of source 1, k = {last.wavenumber:g}: result", shown, full, half, "Re u")
        }
        at = range(1, len(self.data.receivers) + 1)
        measured, missed = self.data.values[-1][:, 0].real, misses[-1][:, 0].real.numpy() * last.scale
        lines = {"measured": (at, measured), "result": (at, measured + missed)}
        waves["data"] = Curve("Re u of source 1 at the receivers", lines, "receiver", "Re u")
        if len(misses) > 1:
            k = [each.wavenumber for each in self.frequencies]
            each = [100 * one.abs().square().mean().sqrt().item() for one in misses]
            aim = [100 * self.target] * len(k)
            waves["misfit"] = Curve(
                "Misfit of each frequency", {"result": (k, each), "aim": (k, aim)}, "k", "% of the data"
            )
        return [self._velocities(field), waves]


def choose_cells(wavenumber: float, loss: InversionLoss, start: Medium) -> int:
    """Cells along an axis for a frequency: those of the settings, or as many as it needs.

    Raises:
        UserError: If the settings have too few, or it needs too many.
    """
    # What is known may be slower than what is searched for.
    largest = max(loss.velocities[0] ** -2, cell_means(start, FEWEST).max().item())
    n = loss.cells or cells_for(wavenumber, largest)
    check_resolution(n, wavenumber, largest)
    return n


def cells_for(wavenumber: float, largest: float) -> int:
    """Cells along an axis that a frequency needs in media of squared slowness up to `largest`.

    Raises:
        UserError: If they are more than `MOST`.

    Example:
        >>> cells_for(5.0, 1.0), cells_for(40.0, 1.0)
        (64, 128)
    """
    needed = CELLS * wavenumber * math.sqrt(largest) / math.pi
    n = max(FEWEST, 2 * math.ceil(needed / 2))
    if n > MOST:
        raise UserError(
            f"wavenumber {wavenumber:g} needs {n} x {n} cells, more than {MOST} x {MOST}: expected a lower one, or "
            f"loss.cells, or a greater least velocity in loss.velocities"
        )
    return n


def total_variation(m: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """The mean over [-1, 1]² of the length of the gradient, by differences of neighbouring cells.

    Example:
        >>> x = torch.linspace(-1, 1, 21)[None].expand(21, 21)
        >>> round(total_variation(3 * x).item(), 2)  # 3, but for the border
        2.86
    """
    h = 2 / len(m)
    corner = m[:-1, :-1]
    steps = torch.stack([m[1:, :-1] - corner, m[:-1, 1:] - corner], dim=-1)
    return smooth_norm(steps / h).sum() / m.numel()


def check_places(data: InversionData, half: float) -> None:
    """Refuse sources and receivers in the absorbing layer.

    Raises:
        UserError: If there is one.
    """
    for kind, points in (("source", data.sources), ("receiver", data.receivers)):
        outside = ~(np.abs(points) < half).all(axis=1)
        if outside.any():
            place = tuple(round(each, 4) for each in points[outside][0].tolist())
            raise UserError(
                f"expected {kind}s in the square between -{half:g} and {half:g}, which is free of the absorbing layer, "
                f"got one at {place}"
            )
