"""Pictures of a sound for a person: its waveform and its spectrogram.

Symbols: N samples, C channels, F frequencies, K frames of a spectrogram.
"""

import numpy as np
from jaxtyping import Float

from hypersiren.plotting import Curve, Picture

COLUMNS = 800
"""Columns of a waveform: each shows the least and the greatest of its samples, so that a long sound is drawn as fast as
a short one."""


def waveform(
    wave: Float[np.ndarray, " N"], seconds: float, peak: float, *, title: str = "Waveform", columns: int = COLUMNS
) -> Curve:
    """Amplitudes over time, on a scale from -peak to peak; what leaves it is cut off.

    Args:
        wave: Amplitudes of one channel; what is no number is drawn as 0.
        seconds: Duration of the sound.
        peak: End of the axis of amplitudes.
        title: Above the picture.
        columns: How finely time is drawn.

    Example:
        >>> curve = waveform(np.sin(np.linspace(0, 100, 8000)), seconds=1.0, peak=1.0)
        >>> curve.x_label, curve.y_limits
        ('time (s)', (-1.0, 1.0))
    """
    ends = np.linspace(0, seconds, columns + 1)
    band = np.stack(envelope(np.nan_to_num(wave), columns), axis=-1)
    lines = {"amplitude": ((ends[1:] + ends[:-1]) / 2, band)}
    return Curve(title, lines, "time (s)", "amplitude", x_limits=(0.0, seconds), y_limits=(-peak, peak))


def level_picture(
    levels: Float[np.ndarray, "F K"],
    seconds: float,
    rate: float,
    top: float,
    *,
    decibels: float = 80.0,
    title: str = "Spectrogram",
) -> Picture:
    """Levels in dB by time and frequency: bright at `top`, dark `decibels` below.

    Args:
        levels: Of one channel of `hypersiren.signals.sound.spectrum.spectrogram`, frequencies from 0 to rate / 2; what
            is no number is drawn dark.
        seconds: Duration of the sound.
        rate: Samples per second.
        top, decibels: The greatest level of the colour bar, and its range.
        title: Above the picture.

    Example:
        >>> picture = level_picture(np.zeros((513, 40)), seconds=0.6, rate=16000, top=0.0)
        >>> picture.unit, picture.extent
        ('level (dB re amplitude 1)', (0.0, 0.6, 0.0, 8.0))
    """
    floor = top - decibels
    shown = np.nan_to_num(levels[::-1], nan=floor, neginf=floor)
    extent = (0.0, seconds, 0.0, rate / 2000)
    bar = "level (dB re amplitude 1)", (floor, top), "inferno"
    return Picture(title, shown, *bar, extent, "time (s)", "frequency (kHz)", aspect="auto")


def envelope(wave: Float[np.ndarray, " N"], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value of a wave within each column of pixels, joined to the column before.

    Example:
        >>> low, high = envelope(np.array([0.0, 1.0, 5.0, 2.0, -3.0, -1.0, 0.0, 0.0]), 2)
        >>> low.tolist(), high.tolist()
        ([0.0, -3.0], [5.0, 0.0])
    """
    if len(wave) < 4 * columns:
        wave = np.interp(np.linspace(0, len(wave) - 1, 4 * columns), np.arange(len(wave)), wave)
    edges = np.arange(columns) * len(wave) // columns
    low, high = np.minimum.reduceat(wave, edges), np.maximum.reduceat(wave, edges)
    return np.minimum(low, np.append(low[0], high[:-1])), np.maximum(high, np.append(high[0], low[:-1]))
