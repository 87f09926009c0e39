"""Drawings of sounds for a person: waveforms and spectrograms of a truth and its fit, with axes, by NumPy and Pillow.

A drawing is a white (H, W, 3) picture of float32 values in [0, 1]. It consists of strips over one time axis, each a
picture of its own with a name and a vertical axis.

Symbols: N samples, C channels, F frequencies, K frames; H, W the drawing's pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image, ImageDraw, ImageFont

Picture = Float32[np.ndarray, "H W 3"]

LEFT, RIGHT, GAP, BOTTOM, FONT = 56, 64, 26, 40, 12
"""Pixels around and between the strips, and the height of the letters."""

BLUE, ORANGE, RED, GRAY = (0.12, 0.35, 0.65), (0.85, 0.45, 0.05), (0.75, 0.15, 0.15), (0.85, 0.85, 0.85)

HEAT = np.array(
    [(0.0, 0.0, 0.05), (0.22, 0.06, 0.42), (0.6, 0.15, 0.45), (0.92, 0.35, 0.25), (0.99, 0.72, 0.25), (1.0, 1.0, 0.85)]
)
"""Colours of levels, from the lowest to the highest; their lightness rises evenly."""


@dataclass(frozen=True)
class Strip:
    """A picture with its name and its vertical axis, which runs from `low` at the bottom to `high`."""

    name: str
    picture: Picture
    low: float
    high: float


def wave_comparison(
    truth: Float[np.ndarray, "N C"], fit: Float[np.ndarray, "N C"], rate: float, *, width: int = 1000
) -> Picture:
    """Truth, fit and error of each channel over time, all on the truth's scale, the error enlarged if that is small.

    A column of pixels shows the least and the greatest of its samples, so a long sound is drawn as fast as a short one
    is read. What leaves the scale is cut off; what is not a number is drawn as 0.

    Example:
        >>> wave = np.sin(np.linspace(0, 100, 8000))[:, None]
        >>> wave_comparison(wave, 0.9 * wave, rate=8000).shape[1:]
        (1000, 3)
    """
    truth, fit = np.nan_to_num(truth), np.nan_to_num(fit)
    peak, error_peak = (float(np.abs(x).max()) for x in (truth, truth - fit))
    times = 10 ** math.floor(math.log10(peak / error_peak)) if 0 < 10 * error_peak < peak else 1
    high = 1.05 * (peak or 1.0)
    strips = []
    for c in range(truth.shape[1]):
        channel = f" {c + 1}" if truth.shape[1] > 1 else ""
        error = f"error{channel}" + (f" x {times}" if times > 1 else "")
        for name, wave, colour in (
            (f"truth{channel}", truth[:, c], BLUE),
            (f"fit{channel}", fit[:, c], ORANGE),
            (error, times * (fit - truth)[:, c], RED),
        ):
            strips.append(Strip(name, _wave_picture(wave, (100, width - LEFT - RIGHT), high, colour), -high, high))
    return _drawing(strips, len(truth) / rate, vertical="")


def spectrogram_comparison(
    truth: Float[np.ndarray, "C F K"],
    fit: Float[np.ndarray, "C F K"],
    seconds: float,
    rate: float,
    *,
    decibels: float = 80.0,
    width: int = 1000,
) -> Picture:
    """The fit's spectrogram under the truth's for each channel, on one scale of `decibels` below the truth's maximum.

    Args:
        truth, fit: Levels in dB (`hypersiren.spectrum.spectrogram`), frequencies from 0 to rate / 2.
        seconds: Duration of the sound.
        rate: Samples per second.

    Example:
        >>> level = np.random.default_rng(0).uniform(-80, 0, (1, 513, 40))
        >>> spectrogram_comparison(level, level, seconds=0.6, rate=16000).shape[1:]
        (1000, 3)
    """
    top = 10 * math.ceil(float(truth.max()) / 10)
    size = (180, width - LEFT - RIGHT)
    strips = []
    for c in range(len(truth)):
        channel = f" {c + 1}" if len(truth) > 1 else ""
        for name, levels in ((f"truth{channel}", truth[c]), (f"fit{channel}", fit[c])):
            shown = np.nan_to_num(levels, nan=-np.inf).clip(top - decibels, top).astype(np.float32)[::-1]
            # Pillow takes the mean of what falls into a pixel.
            pixels = np.asarray(Image.fromarray(shown).resize(size[::-1], Image.Resampling.BILINEAR))
            strips.append(Strip(name, _heat((pixels - top) / decibels + 1), 0.0, rate / 2000))
    return _drawing(strips, seconds, vertical="kHz", scale=(top - decibels, top))


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


def _wave_picture(
    wave: Float[np.ndarray, " N"], size: tuple[int, int], high: float, colour: tuple[float, float, float]
) -> Picture:
    height, width = size
    picture = np.ones((height, width, 3), np.float32)
    picture[(height - 1) // 2] = GRAY
    lowest, highest = (np.rint((1 - v / high).clip(0, 2) / 2 * (height - 1)) for v in envelope(wave, width))
    rows = np.arange(height)[:, None]
    picture[(rows >= highest) & (rows <= lowest)] = colour
    return picture


def _heat(values: Float[np.ndarray, "H W"]) -> Picture:
    """Colours of values in [0, 1]."""
    at = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(values, at, HEAT[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers within a range, in even steps of 1, 2 or 5 times a power of ten."""
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= least)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _drawing(
    strips: Sequence[Strip], seconds: float, vertical: str, scale: tuple[float, float] | None = None
) -> Picture:
    """Strips over one time axis, with a bar of levels in dB if there is a scale of them."""
    height, width = strips[0].picture.shape[:2]
    bottom = len(strips) * (GAP + height)
    canvas = np.ones((bottom + BOTTOM, LEFT + width + RIGHT, 3), np.float32)
    for i, strip in enumerate(strips):
        top = (i + 1) * GAP + i * height
        canvas[top : top + height, LEFT : LEFT + width] = strip.picture
    bar = slice(LEFT + width + 10, LEFT + width + 20)
    if scale:
        canvas[GAP:bottom, bar] = _heat(np.linspace(1, 0, bottom - GAP)[:, None])
    image = Image.fromarray(np.rint(canvas * 255).astype(np.uint8))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FONT)

    def label(x: float, y: float, text: str, anchor: str) -> None:
        draw.text((x, y), text, fill="black", font=font, anchor=anchor)

    def axis(low: float, high: float, span: tuple[float, float], most: int) -> list[tuple[float, str]]:
        to_pixels = (span[1] - span[0]) / (high - low)
        return [(span[0] + (t - low) * to_pixels, f"{t:.6g}") for t in _ticks(low, high, most)]

    for i, strip in enumerate(strips):
        top = (i + 1) * GAP + i * height
        label(LEFT, top - 4, strip.name, "ls")
        draw.rectangle((LEFT - 1, top - 1, LEFT + width, top + height), outline="black")
        for y, text in axis(strip.low, strip.high, (top + height - 1, top), most=5):
            draw.line((LEFT - 5, y, LEFT - 1, y), fill="black")
            label(LEFT - 8, y, text, "rm")
        if vertical:
            label(LEFT - 8, top - 4, vertical, "rs")
    for x, text in axis(0, seconds, (LEFT, LEFT + width - 1), most=10):
        draw.line((x, bottom, x, bottom + 4), fill="black")
        label(x, bottom + 7, text, "ma")
    label(LEFT + width, bottom + 22, "seconds", "ra")
    if scale:
        for y, text in axis(*scale, (bottom - 1, GAP), most=10):
            label(bar.stop + 4, y, text, "lm")
        label(bar.start, GAP - 8, "dB", "ls")
    return np.asarray(image, np.float32) / 255
