"""Linear equations over coupled windows against dense least squares, and block Cholesky factors against dense ones."""

from itertools import product

import pytest
import torch

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import grid
from hypersiren.fields.dissection import BlockCholesky
from hypersiren.fields.lattice import lattice_siren
from hypersiren.fields.row_solve import RowSystem, join_rows, linear_rows, set_numbers, solve_rows
from hypersiren.fields.siren import Siren

ONE = torch.complex128


def windows(count, siren, overlap=0.3):
    f = siren._linears()[-1].in_features
    return CompactWindows(siren, count, overlap, counts=(f,) * siren.out_features).double()


def dense(field, x, coefficients):
    """The matrix of the rows, column by column: the jet of the field with one number 1."""
    columns = []
    for t in range(len(field.windows)):
        for f in range(field.counts[0]):
            with torch.no_grad():
                field.coefficients.zero_()
                field.coefficients[t, f] = 1
                jet = field.jet(x, second="diagonal")
            jets = torch.cat([jet.value[:, :1], jet.gradient[:, 0], jet.hessian_diagonal[:, 0]], 1)
            columns.append((coefficients * jets).sum(1))
    return torch.stack(columns, 1)


SIRENS = {"lattice": lambda d, c: lattice_siren(d, c, 7, 3.0), "deep": lambda d, c: Siren(d, c, (8, 7), first_omega=3)}


@pytest.mark.parametrize("kind", SIRENS)
@pytest.mark.parametrize(("count", "complex_"), [((3,), False), ((3, 2), True), ((2, 3), False), ((2, 1, 3), False)])
def test_the_solve_is_dense_least_squares(kind, count, complex_):
    generator = torch.Generator().manual_seed(3)
    d, dtype = len(count), ONE if complex_ else torch.float64
    torch.manual_seed(4)
    field = windows(count, SIRENS[kind](d, 2 if complex_ else 1))
    x = 2.4 * torch.rand(300, d, dtype=torch.float64, generator=generator) - 1.2  # beyond the windows, too
    coefficients = torch.randn(300, 1 + 2 * d, dtype=dtype, generator=generator)
    target = torch.randn(300, 1, dtype=dtype, generator=generator)
    a = dense(field, x, coefficients)
    scale = a.norm(dim=0)
    damping = 1e-3 * torch.eye(a.shape[1], dtype=dtype)
    expected = torch.linalg.lstsq(torch.cat([a / scale, damping]), torch.cat([target, 0 * damping[:, :1]]))[0]
    expected = (expected / scale[:, None]).view(len(field.windows), -1, 1)
    found = RowSystem(field, x, coefficients, ridge=1e-6).solve(target)
    assert torch.allclose(found, expected, rtol=1e-7, atol=1e-9)
    set_numbers(field, found)
    y = field(x)
    y = torch.view_as_complex(y) if complex_ else y[:, 0]
    values = torch.zeros(300, 1 + 2 * d, dtype=torch.float64)
    values[:, 0] = 1
    set_numbers(field, found)
    assert torch.allclose(y, dense(field, x, values).to(dtype) @ found.flatten(), atol=1e-9)


def test_windows_that_are_left_out_stay_zero():
    field = windows((4, 3), lattice_siren(2, 1, 5, 3.0))
    active = torch.zeros(12, dtype=torch.bool)
    active[[0, 1, 4]] = True
    x = grid((20, 20), dtype=torch.float64)
    value = torch.zeros(400, 5, dtype=torch.float64)
    value[:, 0] = 1
    found = RowSystem(field, x, value, active=active).solve(x[:, :1])
    assert (found[~active] == 0).all()
    assert (found[active] != 0).any(1).all()
    with pytest.raises(ValueError, match="expected rows where there are windows"):
        RowSystem(field, x, value, active=torch.zeros(12, dtype=torch.bool))


@pytest.mark.parametrize("count", [(1,), (9,), (4, 5), (2, 9), (3, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, ONE])
def test_block_factors_are_dense_ones(count, dtype):
    generator = torch.Generator().manual_seed(0)
    places = [p for p in product(*map(range, count)) if torch.rand(1, generator=generator) < 0.9 or sum(p) == 0]
    near = [(i, j) for i, p in enumerate(places) for j, q in enumerate(places) if i <= j]
    near = [(i, j) for i, j in near if all(abs(a - b) <= 1 for a, b in zip(places[i], places[j], strict=True))]
    blocks, a = {}, torch.zeros(len(places), 3, len(places), 3, dtype=dtype)
    for i, j in near:
        block = torch.randn(3, 3, dtype=dtype, generator=generator)
        if i == j:
            block = block + block.mH + 40 * torch.eye(3)
        blocks[i, j] = block
        a[i, :, j], a[j, :, i] = block, block.mH
    right = torch.randn(len(places), 3, 2, dtype=dtype, generator=generator)
    expected = torch.linalg.solve(a.view(3 * len(places), -1), right.flatten(0, 1))
    assert torch.allclose(BlockCholesky(places, blocks).solve(right).flatten(0, 1), expected)


def test_a_residual_becomes_rows():
    x = torch.rand(5, 2, dtype=torch.float64)

    def flow(field, x):  # (Re, Im) -> (2 + i x_0) (d_1 y + i d_00 y) - 3 i
        jet = field.jet(x, second="diagonal")
        y = torch.view_as_complex((jet.gradient[..., 1]).contiguous())
        y = y + 1j * torch.view_as_complex(jet.hessian_diagonal[..., 0].contiguous())
        return torch.view_as_real((2 + 1j * x[:, 0]) * y - 3j)

    rows = linear_rows(flow, x, 2, pairs=True)
    factor = 2 + 1j * x[:, 0]
    zero = torch.zeros_like(factor)
    assert torch.allclose(rows.coefficients, torch.stack([zero, zero, factor, 1j * factor, zero], 1))
    assert torch.allclose(rows.target, torch.full((5, 1), 3j, dtype=ONE))
    assert torch.equal(rows.scaled(2.0).target, 2 * rows.target)
    assert len(join_rows([rows, rows]).x) == 10
    for bad in (lambda f, x: f(x) ** 2, lambda f, x: f(x) * torch.tensor([1.0, 2.0]), lambda f, x: f(x).abs()):
        with pytest.raises(ValueError, match="linear in the field"):
            linear_rows(bad, x, 2)


def test_poisson_in_a_square():
    """-lap u = 2 pi² sin sin, with the border alone as data."""
    field = windows((3, 3), lattice_siren(2, 1, 60, 4.0), 0.4)
    x = grid((60, 60), dtype=torch.float64)
    along = grid((60,), dtype=torch.float64).squeeze(1)
    one = torch.ones_like(along)
    border = torch.cat([torch.stack(e, 1) for e in ((along, one), (along, -one), (one, along), (-one, along))])
    truth = lambda x: (torch.pi * x).sin().prod(1, keepdim=True)  # noqa: E731

    def residual(field, x):
        return field.jet(x, second="diagonal").hessian_diagonal.sum(-1) + 2 * torch.pi**2 * truth(x)

    rows = [linear_rows(residual, x, 1), linear_rows(lambda f, x: f(x) - truth(x), border, 1).scaled(5.0)]
    system = solve_rows(field, join_rows(rows))
    assert system.misfit < 1e-3
    assert (field.float()(x.float()) - truth(x)).abs().max() < 1e-3
