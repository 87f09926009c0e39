"""The last layer of a SIREN as a Gaussian: solved from what is known, with what remains uncertain.

With phi(x) the last hidden features of the SIREN and a constant 1, a field is y(x) = phi(x) theta, linear in its last
layer theta (F + 1 weights for each of C channels). Under the prior theta ~ N(m, Sigma) with Sigma = S S^T, the same for
every channel, and values known with noise s^2,

    theta = m + S w,     w = A^T (A A^T + s^2 I)^-1 (y - phi m) = (A^T A + s^2 I)^-1 A^T (y - phi m),     A = phi S

over the known points: the first form (dual) solves a system of N known points, the second (primal) one of R columns of
S. Both are the conditional mean, and what they leave open is a Gaussian too, whose variance and samples need no more
than the same factor.

Symbols: B signals, N known points, P points, C channels, F features, R columns of S.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren.fields.siren import Params, Siren


class _Solve(torch.autograd.Function):
    """K^-1 r for symmetric positive definite K. Its backward is one more solve and an outer product; autograd through
    the Cholesky factor would cost several more of its cubes."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        # Unlike cholesky this does not wait for the device, and lets NaN through to where the loop reports it.
        factor = torch.linalg.cholesky_ex(matrix).L
        solution = torch.cholesky_solve(right, factor)
        ctx.save_for_backward(factor, solution)
        ctx.mark_non_differentiable(factor)
        return solution, factor

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor]:
        factor, solution = ctx.saved_tensors
        right = torch.cholesky_solve(gradients[0], factor)
        outer = right @ solution.mT
        return -0.5 * (outer + outer.mT), right


class _SolveParts(torch.autograd.Function):
    """(K_i + s_i^2 I)^-1 r_i for parts K_i of one kernel matrix: the cells that are known of each signal.

    The gradient by the kernel is one product of the solutions, spread over all cells, and never a B x N x N tensor.
    """

    @staticmethod
    def forward(
        ctx: Any, kernel: Tensor, noise: Tensor, right: Tensor, cells: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        parts = kernel[cells.unsqueeze(-1), cells.unsqueeze(-2)]
        parts *= mask.unsqueeze(-1) & mask.unsqueeze(-2)
        # A point that is not known has a row of its own, which changes nothing.
        parts.diagonal(dim1=-2, dim2=-1).add_(torch.where(mask, noise[:, None], 1.0))
        factor = torch.linalg.cholesky_ex(parts).L
        solution = torch.cholesky_solve(right, factor)
        ctx.save_for_backward(factor, solution, cells, mask)
        ctx.count = len(kernel)
        ctx.mark_non_differentiable(factor)
        return solution, factor

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor, None, None]:
        factor, solution, cells, mask = ctx.saved_tensors
        right = torch.cholesky_solve(gradients[0], factor)
        known = mask.unsqueeze(-1)
        u, v = (spread_over(part * known, cells, ctx.count).movedim(1, 0).flatten(1) for part in (right, solution))
        outer = u @ v.mT
        return -0.5 * (outer + outer.mT), -(right * solution * known).sum((1, 2)), right, None, None


def spread_over(values: Float[Tensor, "B N C"], cells: Int[Tensor, "B N"], count: int) -> Float[Tensor, "B P C"]:
    """Values at some cells as values at all of them, 0 elsewhere; of cells named twice the sum."""
    index = cells.unsqueeze(-1).expand(-1, -1, values.shape[-1])
    return values.new_zeros(len(values), count, values.shape[-1]).scatter_add(1, index, values)


def solve_positive(
    matrix: Float[Tensor, "*b N N"], right: Float[Tensor, "*b N C"]
) -> tuple[Float[Tensor, "*b N C"], Float[Tensor, "*b N N"]]:
    """K^-1 r, and the lower Cholesky factor of K, through which no gradient goes.

    Example:
        >>> solve_positive(torch.diag(torch.tensor([2.0, 4.0])), torch.ones(2, 1))[0].flatten().tolist()
        [0.5, 0.25]
    """
    return _Solve.apply(matrix, right)


def solve_parts(
    kernel: Float[Tensor, "P P"],
    noise: Float[Tensor, " B"],
    right: Float[Tensor, "B N C"],
    cells: Int[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B N N"]]:
    """As `solve_positive`, for the parts of one kernel matrix that belong to the known cells, plus their noise.

    Where `mask` is False the solution is what stands on the right there, which should be 0.
    """
    return _SolveParts.apply(kernel, noise, right, cells, mask)


def with_one(features: Float[Tensor, "*b N F"]) -> Float[Tensor, "*b N G"]:
    """The features and a constant 1, that the bias belongs to."""
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)


def last_layer(siren: Siren, params: Params) -> Float[Tensor, "*b G C"]:
    """The last layer of a field as one matrix, its bias in the last row."""
    weight, bias = (params.get(name, own) for name, own in siren.last().items())
    if weight.ndim != bias.ndim + 1:  # one of them is the same for all signals
        b = max(weight.shape[0] if weight.ndim == 3 else 1, bias.shape[0] if bias.ndim == 2 else 1)
        weight, bias = weight.expand(b, *weight.shape[-2:]), bias.expand(b, bias.shape[-1])
    return torch.cat([weight, bias.unsqueeze(-1)], dim=-1).mT


def with_last_layer(siren: Siren, params: Params, theta: Float[Tensor, "*b G C"]) -> Params:
    """The parameters with another last layer."""
    weight, bias = siren.last()
    return {**params, weight: theta[..., :-1, :].mT, bias: theta[..., -1, :]}


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

    def variance(self, x: Tensor) -> Tensor:
        """The variance of the fields' values at x, (B, P, C)."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Params:
        """Parameters of `count` fields for each signal."""


@dataclass(frozen=True)
class Posterior:
    """What is still open of the last layers of B fields.

    Attributes:
        siren, params: The fields; their last layer is the mean.
        factor: S.
        points: A: the known points' features times S, 0 in rows that are not known; or those of all cells of a raster.
        cells: Which rows of `points` each signal's known ones are, where they are those of a raster.
        mask: Which of these are known.
        gram: Lower Cholesky factor of A A^T + s^2 I (dual), or of A^T A + s^2 I (primal).
        noise: s^2 of each signal.
        dual: Which of both it is.
        spread: Multiplies the standard deviation; chosen on validation data so that intervals cover what they should.
    """

    siren: Siren
    params: Params
    factor: Float[Tensor, "G R"]
    points: Float[Tensor, "*b P R"]
    cells: Int[Tensor, "B N"] | None
    mask: Bool[Tensor, "B N"]
    gram: Float[Tensor, "B K K"]
    noise: Float[Tensor, " B"]
    dual: bool
    spread: Tensor

    @property
    def columns(self) -> int:
        """R."""
        return self.factor.shape[1]

    @property
    def seen(self) -> Float[Tensor, "B N R"]:
        """A for each signal."""
        return self.points if self.cells is None else self.points[self.cells] * self.mask.unsqueeze(-1)

    def variance(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "B P C"]:
        """The variance of the fields' values at x, of the field itself and not of a noisy measurement of it."""
        a = with_one(self.siren.features(x, self.params)) @ self.factor
        a = a.expand(len(self.mask), -1, -1)
        if self.dual:
            explained = torch.linalg.solve_triangular(self.gram, self.seen @ a.mT, upper=False).square().sum(-2)
            variance = (a.square().sum(-1) - explained).clamp(min=0)
        else:
            left = torch.linalg.solve_triangular(self.gram, a.mT, upper=False)
            variance = self.noise[:, None] * left.square().sum(-2)
        channels = self.siren.out_features
        return self.spread**2 * variance.unsqueeze(-1).expand(-1, -1, channels)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Params:
        """Parameters of `count` fields for each signal: (B * count, *shape), the first signal's first.

        Matheron's rule: a sample of the prior, corrected by what it says at the known points.
        """
        seen = self.seen
        b, n, r = seen.shape
        like = {"device": seen.device, "dtype": seen.dtype, "generator": generator}
        w = torch.randn(b, r, count * self.siren.out_features, **like)  # type: ignore[call-overload]
        noisy = seen @ w + self.noise.sqrt()[:, None, None] * torch.randn(b, n, w.shape[-1], **like)  # type: ignore[call-overload]
        if self.dual:
            w = w - seen.mT @ torch.cholesky_solve(noisy, self.gram)
        else:
            w = w - torch.cholesky_solve(seen.mT @ noisy, self.gram)
        change = self.spread * (self.factor @ w).unflatten(-1, (count, -1)).movedim(-2, 1).flatten(0, 1)
        repeated = {
            name: p.repeat_interleave(count, 0) if p.ndim > len(self.siren.shapes[name]) else p
            for name, p in self.params.items()
        }
        return with_last_layer(self.siren, repeated, last_layer(self.siren, repeated) + change)
