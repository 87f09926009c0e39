"""Windows solved from a raster against least squares window by window; the numbers that channels get; lattices."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from hypersiren.fields import window_solve
from hypersiren.fields.coords import grid
from hypersiren.fields.lattice import frequency_sizes, lattice_frequencies, lattice_siren
from hypersiren.fields.raster import raster
from hypersiren.fields.window_solve import plan_windows, solve_raster

SETUPS = {
    1: ((130,), (20,), (4,)),
    2: ((30, 41), (9, 8), (3, 2)),
    3: ((7, 12, 10), (3, 5, 4), (1, 2, 1)),
    "more windows than samples of one": ((200,), (8,), (2,)),
}


def signal(size, channels, seed=0):
    """Waves and noise, one channel like another."""
    generator = torch.Generator().manual_seed(seed)
    x = grid(size)
    waves = (x @ torch.randn(len(size), 5, generator=generator) * 6).sin()
    mixed = waves @ torch.randn(5, channels, generator=generator)
    return (mixed + 0.05 * torch.randn(len(x), channels, generator=generator)).unflatten(0, size) * 0.2


def solve(size, step, lap, values, numbers=0.7, **more):
    return solve_raster(size, lambda a, b: values[a:b], values.shape[-1], numbers, step, lap, **more)


def mirrored(values, axis, start, width):
    """`width` samples from `start` on along an axis, mirrored beyond the end: one at a time."""
    n = values.shape[axis]
    index = [i if i < n else 2 * n - 1 - i for i in range(start, start + width)]
    return values.index_select(axis, torch.tensor(index))


@pytest.mark.parametrize("dimensions", SETUPS)
@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_every_window_is_its_own_least_squares(dimensions, decay):
    """Slow oracle: each window by itself, each channel by rows of samples and rows of the ridge, by lstsq."""
    size, step, lap = SETUPS[dimensions]
    values = signal(size, 2)
    ridge = 1e-3
    field = solve(size, step, lap, values, ridge=ridge, decay=decay)
    plan = plan_windows(size, step, lap)
    local = [w for w, _ in plan.pixels]
    samples = math.prod(local)
    hidden = {name: p.detach().double() for name, p in field.named_parameters() if name.startswith("layers.")}
    phi = field.template.features(grid(local, dtype=torch.double), hidden).float().double()
    scale = ((1 + frequency_sizes_of(field)) ** -decay).double()
    mix, offset = field.mix.detach(), field.offset.detach()
    close = 0.0
    for t in range(len(plan.windows)):
        index = torch.unravel_index(torch.tensor(t), plan.windows.count)
        part = values
        for axis, (i, (w, s)) in enumerate(zip(index, plan.pixels, strict=True)):
            part = mirrored(part, axis, int(i) * s, w)
        z = ((part.reshape(samples, -1) - offset) @ mix).double()
        start = 0
        for r, count in enumerate(field.counts):
            a = phi[:, :count] * scale[:count]
            rows = torch.cat([a, (ridge * samples) ** 0.5 * torch.eye(count).double()])
            theta = torch.linalg.lstsq(rows, torch.cat([z[:, r], torch.zeros(count).double()])).solution
            found = field.coefficients[t, start : start + count].detach().double()
            close = max(close, (found - scale[:count] * theta).abs().max().item())
            start += count
    assert close < 1e-4 * field.coefficients.detach().abs().max()


def frequency_sizes_of(field):
    """Of the shared first layer, as `frequency_sizes` of a Siren."""
    return field.layers[0].weight.detach().norm(dim=1) * field.template.first_omega / math.pi


@pytest.mark.parametrize("dimensions", SETUPS)
def test_strips_change_nothing_but_the_last_digits(monkeypatch, dimensions):
    size, step, lap = SETUPS[dimensions]
    values = signal(size, 3)
    asked = []
    at_once = solve(size, step, lap, values)
    monkeypatch.setattr(window_solve, "STRIP", 1)
    rows = []

    def read(a, b):
        rows.append(b - a)
        return values[a:b]

    by_rows = solve_raster(size, read, 3, 0.7, step, lap, progress=lambda done, total: asked.append((done, total)))
    assert at_once.counts == by_rows.counts
    assert torch.allclose(at_once.coefficients, by_rows.coefficients, atol=1e-4)
    plan = plan_windows(size, step, lap)
    assert max(rows) <= plan.pixels[0][0], "more rows than a window are read"
    assert len(asked) == plan.windows.count[0]
    assert asked[-1] == (size[0], size[0])
    assert asked == sorted(asked)


@settings(max_examples=25, deadline=None)
@given(
    size=st.lists(st.integers(1, 40), min_size=1, max_size=2),
    channels=st.integers(1, 3),
    numbers=st.floats(0.05, 1.5),
    step=st.integers(4, 20),
)
def test_any_signal_keeps_to_its_numbers(size, channels, numbers, step):
    values = signal(tuple(size), channels)
    d = len(size)
    field = solve(tuple(size), (step,) * d, (2,) * d, values, numbers)
    found = raster(field, tuple(size))
    assert found.shape == values.shape
    assert found.isfinite().all()
    assert len(field.counts) == channels
    # What is asked, or a number for each channel and window; and the mixture, whatever the size.
    windows = len(field.windows)
    most = max(windows * channels, numbers * values.numel()) + windows
    assert field.coefficients.numel() <= most


def test_more_numbers_come_nearer():
    picture = torch.from_numpy(data.astronaut()[100:196, 180:276] / 127.5 - 1).float()
    errors = []
    for numbers in (0.2, 0.5, 1.15):
        field = solve((96, 96), (29, 29), (3, 3), picture, numbers, ridge=1e-8, decay=2.5)
        assert field.numbers <= numbers * picture.numel() + 20
        mse = (raster(field, (96, 96)) - picture).square().mean().item() / 4
        errors.append(-10 * math.log10(mse))
    assert errors == sorted(errors)
    assert errors[1] > 30
    assert errors[2] > 38


def test_a_constant_and_silence():
    for values in (torch.full((20, 20, 3), 0.3), torch.zeros(20, 20, 3)):
        field = solve((20, 20), (8, 8), (2, 2), values)
        assert (raster(field, (20, 20)) - values).abs().max() < 1e-4


def explained(lower, a, y):
    return torch.linalg.solve_triangular(lower, a.mT @ y.mT, upper=False)


@settings(max_examples=40, deadline=None)
@given(features=st.integers(2, 30), channels=st.integers(1, 4), share=st.floats(0.0, 1.0), seed=st.integers(0, 999))
def test_the_budget_is_spent(features, channels, share, seed):
    torch.manual_seed(seed)
    a = torch.randn(40, features, dtype=torch.double)
    lower = torch.linalg.cholesky(a.mT @ a + 1e-3 * torch.eye(features).double())
    z = torch.randn(5, 40, channels, dtype=torch.double) * 10.0 ** -torch.arange(channels)
    budget = channels + round(share * (features - 1) * channels)
    counts = window_solve._share(partial(explained, lower, a), z, budget)
    assert sum(counts) == budget
    assert all(1 <= n <= features for n in counts)


def test_a_budget_beyond_all_features_takes_all():
    a = torch.randn(40, 6, dtype=torch.double)
    lower = torch.linalg.cholesky(a.mT @ a)
    assert window_solve._share(partial(explained, lower, a), torch.randn(2, 40, 2).double(), 100) == (6, 6)


def test_the_numbers_go_where_the_signal_is():
    size = (48, 48)
    luminance = signal(size, 1)
    values = torch.cat([luminance + 0.002 * signal(size, 1, seed=1), luminance, luminance], -1)
    field = solve(size, (14, 14), (2, 2), values, 0.3)
    assert field.counts[0] > 3 * field.counts[1]
    axis = field.mix[:, 0].detach()
    assert (axis.abs() - 3**-0.5).abs().max() < 0.01
    assert torch.allclose(field.mix.detach() @ field.mix.detach().mT, torch.eye(3), atol=1e-5)


@pytest.mark.parametrize("numbers", [0.0, -1.0, math.nan])
def test_no_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match="more than 0 numbers"):
        solve((20,), (8,), (2,), torch.zeros(20, 1), numbers)


@settings(max_examples=40, deadline=None)
@given(size=st.lists(st.integers(1, 300), min_size=1, max_size=3), step=st.integers(2, 60), lap=st.integers(1, 20))
def test_a_plan_covers_the_signal_and_keeps_step(size, step, lap):
    lap = min(lap, step)
    d = len(size)
    plan = plan_windows(size, (step,) * d, (lap,) * d)
    for n, count, (w, s) in zip(size, plan.windows.count, plan.pixels, strict=True):
        assert (count - 1) * s + w >= n
        assert count == 1 or (count - 1) * s < n
    assert plan.windows.pixels(size) == plan.pixels


def test_a_lattice_is_ordered_whole_and_the_same_everywhere():
    for dims, weights in ((1, None), (2, None), (3, None), (2, (1.0, 0.5))):
        k = lattice_frequencies(101, dims, weights)
        scale = torch.tensor(weights or [1.0] * dims).double()
        sizes = (k * scale).norm(dim=1)
        assert (sizes.diff() >= -1e-9).all()
        assert k[0].eq(0).all()
        assert torch.equal(k[1::2], k[2::2]), "sine and cosine of each"
        half = {tuple(row) for row in k[1::2].tolist()}
        assert len(half) == 50
        assert not any(tuple(-i for i in row) in half for row in half)
        # None below the largest is left out: by looking at all of a box.
        box = torch.cartesian_prod(*[torch.arange(-60, 61)] * dims).view(-1, dims) if dims < 3 else None
        if box is not None:
            below = int(((box * scale).norm(dim=1) < sizes[-1] - 1e-9).sum())
            assert below <= 101
    assert lattice_frequencies(9, 2).tolist() == [
        [0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [1, -1], [1, -1], [1, 1], [1, 1],
    ]  # fmt: skip
    for n in (1, 2, 50):
        assert torch.equal(lattice_frequencies(n, 2), lattice_frequencies(101, 2)[:n])


def test_a_lattice_siren_is_a_fourier_series():
    siren = lattice_siren(2, 1, 7, period=2.5).double()
    x = torch.rand(20, 2).double()
    phi = siren.features(x)
    for f, k in enumerate(lattice_frequencies(7, 2).double()):
        angle = 2 * math.pi * (x @ k) / 2.5
        wanted = angle.sin() if f % 2 else angle.cos()
        assert torch.allclose(phi[:, f], wanted, atol=1e-5)
    assert torch.allclose(frequency_sizes(siren)[1], torch.tensor(2 / 2.5).double())
    with pytest.raises(ValueError, match="above 2"):
        lattice_siren(2, 1, 7, period=2.0)


def test_windows_of_a_finer_raster_keep_step_with_the_coarser_one():
    for size in ((128, 192), (96, 50), (37, 41)):
        plan = plan_windows([2 * n for n in size], (58, 58), (6, 6), multiple=2)
        assert all(n % 2 == 0 for pair in plan.pixels for n in pair)
        halves = plan.windows.pixels(size)
        assert halves == tuple((w // 2, s // 2) for w, s in plan.pixels)
