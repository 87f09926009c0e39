"""What a hypernetwork predicts, and what fits a prediction to its context inside the model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import BoundSiren, Params, Siren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.base import Uncertainty

Decode = Callable[[Tensor], Params]
"""From the latents to the weights that the hypernetwork predicts."""


@dataclass(frozen=True)
class Prediction:
    """The fields of B signals.

    Attributes:
        siren: The hypo-SIREN.
        params: Their weights, after adaptation.
        z: The latents (B, Z), or tokens (B, T, Z), that the weights are predicted from; None where there are none.
        posterior: What is still open of the last layers; None where nothing says.
    """

    siren: Siren
    params: Params
    z: Tensor | None = None
    posterior: Uncertainty | None = None

    __repr__ = by_shape

    @property
    def field(self) -> BoundSiren:
        """The fields, as one (B, N, D) -> (B, N, C)."""
        return self.siren.bind(self.params)


def posterior_of(found: Prediction, asker: str) -> Uncertainty:
    """The posterior of a prediction, for what `asker` names.

    Raises:
        UserError: If there is none.
    """
    if found.posterior is None:
        raise UserError(f"{asker} needs a model that predicts a distribution: adapter.kind solve (LastLayerSolve)")
    return found.posterior


class Adapter(Protocol):
    """Fits a prediction to its context: differentiable, each signal by itself, never under autocast.

    One that works without an encoder, from the hypernetwork alone, says its `latent_features` (and `tokens`).
    """

    def __call__(
        self, siren: Siren, z: Tensor | None, params: Params, context: Context, decode: Decode | None = None
    ) -> Prediction:
        """The adapted prediction, from what the hypernetwork predicted.

        Args:
            siren: The hypo-SIREN.
            z: What the encoder gave; None without one.
            params: What the hypernetwork predicts from z; empty without z.
            context: What is known of each signal.
            decode: The hypernetwork, to predict from another z; None without one.
        """
