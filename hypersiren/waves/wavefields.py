"""Wavefields of a medium as a function that can be differentiated, for inversions and for tasks of your own.

    A(m) u = -W f        A(m) = L + k² W (e m)        L, W, e as in `helmholtz_solver.CellEquation`

For a loss whose gradient by u is g, the adjoint method (Plessix 2006) solves A^H w = g, with the LU factors of A that
gave u, and finds

    by m: -k² sum over the sources of conj(e u) W^T w        by f: -W^T w

W is real. One factorisation a wavenumber serves all sources, forward and adjoint. All in float64 on the CPU.

Symbols: S sources, R points, n cells along an axis, h their width, k wavenumber, m squared slowness, f source.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Complex, Complex128, Float, Float64, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from hypersiren.errors import UserError
from hypersiren.waves.helmholtz_solver import CellEquation, cell_equation, cell_sources, check_resolution
from hypersiren.waves.pml import PML

NOTHING = 1e-12
"""A source is not solved for where it is less than this part of its peak."""

LAGRANGE = 6
"""Cells along each axis from which a value between them is interpolated: exact for polynomials of degree 5."""


def helmholtz_wavefields(
    squared_slowness: Float[Tensor, "rows n"] | Complex[Tensor, "rows n"],
    sources: Complex[Tensor, "S *cells"],
    wavenumber: float,
    pml: PML = PML(),  # noqa: B008 - frozen
) -> Complex[Tensor, "S *cells"]:
    """The wavefields u of sources f in a medium m: d_0(A d_0 u) + d_1(B d_1 u) + C k² m u = -f, u = 0 on the border.

    Finite differences of fourth order on the cells of `grid((n, n))`, see `hypersiren.waves.helmholtz_solver`. The
    result can be differentiated by m and by f, once. A medium that absorbs is complex, with Im m < 0.

    Args:
        squared_slowness: m = 1 / c² on the cells, relative to the background's.
        sources: f on the cells, such as `hypersiren.waves.wavefields.point_sources`.
        wavenumber: k of the background; coordinates run from -1 to 1.
        pml: The absorbing layer.

    Returns:
        u on the cells, complex128, on the device of m.

    Raises:
        UserError: If m is not finite or its real part not above 0, if shapes do not fit each other, or if the grid has
            fewer than 8 cells to the shortest wavelength.

    Example:
        >>> from hypersiren import grid
        >>> x = grid((48, 48), dtype=torch.float64)
        >>> f = point_sources(48, np.array([[-0.3, 0.1]]), wavenumber=8.0)
        >>> slowness = torch.ones(48, 48, dtype=torch.float64, requires_grad=True)
        >>> u = helmholtz_wavefields(slowness, f, 8.0)
        >>> u.shape
        torch.Size([1, 48, 48])
        >>> u[0, 40, 20].abs().backward()  # by how much does the medium change the wave there?
        >>> slowness.grad.shape
        torch.Size([48, 48])
    """
    n = squared_slowness.shape[-1]
    if squared_slowness.shape != (n, n) or sources.shape[1:] != (n, n):
        shapes = f"{tuple(squared_slowness.shape)} and {tuple(sources.shape)}"
        raise UserError(f"expected a squared slowness (n, n) and sources (S, n, n), got {shapes}")
    real = squared_slowness.detach().real if squared_slowness.is_complex() else squared_slowness.detach()
    least, largest = (value.item() for value in real.aminmax())
    if not (math.isfinite(largest) and least > 0 and squared_slowness.detach().isfinite().all()):
        wrong = least if not least > 0 else math.nan
        raise UserError(f"expected a finite squared slowness above 0 everywhere, got {wrong:g}")
    check_resolution(n, wavenumber, largest)
    return _Wavefields.apply(squared_slowness, sources, cell_equation(n, wavenumber, pml, order=4))


class _Wavefields(torch.autograd.Function):
    """u(m, f) and its adjoint, see above."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, sources: Tensor, equation: CellEquation) -> Tensor:
        f = sources.detach().cpu().to(torch.complex128).numpy()
        slowness = m.detach().cpu()
        wide = slowness.to(torch.complex128 if slowness.is_complex() else torch.float64)
        factors = equation.factorise(wide.numpy())
        u = factors.solve(equation.right_side(f))
        ctx.equation, ctx.factors, ctx.wavefields = equation, factors, u
        ctx.about = (m.dtype, m.device, sources.dtype, sources.device)
        return torch.from_numpy(np.ascontiguousarray(u.T)).view(f.shape).to(m.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        equation, n = ctx.equation, ctx.equation.n
        g = gradient.cpu().to(torch.complex128).numpy().reshape(len(gradient), -1).T
        w = equation.averages.T @ ctx.factors.solve(np.ascontiguousarray(g), trans="H")
        m_type, m_device, f_type, f_device = ctx.about
        by_m: Tensor | None = None
        by_f: Tensor | None = None
        if ctx.needs_input_grad[0]:
            product = (ctx.wavefields.conj() * w).sum(axis=1) * equation.e.conj()
            found = torch.from_numpy(-(equation.wavenumber**2) * product).view(n, n)
            by_m = (found if m_type.is_complex else found.real).to(m_device, m_type)
        if ctx.needs_input_grad[1]:
            by_f = torch.from_numpy(np.ascontiguousarray(-w.T)).view(gradient.shape).to(f_device, f_type)
        return by_m, by_f, None


class Sampling(NamedTuple):
    """Values between cells as weighted sums of those around them; see `sampling`."""

    cells: Int[Tensor, "R 36"]
    weights: Float64[Tensor, "R 36"]

    def __call__(self, wavefields: Complex[Tensor, "S n n"]) -> Complex[Tensor, "R S"]:
        """The wavefields at the points."""
        return (wavefields.flatten(1)[:, self.cells] * self.weights).sum(-1).T

    def to(self, device: torch.device | str) -> "Sampling":
        """The same on a device."""
        return Sampling(self.cells.to(device), self.weights.to(device))

    def within(self, n: int, square: slice) -> "Sampling":
        """The same of wavefields on the cells of a square alone, out of n x n."""
        row, column = self.cells // n - square.start, self.cells % n - square.start
        return Sampling((square.stop - square.start) * row + column, self.weights)


def sampling(n: int, points: Float64[np.ndarray, "R 2"], device: torch.device | str = "cpu") -> Sampling:
    """Sampling of n x n cells at points, by Lagrange's polynomials through 6 x 6 cells.

    Example:
        >>> from hypersiren import grid
        >>> x = grid((20, 20), dtype=torch.float64)
        >>> found = sampling(20, np.array([[0.42, -0.1]]))((x[:, 0] ** 3).view(1, 20, 20) + 0j)
        >>> round(found.item().real, 9)  # 0.42³
        0.074088
    """
    place = (np.asarray(points, dtype=np.float64) + 1) * n / 2 - 0.5  # in cells
    first = np.clip(np.floor(place).astype(int) - LAGRANGE // 2 + 1, 0, n - LAGRANGE)
    nodes = first[..., None] + np.arange(LAGRANGE)  # (R, 2, 6)
    others = ~np.eye(LAGRANGE, dtype=bool)
    apart = np.where(others, (place[..., None, None] - nodes[..., None, :]), 1.0).prod(-1)
    between = np.where(others, nodes[..., :, None] - nodes[..., None, :], 1).prod(-1)
    weights = apart / between
    both = weights[:, 0, :, None] * weights[:, 1, None, :]
    cells = n * nodes[:, 0, :, None] + nodes[:, 1, None, :]
    flat = (torch.from_numpy(each.reshape(len(points), -1)).to(device) for each in (cells, both))
    return Sampling(*flat)


@dataclass(frozen=True)
class InnerWavefields:
    """What is measured in a medium that is known but for some cells: waves are solved for around these alone.

    A square holds the unknown cells, sources and receivers. The cells beyond it are eliminated once, exactly, see
    `CellEquation.within`; a factorisation is then of a small matrix.

    Attributes:
        square: Its cells along each axis.
        equation: In the square.
        sources: f there.
        receivers: Sample wavefields there.
    """

    square: slice
    equation: CellEquation
    sources: Complex128[Tensor, "S b b"]
    receivers: Sampling

    @classmethod
    def around(
        cls,
        unknown: Bool[Tensor, "n n"],
        squared_slowness: Float64[Tensor, "n n"] | Complex128[Tensor, "n n"],
        sources: Complex128[Tensor, "S n n"],
        receivers: Sampling,
        wavenumber: float,
        pml: PML = PML(),  # noqa: B008 - frozen
    ) -> "InnerWavefields":
        """Of the cells that are unknown.

        Args:
            unknown: Cells whose medium may change, on the device of such media.
            squared_slowness: m, where it is known.
            sources: f on the cells.
            receivers: Of n x n cells.
            wavenumber: k.
            pml: The absorbing layer.
        """
        n = len(unknown)
        needed = unknown.cpu() | (sources.abs() > NOTHING * sources.abs().amax((1, 2), keepdim=True)).any(0).cpu()
        along = torch.cat([*needed.nonzero().T, receivers.cells.ravel() // n, receivers.cells.ravel() % n])
        square = slice(max(0, int(along.min()) - 1), min(n, int(along.max()) + 2))
        equation = cell_equation(n, wavenumber, pml, order=4).within(squared_slowness.numpy(), square)
        return cls(square, equation, sources[:, square, square], receivers.within(n, square).to(unknown.device))

    def __call__(self, squared_slowness: Float[Tensor, "n n"] | Complex[Tensor, "n n"]) -> Complex128[Tensor, "R S"]:
        """The wavefields at the receivers, which can be differentiated by m in the unknown cells, once."""
        m = squared_slowness[self.square, self.square]
        return self.receivers(_Wavefields.apply(m, self.sources, self.equation))


def point_sources(
    n: int,
    centres: Float64[np.ndarray, "S 2"],
    wavenumber: float,
    amplitude: complex = 1 + 1j,
    variance: float = 1e-4,
    device: torch.device | str = "cpu",
) -> Complex[Tensor, "S n n"]:
    """Gaussian sources on n x n cells of any width, such that the wavefields are right away from them.

    A Gaussian narrower than a cell is a point source times exp(-k² v / 2) (see `helmholtz_solver`), spread over 6 x 6
    cells; a wider one has its mean on each cell.

    Raises:
        UserError: If a source is not inside [-1, 1]².

    Example:
        >>> f = point_sources(20, np.array([[0.42, -0.1]]), wavenumber=1.0, amplitude=1 + 0j)
        >>> round(f.sum().item().real * 0.1**2, 6)
        0.99995
    """
    wide = cell_sources(n, centres, amplitude, variance)
    if math.sqrt(variance) >= 2 / n:
        return torch.from_numpy(wide).to(device)
    cells, weights = sampling(n, centres)
    strength = amplitude * math.exp(-(wavenumber**2) * variance / 2) * (n / 2) ** 2
    f = torch.zeros(len(centres), n * n, dtype=torch.complex128)
    return f.scatter_add_(1, cells, strength * weights.to(torch.complex128)).view(-1, n, n).to(device)
