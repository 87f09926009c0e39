"""Block Cholesky factors of a matrix that couples each window with its neighbours alone, by nested dissection.

The windows of a grid are divided by a plane of windows, one thick, into two parts that do not touch; each part again,
and so on (George 1973). Parts are eliminated before the planes that divide them. Each step is a dense Cholesky factor
of its own windows, and leaves a dense matrix (Schur complement) of those later windows that it touches, which is added
to the next step (multifrontal elimination, Duff and Reid 1983). n x n windows of F numbers cost some n³ F³ products,
where elimination row by row costs n⁴ F³.

Symbols: T windows, D axes, F numbers of each window, S right-hand sides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Place = tuple[int, ...]
"""Where a window stands in the grid."""

LEAF = 4
"""Windows that are eliminated together without being divided."""


@dataclass(frozen=True)
class _Step:
    """One elimination: its own windows, the later ones that it touches, and its factors."""

    own: list[int]
    later: list[int]
    lower: Tensor  # (own F, own F)
    below: Tensor  # (later F, own F)


@dataclass(frozen=True)
class _Part:
    """Windows in the order of elimination: those of the parts first."""

    own: list[Place]
    parts: "list[_Part]"


class BlockCholesky:
    """Factors of a Hermitian, positive definite matrix of T x T blocks, F x F each.

    Args:
        places: Of the T windows in their grid. Windows are neighbours if they differ by at most 1 along every axis.
        blocks: (i, j) -> (F, F) for i = j and for neighbours i < j; block (j, i) is its conjugate transpose.
        watch: Is called before each step, and may raise.

    Raises:
        torch.linalg.LinAlgError: If the matrix is not positive definite.

    Example:
        >>> a = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> a = a @ a.T + torch.eye(6)
        >>> blocks = {(i, j): a[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for i in range(3) for j in range(i, 3)}
        >>> factor = BlockCholesky([(0, 0), (0, 1), (1, 0)], blocks)
        >>> x = factor.solve(torch.ones(3, 2, 1, dtype=torch.float64))
        >>> torch.allclose(a @ x.flatten(0, 1), torch.ones(6, 1, dtype=torch.float64))
        True
    """

    def __init__(
        self,
        places: Sequence[Place],
        blocks: Mapping[tuple[int, int], Tensor],
        watch: Callable[[], object] = lambda: None,
    ):
        self._watch = watch
        self._index = {place: i for i, place in enumerate(places)}
        self._blocks = blocks
        self._f = len(next(iter(blocks.values())))
        self._rank: dict[int, int] = {}
        self._touched: dict[int, list[int]] = {i: [] for i in range(len(places))}
        for i, j in blocks:
            if i != j:
                self._touched[i].append(j)
                self._touched[j].append(i)
        self.steps: list[_Step] = []
        root = _divide(list(places))
        self._number(root)
        self._eliminate(root)
        del self._blocks, self._watch

    def _number(self, part: _Part) -> None:
        for inner in part.parts:
            self._number(inner)
        for place in part.own:
            self._rank[self._index[place]] = len(self._rank)

    def _eliminate(self, part: _Part) -> tuple[list[int], Tensor | None]:
        """Eliminate a part; the later windows that it touches, and what it leaves of them."""
        left = [self._eliminate(inner) for inner in part.parts]
        self._watch()
        own = [self._index[place] for place in part.own]
        last = self._rank[own[-1]]
        touched = {j for i in own for j in self._touched[i]} | {j for later, _ in left for j in later}
        later = sorted((j for j in touched if self._rank[j] > last), key=self._rank.__getitem__)
        front = self._front(own, later, left)
        del left
        n = len(own) * self._f
        lower = torch.linalg.cholesky(front[:n, :n])
        below = torch.linalg.solve_triangular(lower, front[n:, :n].mH, upper=False).mH.contiguous()
        self.steps.append(_Step(own, later, lower, below))
        return later, front[n:, n:] - below @ below.mH if later else None

    def _front(self, own: list[int], later: list[int], left: list[tuple[list[int], Tensor | None]]) -> Tensor:
        """The lower triangle of the blocks of these windows, with what was left by earlier steps."""
        f, place = self._f, {j: i for i, j in enumerate([*own, *later])}
        one = next(iter(self._blocks.values()))
        front = one.new_zeros(len(place), f, len(place), f)
        for j in own:
            for i in (j, *self._touched[j]):
                if i in place and (place[i] >= place[j]):
                    block = self._blocks[(j, i)].mH if (j, i) in self._blocks else self._blocks[(i, j)]
                    front[place[i], :, place[j]] += block
        for windows, rest in left:
            if rest is None:
                continue
            rest = rest.view(len(windows), f, len(windows), f)
            for a, i in enumerate(windows):
                for b, j in enumerate(windows[: a + 1]):
                    front[place[i], :, place[j]] += rest[a, :, b]
        return front.view(len(place) * f, len(place) * f)

    def solve(self, right: Tensor) -> Tensor:
        """The solution for right-hand sides (T, F, S)."""
        x, f, s = right.clone(), self._f, right.shape[2]
        for step in self.steps:
            y = torch.linalg.solve_triangular(step.lower, x[step.own].reshape(-1, s), upper=False)
            x[step.own] = y.view(-1, f, s)
            if step.later:
                x[step.later] -= (step.below @ y).view(-1, f, s)
        for step in reversed(self.steps):
            y = x[step.own].reshape(-1, s)
            if step.later:
                y = y - step.below.mH @ x[step.later].reshape(-1, s)
            x[step.own] = torch.linalg.solve_triangular(step.lower.mH, y, upper=True).view(-1, f, s)
        return x


def _divide(places: list[Place]) -> _Part:
    """Windows, divided by planes across their longest axis again and again."""
    spans = [max(axis) - min(axis) + 1 for axis in zip(*places, strict=True)]
    longest = max(spans)
    if len(places) <= LEAF or longest < 3:
        return _Part(places, [])
    axis = spans.index(longest)
    ordered = sorted(place[axis] for place in places)
    middle = min(max(ordered[len(ordered) // 2], ordered[0] + 1), ordered[-1] - 1)
    sides = [[p for p in places if p[axis] < middle], [p for p in places if p[axis] > middle]]
    own = [p for p in places if p[axis] == middle]
    parts = [_divide(side) for side in sides if side]
    return _Part(own, parts) if own else _Part(places, [])
