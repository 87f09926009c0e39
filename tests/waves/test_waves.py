"""Residuals on manufactured solutions in float64: fields whose sources are known by autograd through the formulas."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, jacfwd, vmap

from hypersiren.fields.coords import grid
from hypersiren.fields.jets import Jet
from hypersiren.fields.siren import Siren
from hypersiren.waves.pml import PML
from hypersiren.waves.residuals import (
    gaussian,
    gaussian_sources,
    helmholtz_residual,
    medium_gradient,
    medium_of,
    split_medium,
    wave_residual,
)


def jet_of(function, x):
    """The jet of a function of one point, by autograd."""
    second = vmap(jacfwd(jacfwd(function)))(x)
    diagonal = second.diagonal(dim1=-2, dim2=-1)
    return Jet(vmap(function)(x), vmap(jacfwd(function))(x), hessian_diagonal=diagonal)


def manufactured(x):
    """Two wavefields with no symmetry, as four channels, at one point."""
    p, q = x.unbind()
    first = torch.stack([torch.sin(5 * p + 2 * q) * q, torch.exp(p * q) + p**3])
    return torch.cat([first, torch.stack([torch.cos(7 * p * q), p**2 * q - q**4])])


def squared_slowness(x):
    return 1 + 0.5 * torch.sin(3 * x[..., :1]) * x[..., 1:]


def literal_operator(function, pml, wavenumber):
    """d_0(A d_0 u) + d_1(B d_1 u) + C k² m u of one wavefield at one point, the paper's formula read by autograd."""

    def e(x):
        depth = torch.relu(x.abs() - (1 - pml.width))
        return 1 - 1j * pml.strength * (depth / pml.width) ** 2

    def flux(d):
        def component(x):
            derivative = jacfwd(function)(x)[:, d]
            e0, e1 = e(x).unbind()
            factor = e1 / e0 if d == 0 else e0 / e1
            return torch.view_as_real(factor * torch.complex(*derivative))

        return component

    def operator(x):
        e0, e1 = e(x).unbind()
        oscillation = torch.view_as_real(e0 * e1 * wavenumber**2 * squared_slowness(x)[0] * torch.complex(*function(x)))
        return jacfwd(flux(0))(x)[:, 0] + jacfwd(flux(1))(x)[:, 1] + oscillation

    return operator


@settings(max_examples=20, deadline=None)
@given(width=st.floats(0.2, 0.8), strength=st.floats(0, 6), wavenumber=st.floats(1, 30), seed=st.integers(0, 2**31))
def test_helmholtz_with_its_layer_on_a_manufactured_solution(width, strength, wavenumber, seed):
    pml = PML(width, strength)
    x = 2 * torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1
    parts = [
        vmap(literal_operator(lambda x, s=s: manufactured(x)[2 * s : 2 * s + 2], pml, wavenumber))(x) for s in (0, 1)
    ]
    source = -torch.cat(parts, dim=-1)
    found = helmholtz_residual(x, jet_of(manufactured, x), wavenumber, squared_slowness(x), source, pml)
    assert found.abs().max() <= 1e-8 * max(1.0, source.abs().max().item()) * 0.1
    without = helmholtz_residual(x, jet_of(manufactured, x), wavenumber, squared_slowness(x), pml=pml)
    torch.testing.assert_close(without, -source, rtol=1e-9, atol=1e-9)


def test_a_wave_going_out_through_the_layer_solves_the_equation():
    """exp(-i k X(x_0)) with the complex coordinate dX = e_0 dx_0 is a solution, and it dies in the layer."""
    k, x = 20.0, grid((50, 50), dtype=torch.float64)

    def wave(x):
        depth = torch.relu(x[0] - 0.5)
        phase, decay = -k * x[0], -k * 5 * 0.5 / 3 * (depth / 0.5) ** 3
        return torch.exp(decay) * torch.stack([torch.cos(phase), torch.sin(phase)])

    x = x[x[:, 0] > -0.5]  # it comes from within
    jet = jet_of(wave, x)
    assert helmholtz_residual(x, jet, k).abs().max() <= 1e-8 * k**2
    assert jet.value[x[:, 0] > 0.95].norm(dim=-1).max() < 1e-5


def test_the_wave_equation_on_its_solutions():
    """Plane waves, two speeds; the speed may differ from point to point."""
    x = torch.rand(30, 3, dtype=torch.float64)
    direction = torch.tensor([3.0, 4.0], dtype=torch.float64)
    for c in (1.0, 0.5):
        jet = jet_of(lambda x, c=c: torch.sin(5 * c * x[:1] - x[1:] @ direction), x)
        assert wave_residual(jet, c).abs().max() <= 1e-8
        assert wave_residual(jet, torch.full((30, 1), c).double()).abs().max() <= 1e-8
        assert wave_residual(jet, 2 * c).abs().max() > 1


def test_the_wave_equation_on_a_manufactured_solution():
    x = torch.rand(30, 3, dtype=torch.float64)
    t, p, q = x.T
    velocity = 1 + p.unsqueeze(-1)
    found = wave_residual(jet_of(lambda x: (x[0] ** 3 * x[1] ** 2 * torch.exp(x[2]))[None], x), velocity)
    expected = 6 * t * p**2 * q.exp() - (1 + p) ** 2 * (2 * t**3 * q.exp() + t**3 * p**2 * q.exp())
    torch.testing.assert_close(found, expected.unsqueeze(-1), rtol=0, atol=1e-8)


def test_sources_have_their_strength_and_place():
    centres = torch.tensor([[0.0, 0.25], [-0.5, 0.0]], dtype=torch.float64)
    x = grid((400, 400), dtype=torch.float64)
    f = gaussian_sources(x, centres, amplitude=2 - 1j)
    torch.testing.assert_close(f.sum(0) / 200**2, torch.tensor([2.0, -1.0, 2.0, -1.0]).double())
    for s, centre in enumerate(centres):
        assert (x[f[:, 2 * s].argmax()] - centre).abs().max() <= 1 / 400 + 1e-12
    variance = (gaussian(x, centres[:1], 4e-4) * (x - centres[:1]).square()).sum(0) / 200**2
    torch.testing.assert_close(variance, torch.tensor([4e-4, 4e-4]).double())


def test_the_medium_as_a_channel():
    siren = Siren(2, 5, 16, 1).double()
    x = 2 * torch.rand(200, 2, dtype=torch.float64) - 1
    jet = siren.jet(x, second="diagonal")
    wavefields, m = split_medium(x, jet)
    assert torch.equal(wavefields.value, jet.value[:, :4])
    known = (x.abs() > 0.75).any(-1, keepdim=True)
    assert known.any()
    assert not known.all()
    assert torch.equal(m, torch.where(known, 1.0, (1 + jet.value[:, 4:]).clamp(min=1e-3)))
    (gradient,) = torch.autograd.grad(helmholtz_residual(x, wavefields, 5.0, m).square().sum(), siren.layers[-1].bias)
    assert gradient[4] != 0
    far_down = Jet(jet.value - 100, jet.gradient, hessian_diagonal=jet.hessian_diagonal)
    assert split_medium(x, far_down)[1].min().item() == pytest.approx(1e-3)


def test_the_gradient_of_the_medium_is_that_of_autograd():
    siren = Siren(2, 5, 16, 1).double()
    x = (2 * torch.rand(200, 2, dtype=torch.float64) - 1).requires_grad_()
    siren.layers[-1].bias.data -= siren(x).detach().mean(0) + 1  # m is kept above its least in about half of the places
    m = medium_of(x, siren(x))
    assert (m == 1).any()
    assert 10 < (m < 1.001e-3).sum() < 150
    (wanted,) = torch.autograd.grad(m.sum(), x)
    torch.testing.assert_close(medium_gradient(x, siren.jet(x, second="diagonal")), wanted, rtol=1e-10, atol=1e-10)


def test_a_residual_of_batched_weights_is_that_of_each():
    siren = Siren(2, 2, 8, 1).double()
    params = {n: p * (1 + 0.1 * torch.rand(3, *p.shape).double()) for n, p in siren.named_parameters()}
    x = 2 * torch.rand(10, 2).double() - 1
    m = squared_slowness(x)
    found = helmholtz_residual(x, siren.jet(x, params, second="diagonal"), 5.0, m)
    for i in range(3):
        one = siren.jet(x, {n: p[i] for n, p in params.items()}, second="diagonal")
        torch.testing.assert_close(found[i], helmholtz_residual(x, one, 5.0, m))


def test_the_layer_has_no_say_in_the_gradient_by_coordinates():
    """A residual can be differentiated by its points, for those who move them to where it is large."""
    siren, pml = Siren(2, 2, 8, 1).double(), PML()
    point = torch.tensor([0.8, -0.3], dtype=torch.float64)

    def square(x):
        return helmholtz_residual(x[None], siren.jet(x[None], second="diagonal"), 5.0, pml=pml).square().sum()

    step = 1e-6 * torch.eye(2, dtype=torch.float64)
    expected = torch.stack([(square(point + s) - square(point - s)) / 2e-6 for s in step])
    torch.testing.assert_close(grad(square)(point), expected, rtol=1e-5, atol=1e-4)


def test_jets_without_what_is_needed_are_refused():
    x = torch.rand(4, 2)
    with pytest.raises(ValueError, match="expected a jet with gradient and Hessian's diagonal"):
        helmholtz_residual(x, Siren(2, 2, 8, 1).jet(x, second="laplacian"), 5.0)
    with pytest.raises(ValueError, match=r"expected an even number of channels, two for each wavefield, got 3"):
        helmholtz_residual(x, Siren(2, 3, 8, 1).jet(x, second="diagonal"), 5.0)
    with pytest.raises(ValueError, match="expected a jet with the Hessian's diagonal"):
        wave_residual(Siren(3, 1, 8, 1).jet(torch.rand(4, 3)))


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
def test_compiled_residuals_equal_eager():
    """In a process of its own, without the run-time type checker, which cannot be traced."""
    script = Path(__file__).with_name("compiled_waves.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "agree" in done.stdout
