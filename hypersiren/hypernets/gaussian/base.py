"""What every posterior over the last layers of B fields must say."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hypersiren.fields.siren import Params, Siren


@runtime_checkable
class Posterior(Protocol):
    """The posterior over the last layers of B fields: `GaussianPosterior`, `MixturePosterior`, or one like them."""

    @property
    def siren(self) -> Siren:
        """The hypo-SIREN."""

    @property
    def params(self) -> Params:
        """The fields' weights; their last layer is the mean."""

    @property
    def mask(self) -> Tensor:
        """(S, N), which points are known; S is B, or 1 where all signals are known at the same points."""

    @property
    def rank(self) -> int:
        """R, numbers that a field has under its prior."""

    @property
    def remaining_variance(self) -> Tensor:
        """The posterior's variance as a share of the prior's, of each signal or one for all, from 0 to 1."""

    def mean(self, x: Tensor) -> Tensor:
        """The mean of the fields' values at x, (B, P, C)."""

    def variance(self, x: Tensor) -> Tensor:
        """The variance of the fields' values at x, (B, P, C)."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Params:
        """Parameters of `count` fields for each signal: (B * count, *shape), the first signal's first."""
