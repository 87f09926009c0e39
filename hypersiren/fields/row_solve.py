"""Linear equations for a windowed field, at any points, in closed form: differential equations by least squares.

A row asks for a linear functional of the field's jet at a point x_n,

    a_n y(x_n) + sum_d b_nd d_d y(x_n) + sum_d e_nd d_dd y(x_n) = r_n

With features phi that all windows share, y = sum_t w_t sum_f theta_tf phi_f(xi_t), the row is linear in the numbers
theta of the windows that overlap at x_n. All rows together are least squares, in which neighbouring windows are coupled
where they overlap: the Gram matrix has a block for each window and each pair of neighbours, and is factorised by nested
dissection (`hypersiren.fields.dissection`). Columns are first scaled to norm 1, so that the ridge does not depend on
units; the squares that a Gram matrix takes of small singular values are mended by steps of conjugate gradients with the
rows themselves.

Rows may be complex, for fields with pairs of real channels (Re, Im); all channels, or pairs, have the same rows and
targets of their own.

Relatives: FBPINNs (Moseley et al. 2023) train such fields; random feature methods (Chen et al. 2022) solve for them.

Symbols: T windows, D axes, N rows, F features, S channels or pairs of them, M rows of a window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.dissection import BlockCholesky
from hypersiren.fields.jets import Jet, sine_jet

RIDGE = 1e-12
"""Of the Gram matrix whose columns have norm 1."""

REFINEMENTS = 2
"""Steps of conjugate gradients after the solve."""


@dataclass(frozen=True)
class LinearRows:
    """N linear equations for a field; a row's weight is its size.

    Attributes:
        x: Points.
        coefficients: Of the value, of the gradient and of the Hessian's diagonal, in this order; real or complex.
        target: r, of each channel, or of each pair of channels if complex.
    """

    x: Float[Tensor, "N D"]
    coefficients: Shaped[Tensor, "N J"]
    target: Shaped[Tensor, "N S"]

    def scaled(self, weight: Float[Tensor, " N"] | float) -> "LinearRows":
        """The same equations with other weights."""
        factor = torch.as_tensor(weight, dtype=self.x.dtype, device=self.x.device).reshape(-1, 1)
        return LinearRows(self.x, self.coefficients * factor, self.target * factor)


def join_rows(parts: Sequence[LinearRows]) -> LinearRows:
    """All equations of several sets."""
    names = ("x", "coefficients", "target")
    return LinearRows(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class _Probe:
    """A field that has the same jet everywhere: value, gradient and Hessian's diagonal of each channel, (C, J)."""

    numbers: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.jet(x).value

    def jet(self, x: Tensor, **_: Any) -> Jet:
        d, each = x.shape[-1], self.numbers.expand(len(x), *self.numbers.shape)
        return Jet(each[..., 0], each[..., 1 : 1 + d], hessian_diagonal=each[..., 1 + d :])


def linear_rows(
    residual: Callable[[Any, Tensor], Tensor], x: Float[Tensor, "N D"], channels: int, *, pairs: bool = False
) -> LinearRows:
    """The rows that make a residual zero which is linear in the field's value, gradient and Hessian's diagonal.

    The same function serves gradient steps and the solve: it is asked for the field that is 0, and for those of which
    one number of the jet is 1.

    Args:
        residual: (field, x) -> (N, C), from `field.jet(x, second="diagonal")`.
        x: Points.
        channels: C.
        pairs: Whether channels are pairs (Re, Im), and the residual complex linear in them.

    Raises:
        ValueError: If the residual is not linear, or mixes channels.

    Example:
        >>> def poisson(field, x):  # laplacian y = 4
        ...     return field.jet(x, second="diagonal").hessian_diagonal.sum(-1) - 4
        >>> rows = linear_rows(poisson, torch.zeros(1, 2), 1)
        >>> rows.coefficients.tolist(), rows.target.tolist()
        ([[0.0, 0.0, 0.0, 1.0, 1.0]], [[4.0]])
    """
    d = x.shape[1]

    def ask(number: int | None, scale: float = 1.0) -> Tensor:
        """The residual where one number of the jet, the same of all channels or real parts, is so large."""
        jet = x.new_zeros(channels, 1 + 2 * d)
        if number is not None:
            jet[:: 2 if pairs else 1, number] = scale
        found = residual(_Probe(jet), x)
        return torch.view_as_complex(found.unflatten(-1, (-1, 2)).contiguous()) if pairs else found

    zero = ask(None)
    found = [ask(number) - zero for number in range(1 + 2 * d)]
    coefficients = torch.stack([each[:, 0] for each in found], -1)
    size = coefficients.abs().amax(0).clamp_min(1e-300)
    for number, each in enumerate(found):
        alike = (each - each[:, :1]).abs().max() <= 1e-6 * size[number]
        turned = (ask(number, -2.0) - zero + 2 * each).abs().max() <= 1e-6 * size[number] + 1e-9 * zero.abs().max()
        if not alike or not turned:
            raise ValueError("expected a residual that is linear in the field and treats its channels alike")
    return LinearRows(x, coefficients, -zero)


class RowSystem:
    """Linear equations of a windowed field whose windows share their features, factorised.

    Args:
        field: Windows that share their hidden layers, in double precision if the rows are.
        x, coefficients: See `LinearRows`. Points may lie outside [-1, 1]^D.
        ridge: Of the Gram matrix whose columns have norm 1.
        active: Windows that may be other than 0, (T,); None for all.
        watch: Is called now and then, and may raise to end the solve.

    Raises:
        ValueError: If no window has a row.
    """

    def __init__(
        self,
        field: CompactWindows,
        x: Float[Tensor, "N D"],
        coefficients: Shaped[Tensor, "N J"],
        *,
        ridge: float = RIDGE,
        active: Shaped[Tensor, " T"] | None = None,
        watch: Callable[[], object] = lambda: None,
    ):
        self.field, self.ridge, self.count = field, ridge, len(x)
        self.windows, self.rows, self.blocks = _row_blocks(field, x, coefficients, active)
        if not self.windows:
            raise ValueError("expected rows where there are windows, got none")
        gram = self._gram(watch)
        diagonal = torch.stack([gram[i, i].diagonal().real for i in range(len(self.windows))])
        self.scale = diagonal.clamp_min(1e-30 * float(diagonal.max())).rsqrt()
        for (i, j), block in gram.items():
            block.mul_(self.scale[i].unsqueeze(1) * self.scale[j])
            if i == j:
                block.diagonal().add_(ridge)
        count = field.windows.count
        places = [tuple(int(k) for k in torch.unravel_index(torch.tensor(t), count)) for t in self.windows]
        self.factor = BlockCholesky(places, gram, watch)

    def _gram(self, watch: Callable[[], object]) -> dict[tuple[int, int], Tensor]:
        """A^H A, block by block."""
        where = self.rows[0].new_full((self.count,), -1)
        found, near = {}, _neighbours(self.windows, self.field.windows.count)
        for i, rows in enumerate(self.rows):
            watch()
            a = self.blocks[i]
            found[i, i] = a.mH @ a
            where[rows] = torch.arange(len(rows), device=rows.device)
            for j in near[i]:
                place = where[self.rows[j]]
                both = (place >= 0).nonzero().squeeze(1)
                if len(both):
                    found[i, j] = a[place[both]].mH @ self.blocks[j][both]
            where[rows] = -1
        return found

    def apply(self, theta: Shaped[Tensor, "W F S"]) -> Shaped[Tensor, "N S"]:
        """A S theta: what the rows say of numbers in units of the scaled columns."""
        found = theta.new_zeros(self.count, theta.shape[2])
        for i, rows in enumerate(self.rows):
            found.index_add_(0, rows, self.blocks[i] @ (self.scale[i].unsqueeze(1) * theta[i]))
        return found

    def adjoint(self, values: Shaped[Tensor, "N S"]) -> Shaped[Tensor, "W F S"]:
        """S A^H values."""
        parts = [self.blocks[i].mH @ values[rows] for i, rows in enumerate(self.rows)]
        return torch.stack(parts) * self.scale.unsqueeze(-1)

    def solve(self, target: Shaped[Tensor, "N S"], refinements: int = REFINEMENTS) -> Shaped[Tensor, "T F S"]:
        """The numbers of all windows."""
        right = self.adjoint(target.to(self.blocks[0].dtype))
        theta = torch.zeros_like(right)
        left, way, size = right, torch.zeros_like(right), right.real.new_ones(1, 1, right.shape[2])
        for _ in range(1 + refinements):  # conjugate gradients, preconditioned by the factors
            step = self.factor.solve(left)
            new = (left.conj() * step).real.sum((0, 1), keepdim=True)
            way = step + new / size.clamp_min(1e-300) * way
            size = new
            image = self.adjoint(self.apply(way)) + self.ridge * way
            length = new / (way.conj() * image).real.sum((0, 1), keepdim=True).clamp_min(1e-300)
            theta = theta + length * way
            left = left - length * image
        self.misfit = (self.apply(theta) - target).norm() / target.norm().clamp_min(1e-300)
        found = right.new_zeros(len(self.field.windows), *right.shape[1:])
        found[self.windows] = theta * self.scale.unsqueeze(-1)
        return found


def set_numbers(field: CompactWindows, theta: Shaped[Tensor, "T F S"], windows: slice = slice(None)) -> None:
    """Give a field the numbers of its windows; complex ones for pairs of channels."""
    channels = torch.view_as_real(theta).flatten(-2) if theta.is_complex() else theta
    with torch.no_grad():
        field.coefficients[windows] = channels.mT.flatten(1).to(field.coefficients)


def solve_rows(
    field: CompactWindows, rows: LinearRows, *, ridge: float = RIDGE, watch: Callable[[], object] = lambda: None
) -> RowSystem:
    """Solve a field for linear equations, in place.

    Args:
        field: Windows, with weights for all features in every channel.
        rows: The equations.
        ridge, watch: See `RowSystem`.

    Example:
        >>> from hypersiren.fields.coords import grid
        >>> from hypersiren.fields.lattice import lattice_siren
        >>> field = CompactWindows(lattice_siren(1, 1, 12, period=4.0), (3,), overlap=0.3, counts=(12,))
        >>> x, ends = grid((90,), dtype=torch.float64), torch.tensor([[-1.0], [1.0]]).double()
        >>> row = torch.eye(3).double()  # the value, the gradient, the second derivative
        >>> bent = LinearRows(x, row[2].expand(90, 3), torch.full((90, 1), 2.0).double())
        >>> still = LinearRows(ends, row[0].expand(2, 3), torch.zeros(2, 1).double())
        >>> system = solve_rows(field, join_rows([bent, still]))  # y'' = 2, 0 at the ends: x² - 1
        >>> bool((field(torch.tensor([[0.0], [0.5]])) - torch.tensor([[-1.0], [-0.75]])).abs().max() < 1e-4)
        True
    """
    system = RowSystem(field, rows.x, rows.coefficients, ridge=ridge, watch=watch)
    set_numbers(field, system.solve(rows.target))
    return system


def _neighbours(windows: Sequence[int], count: Sequence[int]) -> list[list[int]]:
    """For each window, by its place in the list, those after it that may overlap with it."""
    places = torch.stack(torch.unravel_index(torch.tensor(windows), tuple(count)), -1)
    found = []
    for i in range(len(windows)):
        near = ((places[i + 1 :] - places[i]).abs() <= 1).all(1).nonzero().squeeze(1)
        found.append((near + i + 1).tolist())
    return found


@torch.no_grad()
def _row_blocks(
    field: CompactWindows, x: Tensor, coefficients: Tensor, active: Tensor | None
) -> tuple[list[int], list[Tensor], list[Tensor]]:
    """Windows that have rows, in ascending order; the rows of each, ascending; and their parts (M, F) of the matrix."""
    d = field.in_features
    index, place, factors = field.windows.locate(x, 2)
    inside = torch.stack([axis[0] for axis in factors]).prod(0) > 0
    if active is not None:
        inside &= active.to(x.device)[index]
    row, corner = inside.nonzero(as_tuple=True)
    window = index[row, corner]
    order = window.argsort(stable=True)
    row, corner = row[order], corner[order]
    windows, counts = window[order].unique_consecutive(return_counts=True)
    weights = [[f[row, corner] for f in axis] for axis in factors]
    place, c = place[row, corner], coefficients[row]

    def weight(*axes: int) -> Tensor:
        found = weights[0][axes.count(0)]
        for axis in range(1, d):
            found = found * weights[axis][axes.count(axis)]
        return found

    # By the product rule, what the features, their first and their second derivatives count for in each row.
    scale = [2 / width for width in field.windows.width]
    w, slopes = weight(), [weight(a) for a in range(d)]
    value = c[:, 0] * w + sum(c[:, 1 + a] * slopes[a] + c[:, 1 + d + a] * weight(a, a) for a in range(d))
    first = [scale[a] * (c[:, 1 + a] * w + 2 * c[:, 1 + d + a] * slopes[a]) for a in range(d)]
    second = [scale[a] ** 2 * c[:, 1 + d + a] * w for a in range(d)]
    taken = torch.stack([value, *first, *second], -1)
    starts = [0, *counts.cumsum(0).tolist()]
    parts = [slice(a, b) for a, b in pairwise(starts)]
    blocks = [_combine(field, place[part], taken[part]) for part in parts]
    return windows.tolist(), [row[part] for part in parts], blocks


def _combine(field: CompactWindows, x: Float[Tensor, "M D"], taken: Shaped[Tensor, "M J"]) -> Shaped[Tensor, "M F"]:
    """Features and their derivatives at local coordinates, each times what it counts for, summed."""
    own = {name: p.to(x) for name, p in field._hidden().items()}
    *sines, _ = field.template.scaled_weights(own)
    d = x.shape[1]
    if len(sines) == 1:  # sin, cos and their multiples: two small products
        w, b = sines[0]
        phase = x @ w.mT + b
        by_sine = torch.cat([torch.ones_like(w[:, :1]), -w.square()], 1).to(taken)
        sine = taken[:, [0, *range(1 + d, 1 + 2 * d)]] @ by_sine.mT
        return phase.sin() * sine + phase.cos() * (taken[:, 1 : 1 + d] @ w.to(taken).mT)
    phi, dphi, d2phi = sine_jet(x, sines, second="diagonal")
    assert dphi is not None and d2phi is not None  # noqa: PT018
    jets = torch.cat([phi.unsqueeze(-1), dphi.movedim(0, -1), d2phi.movedim(0, -1)], -1)
    return (jets.to(taken) * taken.unsqueeze(1)).sum(-1)
