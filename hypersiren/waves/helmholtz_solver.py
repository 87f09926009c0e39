"""Ground truths of Helmholtz's equation (paper, section 4.3): exact in a uniform medium, finite differences in any.

With waves going out as exp(-i k r), a point source of strength a, -lap u - k² u = a delta, has the solution

    u = -(i/4) a H(k r)        H the Hankel function of the second kind and order 0

A Gaussian source is the point source blurred; by the addition theorem of Bessel functions the blurred solution is

    u(r) = -(i pi/2) a [H(k r) int_0^r J(k s) g(s) s ds + J(k r) int_r^inf H(k s) g(s) s ds]

which beyond the source is the point source's times exp(-k² v / 2), v the variance. All in float64, NumPy and SciPy.

Symbols: N points, S sources, n cells along an axis, h their width, k wavenumber, m squared slowness, f source.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Complex128, Float64, Int

from hypersiren.errors import UserError
from hypersiren.waves.pml import PML

LOG = logging.getLogger(__name__)

POINTS_PER_WAVELENGTH = 8
"""Cells to a wavelength, below which finite differences are refused: the phase is then off by 3 % of the path."""


def uniform_wavefield(
    x: Float64[np.ndarray, "*shape 2"],
    wavenumber: float,
    centre: Sequence[float] = (0.0, 0.0),
    amplitude: complex = 1 + 1j,
    variance: float = 1e-4,
) -> Complex128[np.ndarray, "*shape"]:
    """The exact wavefield of one Gaussian source in the uniform plane, m = 1.

    Args:
        x: Coordinates.
        wavenumber: k.
        centre, amplitude, variance: Of the source; variance 0 is a point source, infinite at its centre.

    Example:
        >>> far = np.array([[0.3, 0.4]])
        >>> point, blurred = (uniform_wavefield(far, 20.0, variance=v) for v in (0.0, 1e-4))
        >>> np.round((blurred / point).real, 6)  # exp(-k² v / 2)
        array([0.980199])
    """
    from scipy.special import hankel2, j0

    r = np.linalg.norm(x - np.asarray(centre, dtype=np.float64), axis=-1)
    with np.errstate(invalid="ignore"):
        u = -0.25j * amplitude * math.exp(-(wavenumber**2) * variance / 2) * hankel2(0, wavenumber * r)
    reach = 9 * math.sqrt(variance)  # where the source is over, to float64's precision
    near = r < reach
    if not near.any():
        return u

    nodes, weights = np.polynomial.legendre.leggauss(120)
    nodes, weights = (nodes + 1) / 2, weights / 2

    def integral(function, lower, upper):
        """Of function(k s) g(s) s over s from lower to upper, by Gauss and Legendre; bounds are arrays."""
        s = lower + (upper - lower) * nodes
        return (function(wavenumber * s) * np.exp(-(s**2) / (2 * variance)) * s) @ weights * (upper - lower)[..., 0]

    close = np.maximum(r[near], 1e-9 * reach)[:, None]  # H is infinite at 0, its integral is not
    inner = integral(j0, 0.0, close)
    outer = integral(lambda z: hankel2(0, z), close, reach)
    total = hankel2(0, wavenumber * close[:, 0]) * inner + j0(wavenumber * close[:, 0]) * outer
    u[near] = -0.5j * math.pi * amplitude * total / (2 * math.pi * variance)
    return u


def cell_sources(
    n: int, centres: Float64[np.ndarray, "S 2"], amplitude: complex = 1 + 1j, variance: float = 1e-4
) -> Complex128[np.ndarray, "S n n"]:
    """Gaussian sources on a grid of n x n cells, the mean over each cell: no width is too narrow for the grid.

    Raises:
        UserError: If a source is not inside [-1, 1]².

    Example:
        >>> f = cell_sources(10, np.zeros((1, 2)), amplitude=3j)
        >>> np.round(f.sum() * 0.2**2, 9)
        np.complex128(3j)
    """
    from scipy.special import ndtr

    outside = ~(np.abs(centres) < 1).all(axis=1)
    if outside.any():
        raise UserError(f"expected sources inside [-1, 1]², got one at {tuple(centres[outside][0].tolist())}")
    h = 2 / n
    edges = -1 + h * np.arange(n + 1)
    mass = np.diff(ndtr((edges - centres[..., None]) / math.sqrt(variance)), axis=-1)  # (S, 2, n)
    return amplitude / h**2 * mass[:, 0, :, None] * mass[:, 1, None, :]


def check_resolution(n: int, wavenumber: float, largest: float = 1.0) -> None:
    """Refuse a grid of n x n cells on [-1, 1]² that is too coarse.

    Args:
        n: Cells along each axis.
        wavenumber: k.
        largest: The largest m.

    Raises:
        UserError: If there are fewer than `POINTS_PER_WAVELENGTH` cells to the shortest wavelength.
    """
    shortest = 2 * math.pi / (wavenumber * math.sqrt(largest))
    if shortest < POINTS_PER_WAVELENGTH * 2 / n:
        needed = math.ceil(2 * POINTS_PER_WAVELENGTH / shortest)
        raise UserError(
            f"wavenumber {wavenumber:g} has a shortest wavelength of {shortest:.3g}, which a grid of {n} x {n} cells "
            f"cannot resolve: expected at least {needed} x {needed}"
        )


def solve_helmholtz(
    squared_slowness: Float64[np.ndarray, "n n"],
    sources: Complex128[np.ndarray, "S n n"],
    wavenumber: float,
    pml: PML = PML(),  # noqa: B008  (frozen)
) -> Complex128[np.ndarray, "S n n"]:
    """Wavefields on the cells of `coords.grid((n, n))` by finite differences of second order, u = 0 on the border.

    The equation of `pml` in conservative form, A and B taken on the cells' faces; one sparse LU factorisation serves
    all sources.

    Args:
        squared_slowness: m on the cells.
        sources: f on the cells, e.g. `cell_sources`.
        wavenumber: k.
        pml: The layer.

    Raises:
        UserError: If m is not finite and positive, or the grid has fewer than 8 cells to the shortest wavelength.

    Example:
        >>> u = solve_helmholtz(np.ones((64, 64)), cell_sources(64, np.zeros((1, 2))), wavenumber=10.0)
        >>> u.shape
        (1, 64, 64)
    """
    n = len(squared_slowness)
    possible = np.isfinite(squared_slowness) & (squared_slowness > 0)
    if not possible.all():
        wrong = squared_slowness[~possible][0]
        raise UserError(f"expected a finite squared slowness above 0 everywhere, got {wrong:g}")
    check_resolution(n, wavenumber, squared_slowness.max())
    LOG.debug("solving Helmholtz's equation by finite differences on %d x %d cells", n, n)
    equation = cell_equation(n, wavenumber, pml)
    u = equation.factorise(squared_slowness).solve(equation.right_side(sources))
    return u.T.reshape(sources.shape)


@dataclass(frozen=True)
class CellEquation:
    """Helmholtz's equation on n x n cells, L u + k² W (e m u) = -W f, for any m. See `cell_equation`.

    Attributes:
        n: Cells along each axis.
        wavenumber: k.
        e: e_0 e_1 of the layer on the cells, in one row.
        differences: L, (n², n²), compressed by columns; its entries are those of `averages`.
        averages: W, likewise.
        columns: Of each entry.
    """

    n: int
    wavenumber: float
    e: Complex128[np.ndarray, " cells"]
    differences: Any
    averages: Any
    columns: Int[np.ndarray, " entries"]

    def matrix(self, squared_slowness: Float64[np.ndarray, "n n"] | Complex128[np.ndarray, "n n"]) -> Any:
        """L + k² W e m, compressed by columns."""
        from scipy.sparse import csc_array

        mass = self.wavenumber**2 * squared_slowness.ravel() * self.e
        entries = self.differences.data + self.averages.data * mass[self.columns]
        return csc_array((entries, self.averages.indices, self.averages.indptr), shape=self.averages.shape)

    def factorise(self, squared_slowness: Float64[np.ndarray, "n n"] | Complex128[np.ndarray, "n n"]) -> Any:
        """The sparse LU factors of L + k² W e m: `solve(b)` and, of the adjoint, `solve(b, trans="H")`."""
        return _factors(self.matrix(squared_slowness))

    def within(
        self, squared_slowness: Float64[np.ndarray, "n n"] | Complex128[np.ndarray, "n n"], square: slice
    ) -> "CellEquation":
        """The equation on the cells of a square, `square` along each axis, in a medium that is known beyond it.

        With A = L + k² W e m, I the cells of the square and O the others, u on I is the same as on all cells:

            (A_II - A_IO A_OO^-1 A_OI) u_I = -W_II f_I

        if m changes, and f is not 0, only in cells of the square that have no neighbour beyond it. Schur's complement
        is dense between the cells along the square's border, and is found once.

        Args:
            squared_slowness: m on all cells; in the square any.
            square: Its first cell, and the one after its last.

        Example:
            >>> m, f = np.ones((32, 32)), np.zeros((1, 32, 32), dtype=complex)
            >>> m[12:20, 12:20], f[0, 15, 13] = 2.0, 1.0
            >>> whole, part = cell_equation(32, 5.0), slice(10, 22)
            >>> inner = whole.within(np.ones((32, 32)), part)
            >>> u = inner.factorise(m[part, part]).solve(inner.right_side(f[:, part, part]))
            >>> expected = whole.factorise(m).solve(whole.right_side(f)).reshape(32, 32)[part, part]
            >>> bool(np.allclose(u.reshape(12, 12), expected, rtol=0, atol=1e-12 * abs(expected).max()))
            True
        """
        from scipy.sparse import csc_array

        cells = np.arange(self.n**2).reshape(self.n, self.n)
        inside = cells[square, square].ravel()
        outside = np.setdiff1d(cells, inside)
        if not len(outside):
            return self
        matrix = self.matrix(squared_slowness)
        into, out = matrix[inside][:, outside].tocsr(), matrix[outside][:, inside].tocsc()
        border = np.flatnonzero(np.diff(out.indptr))
        factors = _factors(matrix[outside][:, outside].tocsc())
        parts = np.array_split(border, math.ceil(len(border) / 64))  # else right sides fill the memory
        complement = np.hstack([into[border] @ factors.solve(out[:, part].toarray()) for part in parts])
        rows, columns = (index.ravel() for index in np.meshgrid(border, border, indexing="ij"))

        def with_border(whole: Any, values: np.ndarray) -> Any:
            part = whole[inside][:, inside].tocoo()
            place = (np.concatenate([part.row, rows]), np.concatenate([part.col, columns]))
            found = csc_array((np.concatenate([part.data, values]), place), shape=part.shape)
            found.sum_duplicates()  # or SciPy 1.13 does it to the arrays that all factorisations share
            return found

        differences = with_border(self.differences, -complement.ravel())
        averages = with_border(self.averages, np.zeros(len(rows)))  # entries in the same places
        along = np.repeat(np.arange(len(inside)), np.diff(averages.indptr))
        return replace(
            self, n=len(cells[square]), e=self.e[inside], differences=differences, averages=averages, columns=along
        )

    def right_side(self, sources: Complex128[np.ndarray, "S n n"]) -> Complex128[np.ndarray, "cells S"]:
        """-W f, as `solve` wants it."""
        return -(self.averages @ sources.reshape(len(sources), -1).T)


def _factors(matrix: Any) -> Any:
    from scipy.sparse.linalg import splu

    return splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})


@lru_cache(maxsize=32)
def cell_equation(n: int, wavenumber: float, pml: PML = PML(), order: Literal[2, 4] = 2) -> CellEquation:  # noqa: B008
    """The equation of `pml` in conservative form, A and B taken on the cells' faces, u = 0 on the border.

    Of second order each cell has 5 neighbours, itself included. Of fourth order, in the open square where m is smooth,
    it has 9: the mean (1, 10, 1) / 12 along an axis makes the difference (1, -2, 1) along it exact to h⁴ (Numerov), so
    d_00 u + d_11 u + k² m u = -f becomes (D ⊗ M + M ⊗ D) u + k² (M ⊗ M) (m u) = -(M ⊗ M) f.

    Args:
        n: Cells along each axis of [-1, 1]².
        wavenumber: k.
        pml: The layer.
        order: Of the differences.
    """
    from scipy.sparse import csc_array

    h = 2 / n
    centres, faces = -1 + h * (np.arange(n) + 0.5), -1 + h * np.arange(n + 1)
    e_centre, e_face = (1 - 1j * pml.absorption(torch.from_numpy(x)).numpy() for x in (centres, faces))
    flux = 1 / (e_face * h**2)
    flux[[0, -1]] *= 2  # u = 0 lies half a cell away
    side = 1 / 12 if order == 4 else 0.0
    # What a cell along an axis takes of the one before it, of itself and of the one after it.
    second = np.stack([flux[:-1], -(flux[:-1] + flux[1:]), flux[1:]])
    mean = np.array([side, 1 - 2 * side, side])[:, None] * np.ones(n)
    weighted = mean * np.stack([np.roll(e_centre, 1), e_centre, np.roll(e_centre, -1)])
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    entries: list[tuple[np.ndarray, ...]] = []
    for p, q in product((-1, 0, 1), repeat=2):
        if p and q and not side:
            continue
        inside = (i + p >= 0) & (i + p < n) & (j + q >= 0) & (j + q < n)
        r, c = i[inside], j[inside]
        difference = second[1 + p, r] * weighted[1 + q, c] + weighted[1 + p, r] * second[1 + q, c]
        average = mean[1 + p, r] * mean[1 + q, c]
        entries.append((difference, average, n * r + c, n * (r + p) + c + q))
    differences, averages, rows, columns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    place, shape = (rows, columns), (n * n, n * n)
    laplacian, mass = (csc_array((values, place), shape=shape) for values in (differences, averages))
    for matrix in (laplacian, mass):
        matrix.sum_duplicates()  # which sorts; or SciPy 1.13 does it to the arrays that all factorisations share
    along = np.repeat(np.arange(n * n), np.diff(mass.indptr))
    return CellEquation(n, wavenumber, (e_centre[:, None] * e_centre[None, :]).ravel(), laplacian, mass, along)


def sample_wavefields(
    wavefields: Complex128[np.ndarray, "S n n"], points: Float64[np.ndarray, "R 2"]
) -> Complex128[np.ndarray, "R S"]:
    """Wavefields on the cells of `coords.grid((n, n))` at any points, by cubic splines.

    Example:
        >>> squares = np.linspace(-0.9, 0.9, 10)[:, None] ** 2 + 0j * np.ones(10)
        >>> np.round(sample_wavefields(squares[None], np.array([[0.42, 0.1]])), 9)  # 0.42²
        array([[0.1764+0.j]])
    """
    from scipy.interpolate import RectBivariateSpline

    n = wavefields.shape[-1]
    axis = -1 + (2 * np.arange(n) + 1) / n

    def sample(part: np.ndarray) -> np.ndarray:
        return np.stack([RectBivariateSpline(axis, axis, u).ev(*points.T) for u in part], axis=-1)

    return sample(wavefields.real) + 1j * sample(wavefields.imag)
