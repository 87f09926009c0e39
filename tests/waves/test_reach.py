"""Where a wave can be: never less than where it is, and hardly more."""

import numpy as np
import pytest
import torch

from hypersiren.fields.coords import grid
from hypersiren.waves.media import cell_means, square, uniform
from hypersiren.waves.reach import arrivals, timed, wave_box
from hypersiren.waves.wave_solver import solve_wave
from hypersiren.waves.windowed_wave import active_windows, solve_windowed_wave, wave_windows


def pulse(x, variance):
    return torch.exp(-x.square().sum(-1, keepdim=True) / (2 * variance))


def test_arrivals_in_layers_are_just_before_the_true_ones():
    """Straight through the layers the time is a sum; the wave is in [-0.1, 0.1] at the start."""
    found = arrivals(lambda x: torch.where(x[..., :1] > 0.3, 0.25, 1.0), (0.0, 0.0), 0.1, 1.0)
    x = grid((128, 128), dtype=torch.float64).view(128, 128, 2)
    up, down = x[64:, 64, 0], x[:64, 64, 0].abs()
    true = torch.where(up > 0.3, 0.2 + (up - 0.3) / 2, up - 0.1).clamp_min(0)
    for times, right in ((found.times[64:, 64], true), (found.times[:64, 64], (down - 0.1).clamp_min(0))):
        slack = right.numpy() - times
        assert (slack >= 0).all()
        assert slack.max() < 0.03 + 0.08 * right.max()
    assert not found.times[60:68, 60:68].any()


def test_nothing_of_a_wave_is_where_it_cannot_have_come():
    variance, n, times = 5e-4, 256, [0.0, 0.1, 0.2]
    start = pulse(grid((n, n), dtype=torch.float64), variance).view(n, n).numpy()
    waves = solve_wave(start, cell_means(square, n).rsqrt().numpy(), times)
    found = arrivals(square, (0.0, 0.0), 5 * variance**0.5, 1.0)
    coarse = len(found.times)
    for time, u in zip(times, np.abs(waves), strict=True):
        most = u.reshape(coarse, n // coarse, coarse, n // coarse).max((1, 3))
        still = found.times > time
        assert most[still].max() < 1e-4 * u.max()
        assert (most[~still] > 1e-4 * u.max()).mean() > 0.5  # the slack is small


@pytest.mark.parametrize("medium", [square, uniform])
def test_windows_that_a_wave_cannot_come_to_are_not_missed(medium):
    variance, duration = 5e-3, 0.3
    box = wave_box((0.0, 0.0), variance, 2.0, duration)
    fields, counts = [], []
    for each in (box, timed(box, medium, variance, duration)):
        field = wave_windows(box, 0.35, 0.45, 45, duration, 3)
        solve_windowed_wave(field, each, medium, lambda x: pulse(x, variance))
        fields.append(field)
        counts.append([len(active_windows(field.windows, each, t)) for t in (0.1, 0.3)])
    (all_, same), (first, last) = counts
    assert all_ == same
    assert first < last < 0.8 * all_
    x = grid((40, 40), dtype=torch.float64)
    for t in (0.05, 0.3):
        one, other = (f(torch.cat([torch.full_like(x[:, :1], t), x], 1)) for f in fields)
        assert (one - other).norm() < 3e-3 * one.norm()


def test_a_wave_that_goes_far_is_not_followed():
    box = wave_box((0.0, 0.0), 1e-4, 2.0, 90.0)
    assert timed(box, square, 1e-4, 90.0) is box  # a grid of it would have 5,800 cells along an axis
