"""Inversion as in the paper, section 4.3: one network is asked for the waves and for the medium that they were in.

One field has the wavefields of S sources and, as its last channel, m - 1, the squared slowness of the medium less that
of the background. It is asked to solve Helmholtz's equation in its own medium, and to be at the receivers what was
measured there. At first, by choice, it solves for the wavefields in the background alone.

Residual and data are both relative to the root mean square of the data. Data at a few receivers leave much of the
medium open; a prior, not the paper's, prefers media of small total variation.

Symbols: N points, S sources, R receivers, m squared slowness, c = 1 / sqrt(m) velocity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.coords import evaluate, grid
from hypersiren.fields.operators import Field, diagonal_jet
from hypersiren.plotting import Curve, Plot
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import FieldTask, content_digest
from hypersiren.tasks.waves.equation import (
    VIEW,
    Equation,
    check_equation,
    medium_errors,
    medium_values,
    misfit,
    velocity_error_picture,
    velocity_picture,
    wave_picture,
)
from hypersiren.tasks.waves.settings import InversionLoss, InversionSettings
from hypersiren.waves.complex_channels import to_channels
from hypersiren.waves.measurements import InversionData
from hypersiren.waves.media import Medium
from hypersiren.waves.pml import PML
from hypersiren.waves.residuals import medium_gradient, medium_of, split_medium


@dataclass(frozen=True)
class InversionBatch:
    """N points at which the equation is asked for.

    Attributes:
        x: Coordinates.
        stage: 0 while the wavefields are those of the background, then 1.
    """

    x: Float[Tensor, "N 2"]
    stage: Float[Tensor, ""]


class JointInversion(FieldTask):
    """The inversion task whose waves are the network's (`--loss.waves network`); of one frequency.

    Args:
        data: What was measured, at one frequency.
        truth: The medium, where it is known; it is only compared with.
        loss: How residual and misfit are measured, and what is known of the medium.
        points: Random points a step.
        pml: The absorbing layer.
        device: Where to compute.

    Raises:
        UserError: If a source is not in the square that is free of the layer, or there are several frequencies.

    Example:
        >>> from hypersiren import Siren
        >>> from hypersiren.waves.measurements import line_and_sides, make_inversion
        >>> from hypersiren.waves.media import circle
        >>> data = make_inversion(circle, *line_and_sides(2, 4), wavenumber=5.0, n=64)
        >>> task = JointInversion(data, points=20)
        >>> sorted(task.loss(Siren(2, 5, 8), task.sample(torch.Generator())))
        ['data', 'medium', 'residual', 'source', 'variation']
    """

    name = "inversion"
    defaults = InversionSettings()
    unit = "points"
    criterion: str | None = None
    in_features = 2
    playback: Mapping[str, Any] = {"kind": "wavefield"}
    samples: tuple[int, ...] = (VIEW, VIEW)
    # All but the second are known only where the medium is.
    measures = (
        Measure("velocity_mse", "mean squared error of the velocity"),
        Measure("data_error", "relative misfit of the data", "%", factor=100),
        Measure("homogeneous_mse", "mean squared error of the velocity 1", "of a homogeneous medium", ""),
        Measure("correlation", "correlation of the squared slowness", better="higher"),
    )

    def __init__(
        self,
        data: InversionData,
        truth: Medium | None = None,
        loss: InversionLoss = InversionLoss(waves="network"),  # noqa: B008 - frozen
        *,
        points: int = 2048,
        pml: PML = PML(),  # noqa: B008 - frozen
        device: torch.device | str = "cpu",
    ):
        if len(data.wavenumbers) != 1:
            raise UserError(
                f"expected one frequency where waves are the network's, got {len(data.wavenumbers)}: choose one by "
                "--signal.wavenumber, or --loss.waves solved"
            )
        self.true_medium, self.data_weight = truth, loss.data
        self.pretrain, self.known_beyond, self.variation = loss.pretrain, loss.known_beyond, loss.prior(1)
        self.points = self.batch_size = points
        self.out_features = 2 * len(data.sources) + 1

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).float().to(device)

        self.receivers = tensor(data.receivers)
        self.measured = to_channels(torch.from_numpy(data.values[0])).float().to(device)
        scale = self.measured.square().mean().sqrt().item() or 1.0
        self.equation = Equation(
            data.wavenumbers[0], tensor(data.sources), data.amplitude, data.variance, pml, scale, loss
        )
        check_equation(self.equation, points)
        self.device = self.receivers.device
        half = 1 - self.equation.pml.width
        self.grid = grid((VIEW, VIEW), -half, half, device=device)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> InversionBatch:
        """Random points; the stage is 0 while the medium is not yet asked for, then 1."""
        stage = torch.full((), float(progress >= self.pretrain), device=self.device)
        return InversionBatch(self.equation.draw(self.points, generator), stage)

    def loss(self, field: Field, batch: InversionBatch) -> dict[str, Tensor]:
        """The residual in the field's own medium and the misfit of the data; or, first, in the background."""
        complete, norm = self.equation.complete(field), self.equation.loss.norm
        jet = diagonal_jet(complete, batch.x)
        wavefields, m = split_medium(batch.x, jet, known_beyond=self.known_beyond)
        terms = self.equation.terms(batch.x, wavefields, torch.where(batch.stage > 0, m, 1.0))
        misses = (complete(self.receivers)[..., :-1] - self.measured) / self.equation.scale
        terms["data"] = batch.stage * self.data_weight * misfit(misses, norm).mean()
        terms["medium"] = (1 - batch.stage) * misfit(jet.value[..., -1:], norm).mean()
        if self.variation:
            gradient = medium_gradient(batch.x, jet, known_beyond=self.known_beyond)
            terms["variation"] = batch.stage * self.variation * smooth_norm(gradient).mean()
        return terms

    def recover(self, field: Field) -> Float[Tensor, "N 1"]:
        """m on the grid of the open square."""
        return medium_of(self.grid, evaluate(field, self.grid), known_beyond=self.known_beyond)

    @cached_property
    def truth(self) -> Float[Tensor, "N 1"] | None:
        """The true m on that grid, where it is known."""
        return None if self.true_medium is None else self.true_medium(self.grid)

    def digest(self) -> str:
        # Values that were made are the same up to the rounding of the machine.
        measured = self.measured.cpu().double() / self.equation.scale
        known = None if self.true_medium is None else medium_values(self.true_medium)
        return content_digest(
            self.receivers, self.equation.sources, f"{self.equation.scale:.3g}", measured.mul(1e4).round() + 0, known
        )

    def evaluate(self, field: Field) -> dict[str, float]:
        """Relative misfit of the data; and, where the medium is known, errors of the velocity in the open square.

        The latter are mean squares, of what was found and of the homogeneous guess c = 1, and the correlation of the
        change of squared slowness with the true one.
        """
        misses = evaluate(self.equation.complete(field), self.receivers)[:, :-1] - self.measured
        metrics = {"data_error": misses.square().mean().sqrt().item() / self.equation.scale}
        if self.truth is not None:
            errors = medium_errors(self.once(field, self.recover), self.truth, torch.ones_like(self.truth))
            metrics |= zip(("velocity_mse", "homogeneous_mse", "correlation"), errors, strict=True)
        return metrics

    def summary(self, field: Field) -> Rows:
        """The velocity beside the true one, the first wavefield, and its data at the receivers."""
        complete, half = self.equation.complete(field), 1 - self.equation.pml.width
        m = self.once(field, self.recover)
        medium: dict[str, Plot] = {"fit": velocity_picture("Velocity: result", m, half)}
        if self.truth is not None:
            wrong = velocity_error_picture(m, self.truth, half)
            medium = {"true_fit": velocity_picture("Velocity: truth", self.truth, half), **medium, "error": wrong}
        u = evaluate(complete, self.grid)[:, 0]
        full = np.quantile(u.abs().cpu(), 0.99).item() or 1.0
        at, data = range(1, len(self.receivers) + 1), evaluate(complete, self.receivers)[:, 0].cpu().numpy()
        lines = {"measured": (at, self.measured[:, 0].cpu().numpy()), "result": (at, data)}
        waves: dict[str, Plot] = {
            "wavefield": wave_picture("Re u of source 1: result", u, full, half, "Re u"),
            "data": Curve("Re u of source 1 at the receivers", lines, "receiver", "Re u"),
        }
        return [medium, waves]


def smooth_norm(gradient: Float[Tensor, "*batch D"], least: float = 1e-3) -> Float[Tensor, "*batch"]:
    """The length of a vector, with a derivative at 0 too: sqrt(|g|² + least²) - least.

    Example:
        >>> smooth_norm(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).tolist()
        [0.0, 4.99...]
    """
    return (gradient.square().sum(-1) + least**2).sqrt() - least
