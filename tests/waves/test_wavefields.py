"""Wavefields that can be differentiated: against the exact ones, and their adjoint against finite differences."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from hypersiren import Siren
from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.waves.helmholtz_solver import cell_sources, solve_helmholtz, uniform_wavefield
from hypersiren.waves.media import cell_means, square
from hypersiren.waves.pml import PML
from hypersiren.waves.wavefields import InnerWavefields, helmholtz_wavefields, point_sources, sampling

SOURCES = np.array([[-0.3, 0.13], [0.11, -0.27]])
POINTS = np.array([[0.31, 0.4], [-0.22, -0.41], [0.07, 0.02]])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sources(n):
    parts = [torch.randn(2, n, n, dtype=torch.float64, generator=generator(i)) for i in (1, 2)]
    return torch.complex(*parts)


@pytest.mark.parametrize("absorbs", [False, True])
@pytest.mark.parametrize("pml", [PML(), PML(0.3, 20.0)])
def test_the_adjoint_gradient_is_that_of_finite_differences(absorbs, pml):
    """By medium and source, complex media and the layer included."""
    m = 1 + 0.5 * torch.rand(10, 10, dtype=torch.float64, generator=generator())
    if absorbs:
        m = m - 0.2j * torch.rand(10, 10, dtype=torch.float64, generator=generator(5))
    m, f = m.requires_grad_(), sources(10).requires_grad_()
    read = sampling(10, POINTS)
    assert gradcheck(lambda m, f: read(helmholtz_wavefields(m, f, 2.0, pml)), (m, f), atol=1e-9, rtol=1e-5)


@pytest.mark.parametrize("absorbs", [False, True])
@pytest.mark.parametrize(("half", "variance"), [(0.2, 1e-4), (0.2, 2e-3), (0.6, 1e-4), (1.0, 1e-4), (0.2, 1.0)])
def test_waves_around_unknown_cells_are_those_of_all_cells(half, variance, absorbs):
    """Data, and their gradient by the unknown cells, although the others are eliminated once, in another medium."""
    n, k, pml = 40, 6.0, PML(0.4, 8.0)
    x = grid((n, n), dtype=torch.float64)
    unknown = ((x - torch.tensor([0.0, 0.1])).abs().amax(-1) < half).view(n, n)
    known = 1 + 0.3 * torch.rand(n, n, dtype=torch.float64, generator=generator())
    if absorbs:
        known = known - 0.2j * torch.rand(n, n, dtype=torch.float64, generator=generator(5))
    f, read = point_sources(n, SOURCES, k, variance=variance), sampling(n, POINTS)
    inner = InnerWavefields.around(unknown, known, f, read, k, pml)
    assert (inner.equation.n == n) == (half == 1.0 or variance == 1.0)
    change = torch.where(unknown, 0.5 * torch.rand(n, n, dtype=torch.float64, generator=generator(1)), 0.0)
    found = []
    for solve in (inner, lambda m: read(helmholtz_wavefields(m, f, k, pml))):
        m = (known + change).requires_grad_()
        data = solve(m)
        (data - 0.1).abs().square().sum().backward()
        found.append((data.detach(), m.grad[unknown]))
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() < 1e-10 * other.abs().max()


def test_the_gradient_reaches_the_weights_of_a_network():
    """Finite differences along a random direction of all weights of a SIREN, float64."""
    torch.manual_seed(0)
    siren, x = Siren(2, 1, 8, first_omega=5.0).double(), grid((20, 20), dtype=torch.float64)
    f, read = point_sources(20, SOURCES, 4.0), sampling(20, POINTS)

    def loss():
        m = 1 + 0.5 * siren(x).tanh().view(20, 20)
        return read(helmholtz_wavefields(m, f, 4.0)).abs().square().sum()

    loss().backward()
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=generator()) for p in siren.parameters()]
    slope = sum((d * p.grad).sum().item() for d, p in zip(direction, siren.parameters(), strict=True))
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            for d, p in zip(direction, siren.parameters(), strict=True):
                p += sign * 1e-6 * d
            ends.append(loss().item())
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-5)


def test_wavefields_converge_to_hankel_at_fourth_order():
    errors = []
    for n in (32, 64, 128):
        f = point_sources(n, SOURCES[:1], 9.0)
        (found,) = helmholtz_wavefields(torch.ones(n, n, dtype=torch.float64), f, 9.0).numpy()
        x = grid((n, n), dtype=torch.float64).numpy().reshape(n, n, 2)
        expected = uniform_wavefield(x, 9.0, SOURCES[0].tolist())
        clear = (np.abs(x) < 0.5).all(-1) & (np.linalg.norm(x - SOURCES[0], axis=-1) > 0.25)
        errors.append(np.linalg.norm((found - expected)[clear]) / np.linalg.norm(expected[clear]))
    assert errors[1] < errors[0] / 8, errors
    assert errors[2] < 1e-3, errors


def test_wavefields_are_those_of_the_finer_differences_of_second_order():
    data = []
    for n, order in ((60, 4), (200, 2)):
        m = cell_means(square, n)
        if order == 4:
            u = helmholtz_wavefields(m, point_sources(n, SOURCES, 6.0, variance=4e-3), 6.0)
        else:
            u = torch.from_numpy(solve_helmholtz(m.numpy(), cell_sources(n, SOURCES, variance=4e-3), 6.0))
        data.append(sampling(n, POINTS)(u))
    assert (data[0] - data[1]).norm() < 0.01 * data[1].norm()


def test_values_between_cells_are_those_of_a_polynomial():
    x = grid((16, 16), dtype=torch.float64)
    values = (x[:, 0] ** 5 - 2j * x[:, 1] ** 4 * x[:, 0]).view(1, 16, 16)
    points = np.random.default_rng(0).uniform(-0.99, 0.99, (40, 2))
    expected = points[:, 0] ** 5 - 2j * points[:, 1] ** 4 * points[:, 0]
    np.testing.assert_allclose(sampling(16, points)(values)[:, 0], expected, atol=1e-12)


def test_what_cannot_be_solved_is_refused_in_one_line():
    f = sources(20)
    with pytest.raises(UserError, match=r"wavenumber 20 .* 20 x 20 cells cannot resolve: expected at least 51 x 51"):
        helmholtz_wavefields(torch.ones(20, 20), f, 20.0)
    with pytest.raises(
        UserError, match=r"expected a squared slowness \(n, n\) and sources \(S, n, n\), got \(20, 21\)"
    ):
        helmholtz_wavefields(torch.ones(20, 21), f, 2.0)
    for wrong in (math.nan, -1.0):
        m = torch.ones(20, 20)
        m[3, 4] = wrong
        with pytest.raises(UserError, match="expected a finite squared slowness above 0 everywhere"):
            helmholtz_wavefields(m, f, 2.0)
