"""The moments of last layers that fit training signals: mean and covariance of a prior (empirical Bayes).

Symbols: M signals, P points of a raster, C channels, G features and a constant 1, R columns.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.coords import grid
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.gaussian.linear_algebra import (
    append_bias,
)

SPECTRA = 2**24
"""Values of zero-padded signals whose power spectra are taken at a time."""


class Moments:
    """Sums over signals on one raster, and what they say of a last layer.

    A fit's weights are W U^T y, with the features phi = U S V^T and W = V S / (S^2 + ridge); so the moments of U^T y,
    which are well scaled, are those of the weights.
    """

    def __init__(self, siren: Siren, like: Tensor, ridge: float):
        self.size = like.shape[1:-1]
        self.work = torch.float32 if like.device.type == "mps" else torch.float64
        phi = append_bias(siren.features(grid(self.size, device=like.device, dtype=like.dtype))).to(self.work)
        values, vectors = torch.linalg.eigh(phi.mT @ phi)
        least = ridge * values.mean()
        kept = values > 1e-3 * least  # the others are fitted as good as not at all
        values, vectors = values[kept], vectors[:, kept]
        self.features, self.basis = phi, phi @ vectors / values.sqrt()
        self.weights = vectors * (values.sqrt() / (values + least))
        self.quick = self.basis.to(like.dtype)
        self.total: Tensor | float = 0.0
        self.second: Tensor | float = 0.0
        self.power: Tensor | float = 0.0
        self.count = 0

    def add(self, chunk: Float[Tensor, "M *size C"]) -> None:
        y = chunk.flatten(1, -2)
        rows = y.movedim(-1, 0).flatten(0, 1)
        coefficients = rows @ self.quick
        self.count += len(y)
        self.total = self.total + y.sum(0, dtype=self.work)
        self.second = self.second + (coefficients.mT @ coefficients).to(self.work)
        self.power = self.power + self._power(rows)

    def prior(self, shrinkage: float) -> tuple[Float[Tensor, "G C"], Float[Tensor, "G R"]]:
        """Mean and factor of the covariance of the last layer; columns in ascending order of what they explain."""
        assert isinstance(self.total, Tensor)
        mean = self.total / self.count
        channels, middle = mean.shape[-1], self.basis.mT @ mean
        sample = self.second / (self.count * channels) - middle @ middle.mT / channels
        power = self.power / (self.count * channels) - self._power(mean.mT) / channels
        covariance = (1 - shrinkage) * sample + shrinkage * self.basis.mT @ self._stationary(power)
        covariance = (covariance + covariance.mT) / 2
        covariance += 1e-9 * covariance.diagonal().mean() * torch.eye(len(covariance)).to(covariance)
        values, vectors = torch.linalg.eigh(covariance)
        return self.weights @ middle, self.weights @ (vectors * values.clamp(min=0).sqrt())

    def _power(self, rows: Float[Tensor, "M P"]) -> Tensor:
        """The summed power spectrum of signals, each continued by as many zeros along each axis."""
        padded = [2 * n for n in self.size]
        # In parts: a spectrum takes eight times the memory of its signal.
        parts = rows.unflatten(1, self.size).split(max(1, SPECTRA // math.prod(padded)))
        power = [torch.fft.rfftn(part, padded).abs().square().sum(0, dtype=self.work) for part in parts]
        return torch.stack(power).sum(0)

    def _stationary(self, power: Tensor) -> Float[Tensor, "P R"]:
        """The basis times the covariance of the raster's points that depends on their difference alone."""
        padded, dims = [2 * n for n in self.size], tuple(range(1, len(self.size) + 1))
        spectrum = torch.fft.rfftn(self.basis.mT.unflatten(1, self.size), padded, dims) * power
        product = torch.fft.irfftn(spectrum, padded, dims) / math.prod(self.size)
        return product[(slice(None), *(slice(n) for n in self.size))].flatten(1).mT
