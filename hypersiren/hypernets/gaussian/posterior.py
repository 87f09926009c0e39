"""The last layer of a SIREN as a Gaussian: its posterior, given the known points.

With phi(x) the last hidden features of the SIREN and a constant 1, a field is y(x) = phi(x) theta, linear in its last
layer theta (F + 1 weights for each of C channels). Under the prior theta ~ N(m, Sigma) with Sigma = S S^T, the same for
every channel, and values known with noise s^2,

    theta = m + S w,     w = A^T (A A^T + s^2 I)^-1 (y - phi m) = (A^T A + s^2 I)^-1 A^T (y - phi m),     A = phi S

over the known points: the first form (dual) solves a system of N known points, the second (primal) one of R columns of
S. Both are the conditional mean; the posterior is a Gaussian too, whose variance and samples need no more than the same
Cholesky factor, see `hypersiren.hypernets.gaussian.gram`.

Symbols: B signals, S linear systems (B, or 1 where all signals are known at the same points), N known points, P points,
C channels, F features, R columns of S, X right-hand sides.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren.fields.last_layers import last_layer, with_last_layer, without_last_layer
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.gaussian.calibration import deviation_factor
from hypersiren.hypernets.gaussian.gram import Gram
from hypersiren.hypernets.gaussian.linear_algebra import append_bias, stack_signals


@dataclass(frozen=True)
class GaussianPosterior:
    """The posterior over the last layers of B fields, under one Gaussian prior.

    Signals that are known at the same points share one linear system; mask, gram and variances then have one entry.

    Attributes:
        siren, params: The fields; their last layer is the mean.
        factor: S.
        gram: What the known points say, solved.
        calibration: The logarithm of what multiplies the standard deviation is calibration[0] + calibration[1] log u,
            u being the `remaining_variance`.
    """

    siren: Siren
    params: Params
    factor: Float[Tensor, "G R"]
    gram: Gram
    calibration: Float[Tensor, " 2"]

    __repr__ = by_shape

    @property
    def signals(self) -> int:
        """B."""
        return len(last_layer(self.siren, self.params))

    @property
    def mask(self) -> Bool[Tensor, "S N"]:
        """Which points are known."""
        return self.gram.mask

    @property
    def rank(self) -> int:
        """R."""
        return self.factor.shape[1]

    def mean(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "B P C"]:
        """The mean of the fields' values at x."""
        return self.siren(x, self.params)

    def variance(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "B P C"]:
        """The variance of the fields' values at x, of the field itself and not of a noisy measurement of it."""
        variance = self.deviation_factor.square()[:, None] * self._variance(self._features(x))
        return variance.expand(self.signals, -1).unsqueeze(-1).expand(-1, -1, self.siren.out_features)

    def _variance(self, a: Float[Tensor, "*b P R"]) -> Float[Tensor, "S P"]:
        """The variance before the calibration, where the features times S are known."""
        trained = torch.is_grad_enabled() and a.requires_grad
        # Where all systems share the points, their covariances are parts of one matrix.
        return self.gram.variance(a.expand(len(self.mask), -1, -1) if trained or not self.gram.dual else a, trained)

    @property
    def remaining_variance(self) -> Float[Tensor, " S"]:
        """u: the posterior's variance as a share of the prior's, over [-1, 1]^D, from 0 to 1."""
        variance, prior = self.probed()
        return (variance.mean(-1) / prior.mean(-1)).clamp(1e-6, 1)

    def probed(self) -> tuple[Float[Tensor, "S P"], Float[Tensor, "*c P"]]:
        """The variance at the points of `probes`, before the calibration, and the prior's there."""
        a = self._features(probes(self.siren, self.factor))
        return self._variance(a), a.square().sum(-1)

    @cached_property
    def deviation_factor(self) -> Float[Tensor, " S"]:
        """What multiplies the standard deviation of each system."""
        return deviation_factor(self.calibration, self)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Params:
        """Parameters of `count` fields for each signal: (B * count, *shape), the first signal's first.

        Matheron's rule: a sample of the prior, corrected by what it says at the known points.
        """
        b, channels, noise = self.signals, self.siren.out_features, self.gram.noise
        like = {"device": noise.device, "dtype": noise.dtype, "generator": generator}
        w = torch.randn(b, self.rank, count * channels, **like)  # type: ignore[call-overload]
        error = torch.randn(b, self.mask.shape[1], count * channels, **like)  # type: ignore[call-overload]
        error = stack_signals(error, len(self.mask)) * noise.sqrt()[:, None, None] * self.mask.unsqueeze(-1)
        change = self.deviation_factor[:, None, None] * (self.factor @ self.gram.posterior_residual(w, error))
        change = change.unflatten(-1, (count, -1)).movedim(-2, 1).flatten(0, 1)
        repeated = {
            name: p.repeat_interleave(count, 0) if p.ndim > len(self.siren.shapes[name]) else p
            for name, p in self.params.items()
        }
        return with_last_layer(self.siren, repeated, last_layer(self.siren, repeated) + change)

    def _features(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "*c P R"]:
        return append_bias(self.siren.features(x, without_last_layer(self.siren, self.params))) @ self.factor


def probes(siren: Siren, like: Tensor) -> Float[Tensor, "P D"]:
    """256 points spread over [-1, 1]^D by the Sobol sequence, which keeps step with no raster; not to be written to."""
    return _sobol(siren.in_features, like.device, like.dtype)


@cache
def _sobol(dimensions: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "P D"]:
    """They are drawn on the processor, and would otherwise be copied to the device in every step."""
    with torch.inference_mode(False):  # a training may want them that were first asked for in inference
        return 2 * torch.quasirandom.SobolEngine(dimensions).draw(256).to(device, dtype) - 1


@torch.no_grad()
def effective_count(siren: Siren, x: Float[Tensor, "S N D"], mask: Bool[Tensor, "S N"]) -> Float[Tensor, " S"]:
    """The number of evenly spread points over [-1, 1]^D that have the same fill distance as the known ones, on average.

    N evenly random points are about N^(-1/D) away on average. Points that all lie on one side count for less than they
    are; none counts for more than one.

    Example:
        >>> x = torch.linspace(-1, 1, 100).view(1, -1, 1)
        >>> known = torch.ones(2, 100, dtype=torch.bool)
        >>> known[1, 50:] = False
        >>> [round(n) for n in effective_count(Siren(1, 1), x.expand(2, -1, -1), known).tolist()]
        [100, 4]
    """
    if x.shape[1] == 0:
        return x.new_ones(len(x))
    far = torch.finfo(x.dtype).max
    nearest = torch.cdist(probes(siren, x), x).masked_fill(~mask.unsqueeze(1), far).amin(-1)
    count = mask.sum(1).to(x.dtype)
    return torch.minimum(count, nearest.mean(-1) ** -x.shape[-1]).clamp(min=1)
