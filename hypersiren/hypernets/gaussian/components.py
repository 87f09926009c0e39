"""Signals solved under several priors of their last layer at once, as one batch of linear systems.

Under each of K priors N(m, S_k S_k^T) of the last layer, with noise s_k^2 and A_k = phi S_k at the known points, the
conditional mean is m + S_k w_k, see `hypersiren.hypernets.gaussian.posterior`. One product, one factorisation and one
solve serve all signals and priors.

Symbols: B signals, S linear systems of each prior (B, or 1 where all signals are known at the same points), K priors,
N equations, M of them or the columns R, P points, C channels, G features and a constant, X right-hand sides.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from hypersiren.hypernets.gaussian.equations import Known
from hypersiren.hypernets.gaussian.linear_algebra import signals_apart, signals_aside, solve_with_determinant

AT_A_TIME, AT_A_TIME_ON_A_DEVICE = 2**20, 2**28
"""Numbers of the matrices that are worked on at a time: 4 MB, which a processor's cache holds, and 1 GB."""


@dataclass(frozen=True)
class Systems:
    """The linear systems of S sets of known points under K priors.

    Attributes:
        points: A of all cells of a raster and a row of zeros, (K, P + 1, R); or of the equations, (K, S, N, R).
        cells: Which of the raster's rows each system's equations are; that of zeros where there is none.
        mask: Which of the N equations there are.
        noise: s^2.
    """

    points: Float[Tensor, "K *b P R"]
    cells: Int[Tensor, "S N"] | None
    mask: Bool[Tensor, "S N"]
    noise: Float[Tensor, "K S"]

    @classmethod
    def of(cls, known: Known, factor: Float[Tensor, "K G R"], noise: Float[Tensor, "K S"]) -> "Systems":
        """Those of what is known, where factor has the S_k."""
        features, mask = known.features, known.mask
        if known.cells is None:
            return cls(features @ factor.unsqueeze(1) * mask.unsqueeze(-1), None, mask, noise)
        return cls(pad(features, (0, 0, 0, 1)) @ factor, torch.where(mask, known.cells, len(features)), mask, noise)

    @property
    def dual(self) -> bool:
        """Whether they are systems of the N equations, and not of the R columns."""
        return self.mask.shape[1] <= self.points.shape[-1]

    @property
    def rows(self) -> Float[Tensor, "K S N R"]:
        """A."""
        return self.points if self.cells is None else self.points[:, self.cells]

    def transposed(self, y: Float[Tensor, "K B N X"]) -> Float[Tensor, "K B R X"]:
        """A^T y."""
        if self.cells is None:
            return self.points.mT @ y
        index = self.cells.unsqueeze(-1).expand_as(y)
        spread = y.new_zeros(*y.shape[:2], self.points.shape[1], y.shape[-1]).scatter_add(2, index, y)
        return _together(self.points.mT, spread)

    def solve(
        self, right: Float[Tensor, "K B M X"]
    ) -> tuple[Float[Tensor, "K B M X"], Float[Tensor, "K S"], Float[Tensor, "K S M M"]]:
        """The solutions of A A^T + s^2 I (dual) or A^T A + s^2 I, the logarithm of its determinant, and its factor."""
        if self.dual:
            matrix, diagonal = self._gram(), torch.where(self.mask, self.noise.unsqueeze(-1), 1.0)
        else:
            rows = self.rows
            matrix, diagonal = rows.mT @ rows, self.noise.unsqueeze(-1).expand(-1, -1, rows.shape[-1])
        aside = signals_aside(right, self.noise.shape[1])
        solution, logarithm, lower = solve_with_determinant(matrix, aside, diagonal)
        return signals_apart(solution, right.shape[1]), logarithm, lower

    def _gram(self) -> Float[Tensor, "K S N N"]:
        """A A^T: where that is less work and asks for no gradient, as parts of that of all cells."""
        cells, p = self.cells, self.points.shape[-2]
        if cells is None or self.points.requires_grad or p**2 > len(cells) * cells.shape[1] ** 2:
            rows = self.rows
            return rows @ rows.mT
        places = cells.unsqueeze(-1) * p + cells.unsqueeze(-2)
        parts = (self.points @ self.points.mT).flatten(1).index_select(1, places.flatten())
        return parts.unflatten(1, places.shape)


@dataclass(frozen=True)
class Solved:
    """B signals under each of K priors.

    Attributes:
        w: The last layer changes by S_k w.
        evidence: The logarithm of how likely what is known is, up to a constant.
        lower: The systems' Cholesky factors.
        systems: What was solved.
    """

    w: Float[Tensor, "K B R C"]
    evidence: Float[Tensor, "K B"]
    lower: Float[Tensor, "K S M M"]
    systems: Systems

    def variance(self, a: Float[Tensor, "K *b P R"]) -> Float[Tensor, "K S P"]:
        """The variance at points whose features times S_k are a."""
        noise, dual, trained = self.systems.noise, self.systems.dual, torch.is_grad_enabled()
        a = a.reshape(len(a), -1, *a.shape[-2:]).expand(-1, noise.shape[1], -1, -1)
        across = self.systems.rows @ a.mT if dual else a.mT
        if trained:  # by a solve of its own: no gradient goes through the Cholesky factor
            explained = (across * self.systems.solve(across)[0]).sum(-2)
        else:
            explained = torch.linalg.solve_triangular(self.lower, across, upper=False).square().sum(-2)
        return (a.square().sum(-1) - explained).clamp(min=0) if dual else noise.unsqueeze(-1) * explained


def solve_under(known: Known, factor: Float[Tensor, "K G R"], noise: Float[Tensor, "K S"]) -> Solved:
    """What is known of B signals solved under K priors, where factor has the S_k and noise their s^2."""
    systems = Systems.of(known, factor, noise)
    wrong = known.wrong.expand(len(factor), -1, -1, -1)
    right = wrong if systems.dual else systems.transposed(wrong)
    solution, logarithm, lower = systems.solve(right)
    square = (right * solution).sum((-2, -1))
    if systems.dual:
        w = systems.transposed(solution)
    else:
        w, square = solution, (wrong.square().sum((-2, -1)) - square) / noise
        logarithm = logarithm + (systems.mask.sum(1) - factor.shape[-1]) * noise.log()
    return Solved(w, -0.5 * (square + known.wrong.shape[-1] * logarithm), lower, systems)


def changes(factor: Float[Tensor, "K G R"], w: Float[Tensor, "K B R X"]) -> Float[Tensor, "K B G X"]:
    """S_k w.

    Example:
        >>> changes(torch.rand(3, 5, 2), torch.rand(3, 7, 2, 1)).shape
        torch.Size([3, 7, 5, 1])
    """
    return _together(factor, w)


def portion(known: Known, factor: Float[Tensor, "K G R"], points: int = 0) -> int:
    """How many priors to work on at a time, where the fields are asked for at so many points besides."""
    systems, count = known.mask.shape
    r = factor.shape[2]
    values = systems * max(count, points, r) * max(min(count, r), points)
    return max(1, (AT_A_TIME if factor.device.type == "cpu" else AT_A_TIME_ON_A_DEVICE) // values)


def _together(matrices: Float[Tensor, "K G R"], right: Float[Tensor, "K B R X"]) -> Float[Tensor, "K B G X"]:
    """The products with one matrix for all signals of a prior, whose right-hand sides then stand side by side."""
    product = matrices @ rearrange(right, "k b r x -> k r (b x)")
    return rearrange(product, "k g (b x) -> k b g x", x=right.shape[-1])
