"""Pictures of a sound for a person: its waveform and its spectrogram, on axes.

Symbols: N samples, C channels, F frequencies, K frames of a spectrogram; H, W pixels.
"""

import numpy as np
from jaxtyping import Float, UInt8

from hypersiren.plotting import Series, plot

Pixels = UInt8[np.ndarray, "H W 3"]

HEAT = np.array(
    [(0.0, 0.0, 0.05), (0.22, 0.06, 0.42), (0.6, 0.15, 0.45), (0.92, 0.35, 0.25), (0.99, 0.72, 0.25), (1.0, 1.0, 0.85)]
)
"""Colours of levels, from the lowest to the highest; their lightness rises evenly."""


def draw_waveform(wave: Float[np.ndarray, "N C"], seconds: float, peak: float, *, width: int = 640) -> Pixels:
    """Amplitudes over time, channels above each other, on a scale from -peak to peak; what leaves it is cut off.

    A column of pixels shows the least and the greatest of its samples, so a long sound is drawn as fast as a short one.

    Example:
        >>> draw_waveform(np.sin(np.linspace(0, 100, 8000))[:, None], seconds=1.0, peak=1.0).shape
        (130, 640, 3)
    """
    ends = np.linspace(0, seconds, width + 1)
    times = np.repeat((ends[1:] + ends[:-1]) / 2, 2)
    rows = [
        plot(
            Series(times, np.stack(envelope(np.nan_to_num(wave[:, c]), width), axis=-1).ravel()),
            size=(130, width),
            x_range=(0, seconds),
            y_range=(-peak, peak),
            x_label="seconds",
        )
        for c in range(wave.shape[1])
    ]
    return np.concatenate(rows)


def draw_spectrogram(
    levels: Float[np.ndarray, "C F K"],
    seconds: float,
    rate: float,
    top: float,
    *,
    decibels: float = 80.0,
    width: int = 640,
) -> Pixels:
    """Levels in dB by time and frequency, channels above each other: bright at `top`, dark `decibels` below.

    Args:
        levels: Of `hypersiren.signals.sound.spectrum.spectrogram`, frequencies from 0 to rate / 2.
        seconds: Duration of the sound.
        rate: Samples per second.

    Example:
        >>> draw_spectrogram(np.zeros((2, 513, 40)), seconds=0.6, rate=16000, top=0.0).shape
        (400, 640, 3)
    """
    rows = [
        plot(
            backdrop=heat(1 + (np.nan_to_num(channel[::-1], nan=-np.inf, neginf=top - decibels) - top) / decibels),
            size=(200, width),
            x_range=(0, seconds),
            y_range=(0, rate / 2000),
            x_label="seconds",
            y_label="kHz",
        )
        for channel in levels
    ]
    return np.concatenate(rows)


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


def heat(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """Colours of values in [0, 1]; others are taken for the nearer end.

    Example:
        >>> heat(np.array([[-1.0, 1.0]])).tolist()
        [[[0.0, 0.0, 0.05], [1.0, 1.0, 0.85]]]
    """
    at = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(values, at, HEAT[:, channel]) for channel in range(3)], axis=-1)
