"""The exact wavefield against its own equation, and finite differences against exact and manufactured ones."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hankel2
from torch.func import jacfwd, vmap

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.fields.jets import Jet
from hypersiren.waves.complex_channels import to_complex
from hypersiren.waves.helmholtz_solver import cell_sources, solve_helmholtz, uniform_wavefield
from hypersiren.waves.pml import PML
from hypersiren.waves.residuals import helmholtz_residual


def cells(n):
    return grid((n, n), dtype=torch.float64).numpy().reshape(n, n, 2)


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@settings(max_examples=30, deadline=None)
@given(
    wavenumber=st.floats(2, 30),
    variance=st.floats(1e-4, 1e-2),
    radius=st.floats(0.2, 6),
    angle=st.floats(0, 6.3),
    amplitude=st.complex_numbers(min_magnitude=0.1, max_magnitude=2),
)
def test_the_exact_wavefield_solves_the_equation_inside_and_outside_its_source(
    wavenumber, variance, radius, angle, amplitude
):
    """By differences of fourth order: lap u + k² u = -f."""
    centre, h = np.array([0.1, -0.2]), 0.02 * math.sqrt(variance)
    r = radius * math.sqrt(variance)
    middle = centre + r * np.array([math.cos(angle), math.sin(angle)])
    offsets = h * np.arange(-2, 3)
    lines = [middle + offsets[:, None] * axis for axis in np.eye(2)]
    u = [uniform_wavefield(line, wavenumber, centre.tolist(), amplitude, variance) for line in lines]
    laplacian = sum(line @ np.array([-1, 16, -30, 16, -1]) for line in u) / (12 * h**2)
    f = amplitude * np.exp(-(r**2) / (2 * variance)) / (2 * math.pi * variance)
    scale = abs(amplitude) / (2 * math.pi * variance)
    assert abs(laplacian + wavenumber**2 * u[0][2] + f) <= 1e-5 * scale


def test_a_point_source_is_the_hankel_function_and_goes_out():
    x = np.array([[0.0, 0.5], [0.3, -0.4], [1.0, 1.0]])
    u = uniform_wavefield(x, 20.0, amplitude=1.0, variance=0.0)
    np.testing.assert_allclose(u, -0.25j * hankel2(0, 20 * np.hypot(*x.T)), rtol=1e-12)
    r = np.stack([np.linspace(0.8, 0.9, 200), np.zeros(200)], axis=-1)
    phase = np.unwrap(np.angle(uniform_wavefield(r, 20.0, variance=0.0)))
    assert np.gradient(phase, r[:, 0]).mean() == pytest.approx(-20, rel=1e-2)  # exp(-i k r)


def test_a_gaussian_source_is_many_point_sources():
    axis = np.linspace(-0.07, 0.07, 141)
    y = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(-(y**2).sum(-1) / 2e-4) / (2e-4 * math.pi) * (axis[1] - axis[0]) ** 2
    x = np.array([[0.2, 0.1]])
    expected = [density @ uniform_wavefield(x - y, 20.0, variance=0.0)]
    np.testing.assert_allclose(uniform_wavefield(x, 20.0, variance=1e-4), expected, rtol=1e-6)


def test_the_exact_wavefield_is_smooth_where_the_source_ends_and_in_its_middle():
    x = np.stack([np.array([0.0, 1e-6, 0.09 - 1e-9, 0.09 + 1e-9]), np.zeros(4)], axis=-1)
    u = uniform_wavefield(x, 20.0, variance=1e-4)
    assert np.isfinite(u).all()
    assert abs(u[0] - u[1]) <= 1e-6 * abs(u[0])
    assert abs(u[2] - u[3]) <= 1e-6 * abs(u[2])


def test_finite_differences_converge_to_hankel_at_second_order():
    centre, errors = np.array([[0.15, -0.1]]), []
    for n in (64, 128, 256):
        x = cells(n)
        (found,) = solve_helmholtz(np.ones((n, n)), cell_sources(n, centre), 14.0)
        expected = uniform_wavefield(x, 14.0, centre[0].tolist())
        clear = (np.abs(x) < 0.5).all(-1) & (np.linalg.norm(x - centre[0], axis=-1) > 0.1)
        errors.append(relative(found[clear], expected[clear]))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (np.abs(orders - 2) < 0.2).all(), (errors, orders)
    assert errors[-1] < 3e-3


def test_finite_differences_converge_on_a_manufactured_solution_in_any_medium_and_layer():
    """u vanishes on the border; its source is what the residual of `waves` says."""
    pml, wavenumber, errors = PML(0.6, 2.0), 6.0, []

    def wavefield(x):
        p, q = x.unbind()
        border = (1 - p**2) * (1 - q**2)
        return border * torch.stack([torch.sin(3 * p + q), torch.cos(2 * p * q) + p])

    for n in (32, 64, 128):
        x = torch.from_numpy(cells(n)).reshape(-1, 2)
        second = vmap(jacfwd(jacfwd(wavefield)))(x).diagonal(dim1=-2, dim2=-1)
        jet = Jet(vmap(wavefield)(x), vmap(jacfwd(wavefield))(x), hessian_diagonal=second)
        m = 1.5 + torch.sin(4 * x[:, :1]) * x[:, 1:]
        f = to_complex(-helmholtz_residual(x, jet, wavenumber, m, pml=pml)).numpy().reshape(1, n, n)
        (found,) = solve_helmholtz(m.numpy().reshape(n, n), f, wavenumber, pml)
        errors.append(relative(found.ravel(), to_complex(jet.value)[:, 0].numpy()))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (np.abs(orders - 2) < 0.2).all(), (errors, orders)


def test_one_factorisation_serves_several_sources():
    centres = np.array([[0.0, 0.3], [-0.2, -0.2]])
    m = 1 + 0.3 * np.random.default_rng(0).random((48, 48))
    f = cell_sources(48, centres)
    together = solve_helmholtz(m, f, 8.0)
    for s in range(2):
        np.testing.assert_allclose(together[s], solve_helmholtz(m, f[s : s + 1], 8.0)[0], rtol=1e-10, atol=1e-12)


def test_what_cannot_be_solved_is_refused_in_one_line():
    f = cell_sources(40, np.zeros((1, 2)))
    with pytest.raises(UserError, match=r"wavenumber 20 .* grid of 40 x 40 cells cannot resolve: .* at least 51 x 51"):
        solve_helmholtz(np.ones((40, 40)), f, 20.0)
    solve_helmholtz(np.ones((51, 51)), cell_sources(51, np.zeros((1, 2))), 20.0)
    slow = np.ones((40, 40))
    slow[20, 20] = 4  # half the wavelength
    with pytest.raises(UserError, match="at least 51 x 51"):
        solve_helmholtz(slow, f, 10.0)
    slow[20, 20] = math.nan
    with pytest.raises(UserError, match="expected a finite squared slowness above 0 everywhere, got nan"):
        solve_helmholtz(slow, f, 5.0)
    with pytest.raises(UserError, match=r"expected sources inside \[-1, 1\]², got one at \(0.0, 1.2\)"):
        cell_sources(40, np.array([[0.0, 0.0], [0.0, 1.2]]))
