"""Sound as a task: its batches, its frequencies, its pictures, and that it is learned."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren import Siren
from hypersiren.fields.activations import Finer
from hypersiren.fields.coords import cell_centers, grid, strata
from hypersiren.fields.mlp import CoordinateMLP
from hypersiren.fields.render import render_sound
from hypersiren.plotting import draw_rows, figure_pixels
from hypersiren.signals.sound.files import chime
from hypersiren.signals.sound.picture import envelope, level_picture, waveform
from hypersiren.signals.sound.spectrum import rms_omega
from hypersiren.tasks.recordings.audio import Audio
from hypersiren.training.fit import fit
from hypersiren.training.objectives import FieldObjective


def test_a_sound_is_learned_and_not_with_an_omega_of_30():
    wave = torch.from_numpy(chime().wave[:8000])
    results = {
        omega: fit(
            Audio(wave, 16_000, points=1000),
            network={"hidden_features": 64, "first_omega": omega},
            steps=300,
            lr=2e-3,
        )
        for omega in (None, 30.0)
    }
    assert results[None].metrics["si_snr"] > 30
    assert results[30.0].metrics["si_snr"] < 15


def test_batches_hold_the_samples_at_their_times():
    wave = 2 * torch.rand(1000, 2) - 1
    x = grid((1000,))
    batch = Audio(wave, 8000, points=300).sample(torch.Generator().manual_seed(0))
    index = ((batch.x[:, 0] + 1) * 500).long()
    torch.testing.assert_close(batch.x, x[index])
    assert torch.equal(batch.y, wave[index])
    assert len(index.unique()) > 290
    assert torch.equal(Audio(wave, 8000, points=5000).sample(torch.Generator()).y, wave)


@given(size=st.lists(st.integers(1, 7), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_cell_centers_are_rows_of_the_grid(size):
    x = grid(size)
    torch.testing.assert_close(cell_centers(torch.arange(len(x)), size), x)


@given(n=st.integers(1, 500), share=st.floats(0.01, 1), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_strata_take_one_point_of_each_run(n, share, seed):
    count = max(1, int(n * share))
    index = strata(n, count, torch.Generator().manual_seed(seed), "cpu")
    assert 0 <= index.min() <= index.max() < n
    assert (index.diff() >= 0).all()
    assert torch.bincount(index * count // n, minlength=count).max() <= 2


def test_the_first_omega_is_the_frequency_of_the_sound():
    t = torch.arange(16_000) / 16_000
    low, high = torch.sin(2 * torch.pi * 100 * t)[:, None], torch.sin(2 * torch.pi * 500 * t)[:, None]
    assert Audio(low, 16_000).first_omega == pytest.approx(torch.pi * 100 * 3**0.5, rel=0.01)
    both = rms_omega(torch.cat([low, high], dim=1))
    assert both == pytest.approx(torch.pi * ((100**2 + 500**2) / 2) ** 0.5, rel=0.01)
    assert rms_omega(low[:8000]) == pytest.approx(torch.pi * 50, rel=0.01)  # half as long
    assert rms_omega(0.1 * low + 0.5) == pytest.approx(torch.pi * 100, rel=0.01)
    assert Audio(torch.ones(1, 1), 8000).first_omega == Audio(torch.ones(9, 1), 8000).first_omega == 30


def test_the_first_layer_learns_slower_by_its_omega():
    task = Audio(torch.linspace(-1, 1, 10)[:, None], 8000)

    def factor(field, first_lr=None):
        return {FieldObjective(field, task, first_lr).lr_factors()[p] for p in field.layers[0].parameters()}

    siren = Siren(1, 1, 8, 1, first_omega=3000)
    assert factor(siren) == {0.01}
    assert len(FieldObjective(siren, task).lr_factors()) == 2
    assert factor(siren, 1.0) == {1.0}
    assert factor(Siren(1, 1, 8, 1, first_omega=10, hidden_omega=30)) == {1.0}
    assert factor(CoordinateMLP(1, 1, 8, 1)) == {1.0}
    assert factor(CoordinateMLP(1, 1, 8, 1, activation=Finer(first_omega=300.0))) == {0.1}


def test_a_field_sounds_the_same_at_any_rate():
    tone = lambda x: torch.sin(40 * x)  # noqa: E731
    low, high = render_sound(tone, 500), render_sound(tone, 1500)
    torch.testing.assert_close(low, high[1::3])


def drawn(figure, axes) -> np.ndarray:
    """The pixels inside the axes of a figure."""
    pixels = figure_pixels(figure).astype(int)
    box = axes.get_window_extent()
    left, right = (round(x) + 2 * inwards for x, inwards in ((box.x0, 1), (box.x1, -1)))
    bottom, top = (round(y) + 2 * inwards for y, inwards in ((box.y0, 1), (box.y1, -1)))
    return pixels[len(pixels) - top : len(pixels) - bottom, left:right]


@pytest.mark.painted
def test_a_click_is_drawn_at_its_time_and_height():
    wave = np.zeros(48_000)
    wave[12_000], wave[36_000] = 0.5, -1.0
    figure = draw_rows([[waveform(wave, seconds=1.0, peak=1.0)]])
    (axes,) = figure.subfigs[0].axes
    inside = drawn(figure, axes)
    blue = inside[..., 2] - inside[..., 0] > 60
    heights = blue.sum(0)
    tall = np.flatnonzero(heights > 10)
    np.testing.assert_allclose(tall[[0, -1]] / blue.shape[1], [0.25, 0.75], atol=0.01)
    first, last = (np.flatnonzero(blue[:, column]) / blue.shape[0] for column in (tall[0], tall[-1]))
    assert first.min() == pytest.approx(0.25, abs=0.05)  # from half of the peak down to the middle
    assert first.max() == pytest.approx(0.5, abs=0.05)
    assert last.min() == pytest.approx(0.5, abs=0.05)
    assert last.max() == pytest.approx(1.0, abs=0.05)


def test_a_tone_is_a_bright_line_and_what_is_no_number_dark():
    levels = np.full((2, 513, 200), -100.0)
    levels[0, 126:131] = 0  # a quarter of the way up
    levels[1] = np.nan
    figure = draw_rows([[level_picture(channel, seconds=3.0, rate=16_000, top=0.0) for channel in levels]])
    first, second, _ = figure.subfigs[0].axes
    column = drawn(figure, first)[:, 200].mean(-1)
    bright = np.flatnonzero(column > 150) / len(column)
    np.testing.assert_allclose(bright, 0.75, atol=0.03)
    assert (column < 60).mean() > 0.9
    assert drawn(figure, second).max() < 60


def test_pictures_of_a_sound_have_titles_and_units():
    curve = waveform(np.zeros(100), seconds=2.5, peak=0.5, title="The fit")
    spectrum = level_picture(np.zeros((513, 9)), seconds=2.5, rate=8000, top=10.0, decibels=60.0, title="The fit")
    axes, levels, bar = draw_rows([[curve, spectrum]]).subfigs[0].axes
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("The fit", "time (s)", "amplitude")
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 2.5), (-0.5, 0.5))
    assert (levels.get_title(), levels.get_xlabel(), levels.get_ylabel()) == ("The fit", "time (s)", "frequency (kHz)")
    assert (levels.get_xlim(), levels.get_ylim()) == ((0, 2.5), (0, 4))
    assert bar.get_ylabel() == "level (dB re amplitude 1)"
    assert bar.get_ylim() == (-50, 10)


def test_a_summary_of_stereo_has_rows_for_each_channel():
    task = Audio(torch.rand(2000, 2) - 0.5, rate=1000)
    rows = task.summary(lambda x: torch.zeros(len(x), 2))
    assert [list(row) for row in rows][:2] == [
        ["true_waveform_1", "waveform_1", "error_waveform_1"],
        ["true_spectrogram_1", "spectrogram_1", "error_spectrogram_1"],
    ]
    assert rows[2]["true_waveform_2"].title == "Truth, channel 2"
    assert {plot.scale for plot in rows[1].values()} == {rows[3]["spectrogram_2"].scale}  # one colour bar


@pytest.mark.painted
def test_silence_is_a_line_in_the_middle():
    figure = draw_rows([[waveform(np.zeros(8000), seconds=1.0, peak=1.0)]])
    inside = drawn(figure, figure.subfigs[0].axes[0])
    rows, columns = np.nonzero(inside[..., 2] - inside[..., 0] > 60)
    assert len(np.unique(columns)) > 0.99 * inside.shape[1]
    np.testing.assert_allclose(rows / inside.shape[0], 0.5, atol=0.02)


def test_waveforms_of_nothing_and_of_no_numbers():
    for wave in (np.full(100, np.nan), np.zeros(1), 1000 * np.ones(5000)):
        assert figure_pixels(draw_rows([[waveform(wave, seconds=1.0, peak=1.0)]])).shape[1] == 800


@given(samples=st.integers(1, 5000), columns=st.integers(1, 200), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_envelope_holds_every_sample_and_has_no_gaps(samples, columns, seed):
    wave = np.random.default_rng(seed).normal(size=samples)
    low, high = envelope(wave, columns)
    assert low.shape == high.shape == (columns,)
    assert (low <= high).all()
    assert (low[1:] <= high[:-1]).all()
    assert (high[1:] >= low[:-1]).all()
    if samples >= 4 * columns:
        for part, (below, above) in enumerate(zip(low, high, strict=True)):
            mine = wave[part * samples // columns : (part + 1) * samples // columns]
            assert below <= mine.min()
            assert above >= mine.max()
