"""The wave equation over windows against exact waves, leapfrog, and dense matrices that are made point by point."""

import math

import numpy as np
import pytest
import torch

from hypersiren.fields.coords import grid
from hypersiren.fields.lattice import lattice_siren
from hypersiren.fields.windowed_siren import WindowedSiren
from hypersiren.waves.media import cell_means, uniform
from hypersiren.waves.reach import wave_box
from hypersiren.waves.wave_solver import solve_wave, uniform_wave
from hypersiren.waves.windowed_wave import (
    FREQUENCIES,
    PERIOD,
    WaveSystem,
    solve_windowed_wave,
    time_frequencies,
    wave_windows,
    window_counts,
)

VARIANCE = 0.01


def solved(medium=uniform, source=(0.0, 0.0), fastest=1.0, duration=0.3, width=0.7, slabs=1, features=33):
    box = wave_box(source, VARIANCE, fastest, duration)
    field = wave_windows(box, width, 0.45, features, duration, slabs)
    solve_windowed_wave(field, box, medium, pulse(source))
    return field


def pulse(source):
    def start(x):
        return torch.exp(-(x - torch.tensor(source).to(x)).square().sum(-1, keepdim=True) / (2 * VARIANCE))

    return start


def frame(field, time, n=40):
    x = grid((n, n), dtype=torch.float64)
    return field(torch.cat([torch.full_like(x[:, :1], time), x], 1)).view(n, n)


def off(found, right):
    return ((found - right).norm() / right.norm()).item()


def test_a_round_pulse_and_the_error_falls_with_windows():
    r = grid((40, 40), dtype=torch.float64).norm(dim=1).numpy()
    right = torch.from_numpy(uniform_wave(r, [0.0, 0.15, 0.3], VARIANCE)).view(3, 40, 40)
    errors = []
    for width, slabs in ((0.9, 1), (0.7, 2), (0.5, 2)):
        field = solved(width=width, slabs=slabs)
        errors.append(max(off(frame(field, t), exact) for t, exact in zip((0.0, 0.15, 0.3), right, strict=True)))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 2e-3


def test_the_jet_is_a_wave():
    field = solved(width=0.5, slabs=2)
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3
    jet = field.jet(x, second="diagonal")
    acceleration, around = jet.hessian_diagonal[:, 0, 0], jet.hessian_diagonal[:, 0, 1:].sum(-1)
    assert off(acceleration, around) < 0.05
    still = field.jet(x * torch.tensor([0.0, 1, 1]), first=True)
    assert still.gradient[:, 0, 0].abs().max() < 0.02 * jet.gradient[:, 0, 0].abs().max()


@pytest.mark.parametrize("source", [(0.0, 0.2), (0.9, -0.3)])
def test_where_the_speed_jumps_and_at_the_border(source):
    """Against leapfrog. What leaves [-1, 1]² does not come back from where the windows end."""

    def medium(x):
        return torch.where(x[..., :1] < -0.1, 0.25, 1.0)

    field = solved(medium, source, fastest=2.0, duration=0.4, width=0.5, slabs=2, features=45)
    n = 160

    def start(x):
        return pulse(source)(torch.from_numpy(x)).squeeze(-1).numpy()

    velocity = cell_means(medium, n).rsqrt().numpy()
    right = solve_wave(start, velocity, [0.0, 0.4], 0.25, n=n, reach=1.0)[1]
    right = torch.from_numpy(right).unflatten(0, (40, 4)).unflatten(2, (40, 4))[:, 1:3, :, 1:3].mean((1, 3))
    assert off(frame(field, 0.4), right) < 0.02


def test_a_pulse_that_is_wider_than_the_square():
    variance, times = 0.3, [0.0, 0.5, 1.0]
    box = wave_box((0.2, 0.0), variance, 1.0, 1.0)
    field = wave_windows(box, 4.0, 0.45, 65, 1.0, 1)
    solve_windowed_wave(
        field, box, uniform, lambda x: torch.exp(-((x[:, :1] - 0.2).square() + x[:, 1:].square()) / (2 * variance))
    )
    r = (grid((40, 40), dtype=torch.float64) - torch.tensor([0.2, 0.0])).norm(dim=1).numpy()
    exact = torch.from_numpy(uniform_wave(r, times, variance)).view(3, 40, 40)
    assert max(off(frame(field, t), each) for t, each in zip(times, exact, strict=True)) < 2e-3


def test_nothing_is_where_the_wave_cannot_be():
    field = solved(source=(0.6, 0.6), duration=0.1, width=0.5)
    far = torch.tensor([[0.1, -0.9, -0.9], [0.05, -1.0, 1.0], [0.1, 5.0, 5.0]], dtype=torch.float64)
    assert not field(far).any()
    box = wave_box((0.9, 0.0), VARIANCE, 1.0, 0.3)
    assert box.high[0] == 1.3  # what is outside at the start, and beyond this, does not come in time
    assert box.low == (pytest.approx(0.1), pytest.approx(-0.8))
    assert window_counts(box, 0.5, 0.45) == [8, 9]


def test_matrices_and_their_function_against_dense_ones():
    """M and K from a fine regular grid of points of the field's own features; the exponential from eigenvectors."""

    def medium(x):
        return 1 + 0.3 * torch.sin(3 * x[..., :1]) * x[..., 1:]

    box = wave_box((0.0, 0.0), 0.0005, 1.0, 0.05)
    field = wave_windows(box, 0.3, 0.4, 9, 0.05, 1)
    system = WaveSystem(field, box, medium, ridge=1e-9)
    windows = field.windows
    space = WindowedSiren(
        lattice_siren(2, 1, 9, PERIOD), windows.count[1:], 0.4, windows.upper[1:], lower=windows.lower[1:]
    ).double()
    w, f, n = len(system.places), 9, 120
    axes = [torch.linspace(low, high, n + 1, dtype=torch.float64)[:-1] + (high - low) / (2 * n) for low, high in
            zip(windows.lower[1:], windows.upper[1:], strict=True)]  # fmt: skip
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)
    area = math.prod(axis[1] - axis[0] for axis in axes)
    values, slopes = torch.zeros(len(x), w, f).double(), torch.zeros(len(x), w, f, 2).double()
    name = space.owned[0]
    for i, (a, b) in enumerate(system.places):
        for j in range(f):
            last = torch.zeros(space.shapes[name], dtype=torch.float64)
            last[a * windows.count[2] + b, 0, j] = 1
            jet = space.jet(x, {name: last, space.owned[1]: torch.zeros(space.shapes[space.owned[1]]).double()})
            values[:, i, j], slopes[:, i, j] = jet.value[:, 0], jet.gradient[:, 0]
    flat, sloped = values.flatten(1), slopes.flatten(1, 2)
    mass = area * (flat * medium(x)).mT @ flat
    stiff = area * torch.einsum("nid,njd->ij", sloped, sloped)
    scale = system.scale.flatten()
    theta = torch.randn(w, f, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    dense = scale * (stiff @ (scale * theta.flatten()))
    assert off(system.stiffness(theta).flatten(), dense) < 2e-3
    scaled = scale.unsqueeze(1) * mass * scale
    assert (scaled.diagonal() - 1).abs().max() < 2e-3
    back = (scaled @ system.factor.solve(theta).flatten()).view_as(theta)
    assert off(back, theta) < 0.05
    # The function of the system's own matrices, whole.
    identity = torch.eye(w * f, dtype=torch.float64).view(w, f, -1)
    stiff, inverse = system.stiffness(identity).flatten(0, 1), system.factor.solve(identity).flatten(0, 1)
    lower = torch.linalg.cholesky((inverse + inverse.mT) / 2)
    size, vectors = torch.linalg.eigh(lower.mT @ stiff @ lower)
    assert system.bound > size[-1]
    root, way = size.clamp_min(0).sqrt(), lower @ vectors
    back = torch.linalg.inv(way)
    value, rate = system.project(medium, pulse((0.0, 0.0))), torch.ones(w, f, dtype=torch.float64)
    times = torch.tensor([0.0, 0.03, 0.05], dtype=torch.float64)
    found = system.advance(value, rate, times, torch.eye(3, dtype=torch.complex128)).real
    for t, numbers in zip(times, found, strict=True):
        both = [(each / system.scale).flatten() for each in (value, rate)]
        turned = way @ (torch.cos(root * t) * (back @ both[0]) + t * torch.sinc(root * t / math.pi) * (back @ both[1]))
        assert off((numbers / system.scale).flatten(), turned) < 1e-6


def test_frequencies_in_time_hold_what_turns_slowly():
    t = torch.linspace(-1, 1, 100, dtype=torch.float64)
    waves = torch.exp(1j * t.unsqueeze(1) * time_frequencies())
    assert waves.shape[1] == FREQUENCIES
    for turn in (0.3, 2.0, 5.5):
        wanted = torch.exp(1j * turn * t)
        found = waves @ (torch.linalg.pinv(waves, rtol=1e-7) @ wanted)
        assert (found - wanted).abs().max() < 5e-4


def test_the_exact_wave_is_leapfrogs():
    n = 120
    r = np.linalg.norm(grid((n, n), dtype=torch.float64).numpy().reshape(n, n, 2), axis=-1)
    exact = uniform_wave(r.ravel(), [0.0, 0.3], VARIANCE).reshape(2, n, n)
    np.testing.assert_allclose(exact[0], np.exp(-(r**2) / (2 * VARIANCE)), atol=1e-6)
    found = solve_wave(np.exp(-(r**2) / (2 * VARIANCE)), 1.0, [0.0, 0.3], 0.1)
    assert np.linalg.norm(found[1] - exact[1]) < 2e-3 * np.linalg.norm(exact[1])
