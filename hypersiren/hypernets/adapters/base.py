"""What a hypernetwork predicts, and what fits a prediction to its context inside the model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import BoundSiren, Params, Siren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.base import Posterior

Decode = Callable[[Tensor], Params]
"""From the latents to the weights that the hypernetwork predicts."""


@dataclass(frozen=True)
class Prediction:
    """The fields of B signals.

    Attributes:
        siren: The hypo-SIREN.
        params: Their weights, after adaptation.
        z: The latents (B, Z), or tokens (B, T, Z), that the weights are predicted from; None where there are none.
        posterior: That over the last layers; None where the prediction is not a distribution.
    """

    siren: Siren
    params: Params
    z: Tensor | None = None
    posterior: Posterior | None = None

    __repr__ = by_shape

    @property
    def field(self) -> BoundSiren:
        """The fields, as one (B, N, D) -> (B, N, C)."""
        return self.siren.bind(self.params)


def posterior_of(found: Prediction, asker: str) -> Posterior:
    """The posterior of a prediction, for what `asker` names.

    Raises:
        UserError: If there is none.
    """
    if found.posterior is None:
        raise UserError(f"{asker} needs a model that predicts a distribution: adapter.kind solve (LastLayerSolve)")
    return found.posterior


HeldOut = tuple[Context, Tensor, Tensor, Tensor]
"""Signals that a model has not learned from: their context, points (P, D), all values there (B, P, C), and which of
these are unknown (B, P)."""


class Adapter(Protocol):
    """Fits a prediction to its context: differentiable, each signal by itself, never under autocast.

    An adapter answers for itself. What else it has of these, all of them optional, `HyperSiren` asks it for:

    - `latent_features` (and `tokens`): it finds z by itself and works without an encoder, from a hypernetwork alone.
    - `trains_siren`: whether those weights of the hypo-SIREN are trained that are not predicted; they are by default.
    - `set_prior(siren, signals, ridge, shrinkage)`: starts at a prior from chunks of signals (M, *size, C) on a raster,
      whose mean becomes the SIREN's own last layer. `hypersiren train` calls it before the first step.
    - `lacks_prior`: whether it has not been called; `train` then warns.
    - `calibrate(predict, cases)`: before each validation, with the model's `predict` and each `HeldOut` of its task.
    - `lr_factors(siren)`: parameters, its own or the SIREN's, that learn at a multiple of the learning rate.
    - `for_model(siren, hypernet, **arguments)`: a class method that `build` makes it by, for a row of `ADAPTERS`.
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
