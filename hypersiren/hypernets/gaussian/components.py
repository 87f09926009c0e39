"""Signals solved under several priors of their last layer at once, as one batch of linear systems.

Under each of K priors N(m, S_k S_k^T) of the last layer, with noise s_k^2 and A_k = phi S_k at the known points, the
conditional mean is m + S_k w_k, see `hypersiren.hypernets.gaussian.posterior`. One product, one factorisation and one
solve serve all signals and priors.

Symbols: B signals, S linear systems of each prior (B, or 1 where all signals are known at the same points), K priors,
N equations, M of them or the columns R, P points, C channels, G features and a constant, X right-hand sides.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from hypersiren.hypernets.gaussian.equations import Known
from hypersiren.hypernets.gaussian.gram import Gram
from hypersiren.hypernets.gaussian.linear_algebra import (
    shared_product,
    solve_with_determinant,
    stack_signals,
    unstack_signals,
)

AT_A_TIME, AT_A_TIME_ON_A_DEVICE = 2**20, 2**28
"""Numbers of the matrices that are worked on at a time: 4 MB, which a processor's cache holds, and 1 GB."""


@dataclass(frozen=True)
class ComponentGram(Gram):
    """The Gram matrices of S sets of known points under each of K priors.

    Attributes:
        points: A of all cells of a raster and a row of zeros, (K, P + 1, R); or of the equations, (K, S, N, R).
        cells: Which of the raster's rows each system's equations are; that of zeros where there is none.
        known: The equations.
        The rest: As of `Gram`, for each prior.
    """

    known: Known

    @classmethod
    def of(cls, known: Known, factor: Float[Tensor, "K G R"], noise: Float[Tensor, "K S"]) -> "ComponentGram":
        """Those of known points, where factor has the S_k; not solved."""
        features, mask = known.features, known.mask
        if known.cells is None:
            return cls(features @ factor.unsqueeze(1) * mask.unsqueeze(-1), None, mask, noise, None, known)
        return cls(pad(features, (0, 0, 0, 1)) @ factor, known.rows_or_zero, mask, noise, None, known)

    @property
    def design(self) -> Float[Tensor, "K S N R"]:
        """A."""
        return self.points if self.cells is None else self.points[:, self.cells]

    def condition(
        self, residual: Float[Tensor, "K B N C"]
    ) -> tuple[Float[Tensor, "K B R C"], Float[Tensor, "K B"], "ComponentGram"]:
        """w for each signal and prior, the logarithm of its evidence up to a constant, and the solved matrices."""
        right = residual if self.dual else self._transposed(residual)
        solution, logarithm, lower = self._solve(right)
        square = (right * solution).sum((-2, -1))
        if self.dual:
            w = self._transposed(solution)
        else:
            w, square = solution, (residual.square().sum((-2, -1)) - square) / self.noise
            logarithm = logarithm + (self.mask.sum(1) - self.points.shape[-1]) * self.noise.log()
        return w, -0.5 * (square + residual.shape[-1] * logarithm), replace(self, lower=lower)

    def _explained(self, values: Float[Tensor, "S N X"]) -> Float[Tensor, "K S R X"]:
        assert self.lower is not None
        values = (values * self.mask.unsqueeze(-1)).expand(len(self.noise), -1, -1, -1)
        if not self.dual:
            return torch.cholesky_solve(self._transposed(values), self.lower)
        return self._transposed(torch.cholesky_solve(values, self.lower))

    def _solve_again(self, a: Float[Tensor, "K S P R"]) -> tuple[Float[Tensor, "K S M P"], Float[Tensor, "K S M P"]]:
        across = self.design @ a.mT if self.dual else a.mT
        return across, self._solve(across)[0]

    def _solve(
        self, right: Float[Tensor, "K B M X"]
    ) -> tuple[Float[Tensor, "K B M X"], Float[Tensor, "K S"], Float[Tensor, "K S M M"]]:
        """The solutions of A A^T + s^2 I (dual) or A^T A + s^2 I, the logarithm of its determinant, and its factor."""
        if self.dual:
            matrix, diagonal = self._across(), torch.where(self.mask, self.noise.unsqueeze(-1), 1.0)
        else:
            design = self.design
            matrix, diagonal = design.mT @ design, self.noise.unsqueeze(-1).expand(-1, -1, design.shape[-1])
        stacked = stack_signals(right, self.noise.shape[1])
        solution, logarithm, lower = solve_with_determinant(matrix, stacked, diagonal)
        return unstack_signals(solution, right.shape[1]), logarithm, lower

    def _across(self) -> Float[Tensor, "K S N N"]:
        """A A^T: where that is less work and asks for no gradient, as parts of that of all cells."""
        cells, p = self.cells, self.points.shape[-2]
        if cells is None or self.points.requires_grad or p**2 > len(cells) * cells.shape[1] ** 2:
            design = self.design
            return design @ design.mT
        parts = (self.points @ self.points.mT).flatten(1).index_select(1, self.known.places)
        return parts.unflatten(1, (*cells.shape, cells.shape[1]))

    def _transposed(self, y: Float[Tensor, "K B N X"]) -> Float[Tensor, "K B R X"]:
        """A^T y."""
        if self.cells is None:
            return self.points.mT @ y
        index = self.cells.unsqueeze(-1).expand_as(y)
        total = y.new_zeros(*y.shape[:2], self.points.shape[1], y.shape[-1]).scatter_add(2, index, y)
        return shared_product(self.points.mT, total)


@dataclass(frozen=True)
class Solved:
    """B signals under each of K priors.

    Attributes:
        w: The last layer changes by S_k w.
        evidence: The logarithm of the likelihood of the known values under each prior, up to a constant.
        gram: What was solved.
    """

    w: Float[Tensor, "K B R C"]
    evidence: Float[Tensor, "K B"]
    gram: ComponentGram

    def variance(self, a: Float[Tensor, "K *b P R"]) -> Float[Tensor, "K S P"]:
        """The variance at points whose features times S_k are a."""
        a = a.reshape(len(a), -1, *a.shape[-2:]).expand(-1, self.gram.noise.shape[1], -1, -1)
        return self.gram.variance(a, trained=torch.is_grad_enabled())


def solve_under(known: Known, factor: Float[Tensor, "K G R"], noise: Float[Tensor, "K S"]) -> Solved:
    """B signals solved under K priors, where factor has the S_k and noise their s^2."""
    gram = ComponentGram.of(known, factor, noise)
    return Solved(*gram.condition(known.residual.expand(len(factor), -1, -1, -1)))


def changes(factor: Float[Tensor, "K G R"], w: Float[Tensor, "K B R X"]) -> Float[Tensor, "K B G X"]:
    """S_k w.

    Example:
        >>> changes(torch.rand(3, 5, 2), torch.rand(3, 7, 2, 1)).shape
        torch.Size([3, 7, 5, 1])
    """
    return shared_product(factor, w)


def portion(known: Known, factor: Float[Tensor, "K G R"], points: int = 0) -> int:
    """How many priors to work on at a time, where the fields are asked for at a number of points besides."""
    systems, count = known.mask.shape
    r = factor.shape[2]
    values = systems * max(count, points, r) * max(min(count, r), points)
    return max(1, (AT_A_TIME if factor.device.type == "cpu" else AT_A_TIME_ON_A_DEVICE) // max(1, values))
