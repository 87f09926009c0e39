"""Pictures of a sound for a person: its waveform and its spectrogram, on axes.

Symbols: N samples, C channels, F frequencies, K frames of a spectrogram.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from hypersiren.plotting import heatmap, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_waveform(
    wave: Float[np.ndarray, "N C"], seconds: float, peak: float, *, title: str = "Waveform", width: int = 800
) -> "Figure":
    """Amplitudes over time, channels above each other, on a scale from -peak to peak; what leaves it is cut off.

    A column of pixels shows the least and the greatest of its samples, so a long sound is drawn as fast as a short one.

    Args:
        wave: Amplitudes; what is no number is drawn as 0.
        seconds: Duration of the sound.
        peak: End of the axis of amplitudes.
        title: Above the picture; each channel adds its number where there are several.
        width: Of the figure, in pixels; a channel is 180 pixels high.

    Example:
        >>> figure = draw_waveform(np.sin(np.linspace(0, 100, 8000))[:, None], seconds=1.0, peak=1.0)
        >>> figure.axes[0].get_title(), figure.axes[0].get_xlabel()
        ('Waveform', 'time (s)')
    """
    titles = _titles(title, wave.shape[1])
    figure, grid = new_figure(180 * len(titles), width, len(titles))
    ends = np.linspace(0, seconds, width + 1)
    for axes, name, channel in zip(grid.flat, titles, wave.T, strict=True):
        low, high = envelope(np.nan_to_num(channel), width)
        axes.fill_between((ends[1:] + ends[:-1]) / 2, low, high, step="mid", color="tab:blue", linewidth=0.8)
        axes.set(title=name, xlabel="time (s)", ylabel="amplitude", xlim=(0, seconds), ylim=(-peak, peak))
    return figure


def draw_spectrogram(
    levels: Float[np.ndarray, "C F K"],
    seconds: float,
    rate: float,
    top: float,
    *,
    decibels: float = 80.0,
    title: str = "Spectrogram",
    width: int = 800,
) -> "Figure":
    """Levels in dB by time and frequency, channels above each other: bright at `top`, dark `decibels` below.

    Args:
        levels: Of `hypersiren.signals.sound.spectrum.spectrogram`, frequencies from 0 to rate / 2; what is no number is
            drawn dark.
        seconds: Duration of the sound.
        rate: Samples per second.
        top, decibels: The greatest level of the colour bar, and its range.
        title: Above the picture; each channel adds its number where there are several.
        width: Of the figure, in pixels; a channel is 260 pixels high.

    Example:
        >>> figure = draw_spectrogram(np.zeros((2, 513, 40)), seconds=0.6, rate=16000, top=0.0)
        >>> [axes.get_title() for axes in figure.axes[:2]]
        ['Spectrogram, channel 1', 'Spectrogram, channel 2']
    """
    floor = top - decibels
    shown = np.nan_to_num(levels[:, ::-1], nan=floor, neginf=floor)
    return heatmap(
        dict(zip(_titles(title, len(shown)), shown, strict=True)),
        unit="level (dB re amplitude 1)",
        limits=(floor, top),
        extent=(0.0, seconds, 0.0, rate / 2),
        x_label="time (s)",
        y_label="frequency (Hz)",
        colors="inferno",
        stacked=True,
        aspect="auto",
        size=(260 * len(shown), width),
    )


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


def _titles(title: str, channels: int) -> list[str]:
    return [title] if channels == 1 else [f"{title}, channel {i + 1}" for i in range(channels)]
