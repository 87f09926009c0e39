"""Leapfrog against exact solutions: a round pulse (Hankel transform), and pulses that meet a change of speed."""

import math

import numpy as np
import pytest
import torch
from scipy.special import j0

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.waves.wave_solver import solve_wave


def cells(n):
    return grid((n, n), dtype=torch.float64).numpy().reshape(n, n, 2)


def round_pulse(r, time, variance):
    """u(r, t) = int J(k r) cos(k t) v exp(-k² v / 2) k dk, for u(r, 0) = exp(-r² / 2 v) at speed 1."""
    k = np.linspace(0, 10 / math.sqrt(variance), 1500)
    density = np.cos(k * time) * variance * np.exp(-(k**2) * variance / 2) * k * (k[1] - k[0])
    table = np.linspace(0, 1.5, 1500)
    return np.interp(r, table, j0(table[:, None] * k) @ density)


def test_a_round_pulse_converges_at_second_order_in_time():
    """The grid is fine enough for its own error not to show."""
    x, variance, times = cells(160), 4e-3, [0.0, 0.15, 0.4]
    r = np.linalg.norm(x, axis=-1)
    exact = [round_pulse(r, t, variance) for t in times]
    errors = []
    for courant in (0.56, 0.28):
        found = solve_wave(np.exp(-(r**2) / (2 * variance)), 1.0, times, courant)
        errors.append([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, exact, strict=True)])
    assert errors[0][0] < 1e-4
    assert errors[1][2] < 3e-3
    assert 3.5 < errors[0][2] / errors[1][2] < 4.6, errors


def test_time_and_speed_are_one():
    r = np.linalg.norm(cells(80), axis=-1)
    start = np.exp(-(r**2) / 0.02)
    slow, fast = solve_wave(start, 1.0, [0.3]), solve_wave(start, np.full((80, 80), 3.0), [0.1])
    np.testing.assert_allclose(slow, fast, atol=1e-12)


def test_a_plane_pulse_splits_where_the_speed_changes():
    """D'Alembert's two halves; of the one that meets c = 2: 1/3 comes back, 4/3 goes on and is twice as wide."""
    n = 240
    x = cells(n)[..., 0]

    def pulse(z, width):
        return np.exp(-((z / width) ** 2))

    (found,) = solve_wave(pulse(x + 0.5, 0.1), np.where(x > 0, 2.0, 1.0), [0.8])
    middle = found[:, n // 2]  # what the sides do has not come here yet
    x = x[:, 0]
    left = 0.5 * pulse(x + 1.3, 0.1) + 0.5 / 3 * pulse(x + 0.3, 0.1)
    right = 0.5 * 4 / 3 * pulse(x - 0.6, 0.2)
    assert np.abs(middle - np.where(x < 0, left, right)).max() < 0.02


def test_nothing_comes_back_from_the_border():
    """A pulse near the border: the same as on a domain three times as large."""
    x = 3 * cells(180)
    start = np.exp(-((x[..., 0] - 0.5) ** 2 + x[..., 1] ** 2) / 0.01)
    (large,) = solve_wave(start, 1.0, [1.0 / 3])
    inside = np.s_[60:120, 60:120]
    (small,) = solve_wave(start[inside], 1.0, [1.0])
    np.testing.assert_allclose(small, large[inside], atol=1e-8)


@pytest.mark.parametrize("place", [0.98, 0.6])
def test_a_pulse_near_the_border_goes_on_beyond_it(place):
    """The exact round pulse, and of an array, which is cut at the border, no trace of it. Velocities may differ."""
    variance, times, n = 2e-3, [0.0, 0.1, 0.3], 128
    r = np.linalg.norm(cells(n) - [place, 0.0], axis=-1)

    def start(x):
        return np.exp(-((x - [place, 0.0]) ** 2).sum(-1) / (2 * variance))

    found = solve_wave(start, 1.0, times, n=n, reach=place + 8 * math.sqrt(variance) - 1)
    whole = solve_wave(start, 1.0, times, n=n)
    cut = solve_wave(start(cells(n)), 1.0, times)
    for t, u, w, c in zip(times, found, whole, cut, strict=True):
        exact = round_pulse(r, t, variance)
        assert np.linalg.norm(u - exact) < 6e-3 * np.linalg.norm(exact)
        np.testing.assert_allclose(u, w, atol=1e-12)
        assert t == 0 or place < 0.9 or np.linalg.norm(c - exact) > 0.1 * np.linalg.norm(exact)
    with pytest.raises(ValueError, match="expected n"):
        solve_wave(start, 1.0, times)


def test_what_cannot_be_solved_is_refused_in_one_line():
    start = np.zeros((10, 10))
    with pytest.raises(UserError, match=r"expected a Courant number between 0 and 0.612, got 0.7: unstable"):
        solve_wave(start, 1.0, [0.1], courant=0.7)
    velocity = np.ones((10, 10))
    velocity[3, 4] = math.nan
    with pytest.raises(UserError, match="expected finite velocities above 0 everywhere, got nan"):
        solve_wave(start, velocity, [0.1])
    for times in ([], [-0.1], [0.2, 0.1]):
        with pytest.raises(ValueError, match="expected ascending times"):
            solve_wave(start, 1.0, times)
