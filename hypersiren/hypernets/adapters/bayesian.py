"""What adapters share that take the last layer as a Gaussian: their prior, calibration and learning rates.

Symbols: B signals, S linear systems (B, or 1 where all are known at the same points), P points, C channels, F features,
G = F + 1, M priors, R columns of a prior's factor, K axes.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.last_layers import last_width, without_last_layer
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.adapters.base import Decode, HeldOut, Prediction
from hypersiren.hypernets.adapters.correction import Correction, best_amplitude
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.calibration import fit_calibration


@dataclass(frozen=True)
class FirstSolve:
    """What a first solve says of B signals, and what a second one around a changed mean would take back.

    Attributes:
        change: Of the last layers.
        variance, prior: The posterior's variance at the points of `probes`, of each signal or system, and the prior's.
        weights: The posterior probability of each of M priors; 1 of a single one.
        explained: For each axis that the mean may move along, the second solve changes the last layer by minus S_m
            times it, under each prior and for each system.
    """

    change: Float[Tensor, "B G C"]
    variance: Float[Tensor, "V P"]
    prior: Float[Tensor, " P"]
    weights: Float[Tensor, "B M"]
    explained: Float[Tensor, "M S R K"]

    __repr__ = by_shape


MATRIX = 2**25
"""Numbers of the matrices that calibration works on at a time: 128 MB."""


class BayesianLastLayer(nn.Module):
    """The last layer solved from known points, under a prior: the base of `LastLayerSolve` and `MixtureSolve`.

    Attributes:
        factor: (*, G, R), a square root of the prior's covariance.
        spread: The calibration (files have this name), see `hypersiren.hypernets.gaussian.posterior`.
        length: For contexts of surfaces: the error of the distance that an error of 1 in the normal counts for.
        correction: Changes the mean of the prior by what the solve says of a signal; None for none.
    """

    factor: nn.Parameter
    spread: Tensor

    def __init__(self, length: float = 0.05, correction: Correction | None = None):
        super().__init__()
        self.length, self.correction = length, correction
        self.register_buffer("spread", torch.zeros(2))

    @property
    def lacks_prior(self) -> bool:
        """Whether the prior is still that of initial weights."""
        features, rank = self.factor.shape[-2:]
        initial = initial_factor(features - 1).to(self.factor)[:, :rank]
        return bool((self.factor == initial).all())

    @classmethod
    def for_model(cls, siren: Siren, hypernet: nn.Module | None, **arguments: Any) -> "BayesianLastLayer":
        """One that fits a hypo-SIREN; a correction may be given by the arguments of `Correction`."""
        width = last_width(siren)
        if isinstance(says := arguments.get("correction"), Mapping):
            arguments["correction"] = Correction(width, siren.out_features, siren.in_features, **says)
        return cls(width, **arguments)

    def forward(
        self, siren: Siren, z: Tensor | None, params: Params, context: Context, decode: Decode | None = None
    ) -> Prediction:
        """The prediction with its last layer corrected.

        Args:
            siren: The hypo-SIREN.
            z: Handed on.
            params: What is predicted of its weights; what is missing is the SIREN's own, the same for all signals.
            context: What is known of each signal.
            decode: Not used.

        Raises:
            ValueError: If the SIREN's last sine layer has another width, or there is a correction and its hidden layers
                are predicted, which a correction's axes do not belong to.
        """
        features, width = self.factor.shape[-2] - 1, last_width(siren)
        if features != width:
            raise ValueError(f"expected a SIREN of {features} features in its last sine layer, got {width}")
        if self.correction is not None and (hidden := list(without_last_layer(siren, params))):
            raise ValueError(f"expected no predicted hidden layers beside a correction, got {hidden[0]}")
        with torch.autocast(context.y.device.type, enabled=False):
            return self.solve(siren, z, params, context)

    def solve(self, siren: Siren, z: Tensor | None, params: Params, context: Context) -> Prediction:
        """As `forward`, of a SIREN that fits."""
        raise NotImplementedError

    def first_solve(self, siren: Siren, context: Context, axes: Float[Tensor, "G K"]) -> FirstSolve:
        """The first solve alone, and what a second one says of changes of the mean along axes.

        Args:
            siren: The hypo-SIREN, whose own weights are all there is.
            context: What is known of each signal.
            axes: Changes of the last layer.
        """
        raise NotImplementedError

    def calibrate(self, predict: Callable[[Context], Prediction], cases: Iterable[HeldOut]) -> None:
        """Choose the calibration so that 90 % intervals hold 90 % of what is not known.

        And before it the correction's amplitude for each case, a kind of context, see `best_amplitude`.

        Args:
            predict: The model that this adapter is of.
            cases: See `HyperSiren.calibrate`.
        """
        found, amplitudes = [], []
        self.spread.zero_()
        for context, x, y, unknown in cases:
            # Signals with a system each are taken some at a time: the known points times all others fill the memory.
            some = len(y) if context.shared_points else max(1, MATRIX // max(1, context.mask.shape[1] * len(x)))
            remaining, errors, changes, deviations = [], [], [], []
            for start in range(0, len(y), some):
                part = slice(start, start + some)
                with self.without_correction():
                    predicted = predict(context.signals(part))
                assert predicted.posterior is not None
                before = predicted.field(x)
                errors.append(y[part] - before)
                deviations.append(predicted.posterior.variance(x).sqrt().clamp(min=1e-6))
                remaining.append(predicted.posterior.remaining_variance)
                if self.correction is not None:
                    with self.correction.held(1.0):
                        changes.append(predict(context.signals(part)).field(x) - before)
            if not unknown.any():
                continue
            share, error = torch.cat(remaining).mean(), torch.cat(errors)
            if changes:
                change = torch.where(unknown.unsqueeze(-1), torch.cat(changes), 0)
                amplitude = best_amplitude((error * change).sum((1, 2)), change.square().sum((1, 2)), context.source)
                amplitudes.append((share.item(), amplitude))
                error = error - amplitude * change
            found.append((share, (error.abs() / torch.cat(deviations))[unknown].flatten()))
        if self.correction is not None:
            self.correction.set_amplitudes(amplitudes)
        if found:
            self.spread.copy_(fit_calibration(found))

    def without_correction(self) -> AbstractContextManager[None]:
        """For a while the prior alone."""
        return nullcontext() if self.correction is None else self.correction.held(0.0)

    def lr_factors(self, siren: Siren) -> dict[Tensor, float]:
        """The prior and the SIREN learn relative to their size: where features change fast, their prior is lost."""
        parts = [p for p in (self.factor, *siren.parameters()) if p.requires_grad]
        return {part: part.detach().square().mean().sqrt().item() or 1.0 for part in parts}


def initial_factor(features: int) -> Float[Tensor, "G G"]:
    """Until a prior is set: that of a SIREN's own initial weights, scaled to values of variance 1."""
    return torch.eye(features + 1) * (2 / (features + 1)) ** 0.5


@torch.no_grad()
def set_mean(siren: Siren, theta: Float[Tensor, "G C"]) -> None:
    """Make theta the SIREN's own last layer, which is the mean of the prior."""
    weight, bias = siren.last().values()
    weight.copy_(theta[:-1].mT)
    bias.copy_(theta[-1])
