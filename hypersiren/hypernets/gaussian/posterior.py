"""The last layer of a SIREN as a Gaussian: solved from what is known, with what remains uncertain.

With phi(x) the last hidden features of the SIREN and a constant 1, a field is y(x) = phi(x) theta, linear in its last
layer theta (F + 1 weights for each of C channels). Under the prior theta ~ N(m, Sigma) with Sigma = S S^T, the same for
every channel, and values known with noise s^2,

    theta = m + S w,     w = A^T (A A^T + s^2 I)^-1 (y - phi m) = (A^T A + s^2 I)^-1 A^T (y - phi m),     A = phi S

over the known points: the first form (dual) solves a system of N known points, the second (primal) one of R columns of
S. Both are the conditional mean, and what they leave open is a Gaussian too, whose variance and samples need no more
than the same factor.

Symbols: B signals, S linear systems (B, or 1 where all signals are known at the same points), N known points, P points,
C channels, F features, R columns of S, X right-hand sides.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren.fields.last_layers import last_layer, with_last_layer
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.gaussian.calibration import spreads
from hypersiren.hypernets.gaussian.linear_algebra import (
    gram_matrix,
    signals_apart,
    signals_aside,
    solve_positive,
    spread_over,
    with_one,
)


@dataclass(frozen=True)
class Posterior:
    """What is still open of the last layers of B fields.

    Signals that are known at the same points share one linear system; cells, mask, gram and noise then have one entry.

    Attributes:
        siren, params: The fields; their last layer is the mean.
        factor: S.
        points: A: the known points' features times S, 0 in rows that are not known; or those of all cells of a raster.
        cells: Which rows of `points` each signal's known ones are, where they are those of a raster.
        mask: Which of these are known.
        gram: Lower Cholesky factor of A A^T + s^2 I (dual), or of A^T A + s^2 I (primal).
        noise: s^2 of each system.
        dual: Which of both it is.
        spread: The logarithm of what multiplies the standard deviation is spread[0] + spread[1] log u, u being the
            share of the prior's variance that is still open, see `open_share`.
    """

    siren: Siren
    params: Params
    factor: Float[Tensor, "G R"]
    points: Float[Tensor, "*b P R"]
    cells: Int[Tensor, "S N"] | None
    mask: Bool[Tensor, "S N"]
    gram: Float[Tensor, "S K K"]
    noise: Float[Tensor, " S"]
    dual: bool
    spread: Float[Tensor, " 2"]

    __repr__ = by_shape

    @property
    def signals(self) -> int:
        """B."""
        return len(last_layer(self.siren, self.params))

    @property
    def columns(self) -> int:
        """R."""
        return self.factor.shape[1]

    @property
    def seen(self) -> Float[Tensor, "S N R"]:
        """A for each system."""
        return self.points if self.cells is None else self.points[self.cells] * self.mask.unsqueeze(-1)

    def variance(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "B P C"]:
        """The variance of the fields' values at x, of the field itself and not of a noisy measurement of it."""
        variance = self.spreads.square()[:, None] * self.raw_variance(self._features(x))
        return variance.expand(self.signals, -1).unsqueeze(-1).expand(-1, -1, self.siren.out_features)

    def raw_variance(self, a: Float[Tensor, "*b P R"]) -> Float[Tensor, "S P"]:
        """The variance before the spread, where the features times S are known."""
        a = a.expand(len(self.gram), -1, -1)
        if torch.is_grad_enabled() and a.requires_grad:
            return self._trained_variance(a)
        if self.dual:
            explained = torch.linalg.solve_triangular(self.gram, self.seen @ a.mT, upper=False).square().sum(-2)
            return (a.square().sum(-1) - explained).clamp(min=0)
        left = torch.linalg.solve_triangular(self.gram, a.mT, upper=False)
        return self.noise[:, None] * left.square().sum(-2)

    def _trained_variance(self, a: Float[Tensor, "S P R"]) -> Float[Tensor, "S P"]:
        """The same by a solve of its own: no gradient goes through the Cholesky factor."""
        seen = self.seen
        gram = gram_matrix(seen, self.mask, self.noise, self.dual)
        if self.dual:
            across = seen @ a.mT
            return (a.square().sum(-1) - (across * solve_positive(gram, across)[0]).sum(-2)).clamp(min=0)
        return self.noise[:, None] * (a.mT * solve_positive(gram, a.mT)[0]).sum(-2)

    @property
    def open_share(self) -> Float[Tensor, " S"]:
        """u: the share of the prior's variance that is still open, over [-1, 1]^D, from 0 to 1."""
        a = self._features(probes(self.siren, self.points))
        return (self.raw_variance(a).mean(-1) / a.square().sum(-1).mean(-1)).clamp(1e-6, 1)

    @cached_property
    def spreads(self) -> Float[Tensor, " S"]:
        """What multiplies the standard deviation of each system."""
        return spreads(self.spread, self)

    def left_open(self, w: Float[Tensor, "B R X"], error: Tensor | float = 0.0) -> Float[Tensor, "B R X"]:
        """What the known points leave of a change S w of the last layers, themselves known with an error (S N X)."""
        w = signals_aside(w, len(self.gram))
        if not self.dual:
            known = 0.0 if isinstance(error, float) else self.seen.mT @ error
            return signals_apart(torch.cholesky_solve(self.noise[:, None, None] * w - known, self.gram), self.signals)
        if self.cells is None:
            change = self.points @ w
        else:
            change = (self.points @ w).gather(1, self.cells.unsqueeze(-1).expand(-1, -1, w.shape[-1]))
        solution = torch.cholesky_solve((change + error) * self.mask.unsqueeze(-1), self.gram)
        back = solution if self.cells is None else spread_over(solution, self.cells, len(self.points))
        return signals_apart(w - self.points.mT @ back, self.signals)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Params:
        """Parameters of `count` fields for each signal: (B * count, *shape), the first signal's first.

        Matheron's rule: a sample of the prior, corrected by what it says at the known points.
        """
        b, r, channels = self.signals, self.factor.shape[1], self.siren.out_features
        like = {"device": self.points.device, "dtype": self.points.dtype, "generator": generator}
        w = torch.randn(b, r, count * channels, **like)  # type: ignore[call-overload]
        error = torch.randn(b, self.mask.shape[1], count * channels, **like)  # type: ignore[call-overload]
        error = signals_aside(error, len(self.gram)) * self.noise.sqrt()[:, None, None] * self.mask.unsqueeze(-1)
        change = self.spreads[:, None, None] * (self.factor @ self.left_open(w, error))
        change = change.unflatten(-1, (count, -1)).movedim(-2, 1).flatten(0, 1)
        repeated = {
            name: p.repeat_interleave(count, 0) if p.ndim > len(self.siren.shapes[name]) else p
            for name, p in self.params.items()
        }
        return with_last_layer(self.siren, repeated, last_layer(self.siren, repeated) + change)

    def _features(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "*c P R"]:
        hidden = {name: p for name, p in self.params.items() if name not in self.siren.last()}
        return with_one(self.siren.features(x, hidden)) @ self.factor


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
    """How many points, spread evenly over [-1, 1]^D, would be as near to everywhere as the known ones are.

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
