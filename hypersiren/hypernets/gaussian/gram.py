"""The Gram matrix of known points under a Gaussian prior: solved once, then asked for variances and samples.

With A the known points' features times a square root S of the prior's covariance, and noise s^2, it is A A^T + s^2 I of
the N known points (dual) or A^T A + s^2 I of the R columns of S (primal), whichever is smaller. Both say the same, see
`hypersiren.hypernets.gaussian.posterior`; which of them it is, is known here and nowhere else.

Symbols: B signals, S linear systems (B, or 1 where all signals are known at the same points), N known points, P points,
G features and a constant, R columns of S, M of them or N, C channels, X right-hand sides.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren.fields.shown import by_shape
from hypersiren.hypernets.gaussian.equations import Known
from hypersiren.hypernets.gaussian.linear_algebra import (
    gram_matrix,
    shared_product,
    solve_parts,
    solve_positive,
    spread_over,
    stack_signals,
    unstack_signals,
)


@dataclass(frozen=True)
class Gram:
    """The Gram matrices of S sets of known points.

    Attributes:
        points: A, 0 in rows that are not known; or that of all cells of a raster.
        cells: Which rows of `points` the known ones are, where they are those of a raster.
        mask: Which of the N rows are known.
        noise: s^2 of each system.
        lower: The lower Cholesky factors; None before a solve.
    """

    points: Float[Tensor, "*b P R"]
    cells: Int[Tensor, "S N"] | None
    mask: Bool[Tensor, "S N"]
    noise: Float[Tensor, "*k S"]
    lower: Float[Tensor, "*k S M M"] | None

    __repr__ = by_shape

    @classmethod
    def solve(
        cls, known: Known, factor: Float[Tensor, "G R"], noise: Float[Tensor, " S"]
    ) -> tuple[Float[Tensor, "B R C"], "Gram"]:
        """The solutions w for B signals, whose last layers change by S w, and the matrices that gave them."""
        cells, mask, residual = known.cells, known.mask, stack_signals(known.residual, len(known.mask))
        points = known.features @ factor
        if cells is None:
            points = known.rows(points)
        if not _dual(points, mask):
            design = points if cells is None else known.rows(points)
            w, lower = solve_positive(gram_matrix(design, mask, noise, dual=False), design.mT @ residual)
        elif cells is None:
            solution, lower = solve_positive(gram_matrix(points, mask, noise, dual=True), residual)
            w = points.mT @ solution
        else:
            # One kernel for the whole batch: the raster's.
            solution, lower = solve_parts(points @ points.mT, noise, residual, cells, mask)
            w = shared_product(points.mT, spread_over(solution * mask.unsqueeze(-1), cells, len(points)))
        return unstack_signals(w, len(known.residual)), cls(points, cells, mask, noise, lower)

    @property
    def dual(self) -> bool:
        """Whether they are matrices of the N known points, and not of the R columns."""
        return _dual(self.points, self.mask)

    @property
    def design(self) -> Float[Tensor, "*k S N R"]:
        """A for each system."""
        return self.points if self.cells is None else self.points[self.cells] * self.mask.unsqueeze(-1)

    def to(self, dtype: torch.dtype) -> "Gram":
        """The same in another precision."""
        assert self.lower is not None
        points, noise, lower = (part.to(dtype) for part in (self.points, self.noise, self.lower))
        return Gram(points, self.cells, self.mask, noise, lower)

    def variance(self, a: Float[Tensor, "*s P R"], trained: bool) -> Float[Tensor, "*t P"]:
        """The posterior's variance at points whose features times S are a: the prior's less what is explained.

        Trained, it is a solve of its own: no gradient goes through the Cholesky factor.
        """
        if trained:
            across, solution = self._solve_again(a)
            explained = (across * solution).sum(-2)
        else:
            assert self.lower is not None
            across = self.across(a) if self.dual else a.mT
            explained = torch.linalg.solve_triangular(self.lower, across, upper=False).square().sum(-2)
        return (a.square().sum(-1) - explained).clamp(min=0) if self.dual else self.noise.unsqueeze(-1) * explained

    def across(self, a: Float[Tensor, "*s P R"]) -> Float[Tensor, "*t N P"]:
        """The covariances of the known points and others, which may be the same for all systems."""
        if self.cells is not None and a.ndim == 2:
            return (self.points @ a.mT)[self.cells] * self.mask.unsqueeze(-1)
        return self.design @ a.mT

    def posterior_residual(self, w: Float[Tensor, "B R X"], error: Float[Tensor, "S N Y"]) -> Float[Tensor, "B R X"]:
        """Draws S w from the prior less what known points say of them, with an error (of stacked signals).

        Of an error of variance s^2 it is a draw from the posterior less its mean: Matheron's update.
        """
        assert self.lower is not None
        signals, w = len(w), stack_signals(w, len(self.mask))
        if not self.dual:
            right = self.noise[:, None, None] * w - self.design.mT @ error
            return unstack_signals(torch.cholesky_solve(right, self.lower), signals)
        if self.cells is None:
            change = self.points @ w
        else:
            change = shared_product(self.points, w)
            change = change.gather(1, self.cells.unsqueeze(-1).expand(-1, -1, w.shape[-1]))
        return unstack_signals(w - self._explained(change + error), signals)

    def explained(self, values: Float[Tensor, "B N X"]) -> Float[Tensor, "*k B R X"]:
        """The solutions w for other values at the known points, by the same Cholesky factor."""
        return unstack_signals(self._explained(stack_signals(values, len(self.mask))), len(values))

    def _explained(self, values: Float[Tensor, "S N Y"]) -> Float[Tensor, "*k S R Y"]:
        assert self.lower is not None
        values = values * self.mask.unsqueeze(-1)
        if not self.dual:
            return torch.cholesky_solve(self.design.mT @ values, self.lower)
        solution = torch.cholesky_solve(values, self.lower)
        if self.cells is None:
            return self.points.mT @ solution
        return shared_product(self.points.mT, spread_over(solution, self.cells, len(self.points)))

    def _solve_again(self, a: Float[Tensor, "S P R"]) -> tuple[Float[Tensor, "S M P"], Float[Tensor, "S M P"]]:
        """The covariances of known points (or columns) and those asked for, and the matrices' solutions of them."""
        design = self.design
        matrix = gram_matrix(design, self.mask, self.noise, self.dual)
        across = design @ a.mT if self.dual else a.mT
        return across, solve_positive(matrix, across)[0]


def _dual(points: Tensor, mask: Tensor) -> bool:
    return mask.shape[1] <= points.shape[-1]
