"""What adapters share that take the last layer as a Gaussian: their prior, calibration and learning rates.

Symbols: B signals, P points, C channels, F features, G = F + 1.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.last_layers import last_width
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.adapters.base import Decode, HeldOut, Prediction
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.calibration import fit_calibration

MATRIX = 2**25
"""Numbers of the matrices that calibration works on at a time: 128 MB."""


class BayesianLastLayer(nn.Module):
    """The last layer solved from known points, under a prior: the base of `LastLayerSolve` and `MixtureSolve`.

    Attributes:
        factor: (*, G, R), a square root of the prior's covariance.
        spread: The calibration (files have this name), see `hypersiren.hypernets.gaussian.posterior`.
        length: For contexts of surfaces: the error of the distance that an error of 1 in the normal counts for.
    """

    factor: nn.Parameter
    spread: Tensor

    def __init__(self, length: float = 0.05):
        super().__init__()
        self.length = length
        self.register_buffer("spread", torch.zeros(2))

    @property
    def lacks_prior(self) -> bool:
        """Whether the prior is still that of initial weights."""
        features, rank = self.factor.shape[-2:]
        initial = initial_factor(features - 1).to(self.factor)[:, :rank]
        return bool((self.factor == initial).all())

    @classmethod
    def for_model(cls, siren: Siren, hypernet: nn.Module | None, **arguments: object) -> "BayesianLastLayer":
        """One that fits a hypo-SIREN."""
        return cls(last_width(siren), **arguments)

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
            ValueError: If the SIREN's last sine layer has another width.
        """
        features, width = self.factor.shape[-2] - 1, last_width(siren)
        if features != width:
            raise ValueError(f"expected a SIREN of {features} features in its last sine layer, got {width}")
        with torch.autocast(context.y.device.type, enabled=False):
            return self.solve(siren, z, params, context)

    def solve(self, siren: Siren, z: Tensor | None, params: Params, context: Context) -> Prediction:
        """As `forward`, of a SIREN that fits."""
        raise NotImplementedError

    def calibrate(self, predict: Callable[[Context], Prediction], cases: Iterable[HeldOut]) -> None:
        """Choose the calibration so that 90 % intervals hold 90 % of what is not known.

        Args:
            predict: The model that this adapter is of.
            cases: See `HyperSiren.calibrate`.
        """
        found = []
        self.spread.zero_()
        for context, x, y, unknown in cases:
            # Signals with a system each are taken some at a time: the known points times all others fill the memory.
            some = len(y) if context.shared_points else max(1, MATRIX // max(1, context.mask.shape[1] * len(x)))
            remaining, ratios = [], []
            for start in range(0, len(y), some):
                part = slice(start, start + some)
                predicted = predict(context.signals(part))
                assert predicted.posterior is not None
                errors = (predicted.field(x) - y[part]).abs()
                deviations = predicted.posterior.variance(x).sqrt().clamp(min=1e-6)
                remaining.append(predicted.posterior.remaining_variance)
                ratios.append((errors / deviations)[unknown[part]].flatten())
            if unknown.any():
                found.append((torch.cat(remaining).mean(), torch.cat(ratios)))
        if found:
            self.spread.copy_(fit_calibration(found))

    def lr_factors(self, siren: Siren) -> dict[Tensor, float]:
        """The prior and the SIREN learn relative to their size: where features change fast, their prior is lost."""
        parts = [self.factor, *(p for p in siren.parameters() if p.requires_grad)]
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
