"""The near field against SciPy, autograd and the equations it is made for, in float64 and float32."""

import math

import pytest
import torch
from scipy.special import exp1
from torch.func import jacfwd, vmap

from hypersiren.fields.coords import grid
from hypersiren.fields.siren import Siren
from hypersiren.waves.helmholtz_solver import uniform_wavefield
from hypersiren.waves.near_field import WithNearField, near_field
from hypersiren.waves.pml import PML
from hypersiren.waves.residuals import gaussian_sources, helmholtz_residual

CENTRES = torch.tensor([[0.05, 0.02], [-0.2, 0.1]], dtype=torch.float64)


def around(count, radius, dtype=torch.float64):
    """Points around the first source."""
    x = 2 * torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    return (CENTRES[0] + radius * x).to(dtype)


@pytest.mark.parametrize("variance", [1e-4, 1e-3])
def test_values_are_the_formula_and_end_at_the_radius(variance):
    x = around(200, 0.2)
    found = near_field(x, CENTRES, 2 - 1j, variance, 0.15).value
    for s, centre in enumerate(CENTRES):
        r = (x - centre).norm(dim=-1)
        p = -(torch.log(r / 0.15) + torch.from_numpy(exp1((r**2 / (2 * variance)).numpy())) / 2) / (2 * math.pi)
        expected = p * (1 - (r / 0.15) ** 2).clamp(min=0) ** 4
        torch.testing.assert_close(found[:, 2 * s], 2 * expected)
        torch.testing.assert_close(found[:, 2 * s + 1], -expected)
    assert (found[:, 0] == 0).any()


def test_derivatives_are_those_of_autograd():
    x = around(200, 0.2)

    def value(point):
        return near_field(point.unsqueeze(0), CENTRES, 1 - 2j, 1e-3, 0.15).value.squeeze(0)

    jet = near_field(x, CENTRES, 1 - 2j, 1e-3, 0.15)
    first, second = vmap(jacfwd(value))(x), vmap(jacfwd(jacfwd(value)))(x).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(jet.gradient, first, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(jet.hessian_diagonal, second, rtol=1e-8, atol=1e-8 * second.abs().max().item())


def test_the_source_is_gone():
    """What the residual still asks for is smooth and small beside it."""
    x, centres = around(5000, 0.3), CENTRES[:1]
    f = gaussian_sources(x, centres)
    jet = near_field(x, centres, 1 + 1j, 1e-4, 0.3)
    left = helmholtz_residual(x, jet, 20.0, source=f).abs()
    assert left.max() < f.max() / 10


def test_without_the_window_it_is_poissons_solution():
    x, centres = around(500, 0.3), CENTRES[:1]
    f = gaussian_sources(x, centres)
    wide = near_field(x, centres, 1 + 1j, 1e-4, radius=1e4)
    assert helmholtz_residual(x, wide, 0.0, source=f).abs().max() < 1e-6 * f.max()


@pytest.mark.parametrize("k", [5.0, 20.0, 80.0])
@pytest.mark.parametrize("variance", [1e-4, 1e-3])
def test_the_whole_peak_satisfies_helmholtz_equation(k, variance):
    """In and beyond the source, and across the border between series and Bessel functions."""
    x, centres = around(500, 0.6), CENTRES[:1]
    f = gaussian_sources(x, centres, variance=variance)
    wide = near_field(x, centres, 1 + 1j, variance, 1e6, kappa=k**2)
    assert helmholtz_residual(x, wide, k, source=f, pml=PML(strength=0.0)).abs().max() < 1e-8 * f.max()


def test_the_jet_of_the_whole_near_field():
    x = around(60, 0.3)

    def value(x):
        return near_field(x, CENTRES, 1 - 2j, 1e-3, 0.25, False, kappa=400.0).value

    jet, step = near_field(x, CENTRES, 1 - 2j, 1e-3, 0.25, kappa=400.0), 1e-4
    for d, e in enumerate(step * torch.eye(2, dtype=torch.float64)):
        slope, bend = (value(x + e) - value(x - e)) / (2 * step), (value(x + e) + value(x - e) - 2 * value(x)) / step**2
        assert (slope - jet.gradient[..., d]).abs().max() < 1e-5 * jet.gradient.abs().max()
        assert (bend - jet.hessian_diagonal[..., d]).abs().max() < 1e-4 * jet.hessian_diagonal.abs().max()
    assert torch.equal(value(x), jet.value)


def test_the_rest_of_the_exact_wavefield_has_no_peak():
    x, h = grid((101, 101), -0.05, 0.05, dtype=torch.float64), 0.1 / 101
    exact = torch.view_as_real(torch.from_numpy(uniform_wavefield(x.numpy(), 20.0)))
    rest = exact - near_field(x, torch.zeros(1, 2).double(), 1 + 1j, 1e-4, 0.3).value

    def curvature(u):
        return u.reshape(101, 101, 2).diff(n=2, dim=0).abs().max() / h**2

    assert curvature(rest) < curvature(exact) / 10


def test_single_precision_is_enough_everywhere():
    for variance in (1e-4, 1e-2):
        x = torch.cat([around(2000, 0.1), around(2000, 1e-4), CENTRES])
        exact = near_field(x, CENTRES, 1 + 1j, variance, 0.3)
        found = near_field(x.float(), CENTRES.float(), 1 + 1j, variance, 0.3)
        for name in ("value", "gradient", "hessian_diagonal"):
            a, b = getattr(found, name), getattr(exact, name)
            assert (a - b).abs().max() <= 1e-4 * b.abs().max(), (variance, name)


@pytest.mark.parametrize("others", [0, 1])
def test_a_field_with_it_leaves_other_channels_alone(others):
    siren = Siren(2, 4 + others, 8, 1).double()
    field, x = WithNearField(siren, CENTRES, 2 - 1j, 1e-3, 0.15), around(30, 0.2)
    near, jet, found = near_field(x, CENTRES, 2 - 1j, 1e-3, 0.15), siren.jet(x, second="diagonal"), field.jet(x)
    torch.testing.assert_close(field(x), found.value)
    for name in ("value", "gradient", "hessian_diagonal"):
        torch.testing.assert_close(getattr(found, name)[:, :4], getattr(jet, name)[:, :4] + getattr(near, name))
        assert torch.equal(getattr(found, name)[:, 4:], getattr(jet, name)[:, 4:])
