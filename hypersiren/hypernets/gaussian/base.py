"""What every posterior over the last layers of B fields must say."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hypersiren.fields.siren import Params, Siren


@runtime_checkable
class Uncertainty(Protocol):
    """What is still open of B fields: `Posterior`, or one like it."""

    @property
    def siren(self) -> Siren:
        """The hypo-SIREN."""

    @property
    def params(self) -> Params:
        """The fields' weights; their last layer is the mean."""

    @property
    def mask(self) -> Tensor:
        """(B, N), which points are known."""

    @property
    def columns(self) -> int:
        """R, numbers that a field has under its prior."""

    @property
    def open_share(self) -> Tensor:
        """The share of the prior's variance that is still open, of each signal or one for all, from 0 to 1."""

    def variance(self, x: Tensor) -> Tensor:
        """The variance of the fields' values at x, (B, P, C)."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Params:
        """Parameters of `count` fields for each signal."""
