"""Drawings of sounds: what is drawn is where it belongs."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.drawings import BLUE, GAP, LEFT, ORANGE, RED, _ticks, envelope, spectrogram_comparison, wave_comparison


def where(drawing: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """Rows and columns of a colour within the strips."""
    return np.argwhere(np.abs(drawing - np.float32(colour)).max(-1) < 0.01)


def test_a_click_is_at_its_time_and_height():
    wave = np.zeros((48_000, 1))
    wave[12_000] = 0.5
    wave[36_000] = -1.0
    drawing = wave_comparison(wave, wave, rate=48_000)
    assert drawing.shape == (3 * (100 + GAP) + 40, 1000, 3)
    assert (drawing.min(), drawing.max()) == (0, 1)
    blue = where(drawing, BLUE)
    middle = np.median(blue[:, 0])
    high, low = blue[blue[:, 0] < middle - 5], blue[blue[:, 0] > middle + 5]
    assert abs(high[:, 1] - LEFT - 880 / 4).max() <= 1
    assert abs(low[:, 1] - LEFT - 880 * 3 / 4).max() <= 1
    assert (middle - high[:, 0]).max() == pytest.approx((low[:, 0] - middle).max() / 2, abs=1)


def test_the_error_is_enlarged_and_the_fit_cut_off():
    truth = np.sin(np.linspace(0, 50, 5000))[:, None]
    small = wave_comparison(truth, truth + 0.004, rate=1000)  # shown times 100
    heights = np.unique(where(small, RED)[:, 0])
    zero = 3 * (GAP + 100) - 100 + 49.5
    assert abs(heights - (zero - 0.4 / 1.05 * 49.5)).max() <= 1
    wild = wave_comparison(truth, 1000 * truth, rate=1000)
    assert len(np.unique(where(wild, ORANGE)[:, 0])) == 100


def test_stereo_silence_and_what_is_no_number():
    assert wave_comparison(np.zeros((100, 2)), np.zeros((100, 2)), 8000).shape[0] == 6 * (100 + GAP) + 40
    assert np.isfinite(wave_comparison(np.ones((100, 1)), np.full((100, 1), np.nan), 8000)).all()
    assert wave_comparison(np.ones((1, 1)), np.zeros((1, 1)), 8000).shape[1] == 1000


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
        assert (low.min(), high.max()) == (wave.min(), wave.max())


def test_a_long_sound_is_drawn_fast():
    wave = np.zeros((10_000_000, 1), np.float32)
    begin = time.perf_counter()
    wave_comparison(wave, wave, 44_100)
    assert time.perf_counter() - begin < 3


def test_a_tone_is_a_line_at_its_frequency():
    levels = np.full((1, 513, 200), -100.0)
    levels[0, 126:131] = 0  # a quarter of the way up
    drawing = spectrogram_comparison(levels, np.full_like(levels, -np.inf), seconds=3.0, rate=16_000)
    brightness = drawing[:, LEFT + 440].mean(-1)
    strip = brightness[GAP + 2 : GAP + 178]
    assert strip.argmax() + 2 == pytest.approx(180 * 3 / 4, abs=1)
    assert strip.max() > 0.7
    assert (brightness[GAP + 180 + GAP + 2 : 2 * (GAP + 180) - 2] < 0.1).all()  # the fit has none
    assert spectrogram_comparison(levels.repeat(2, 0), levels.repeat(2, 0), 3.0, 16_000).shape[0] == 4 * (180 + GAP) + 40


@pytest.mark.parametrize(("low", "high"), [(0, 7.1), (-1.05, 1.05), (0, 1e-4), (0, 22.05), (-80, 0), (0, 5400)])
def test_ticks_are_few_round_and_even(low, high):
    ticks = np.array(_ticks(low, high, 10))
    assert 4 <= len(ticks) <= 11
    assert low <= ticks.min()
    assert ticks.max() <= high
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0])
    assert float(f"{steps[0]:.0e}") == pytest.approx(steps[0])
