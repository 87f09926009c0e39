"""Sounds: read and write one, as float32 samples (N, C) with their rate.

The samples of a file are taken as it stores them, full scale being [-1, 1]; float files may go beyond. Nothing is
resampled or mixed: a SIREN takes any rate, and C channels are C outputs of one field over x = time in [-1, 1].
Imports no torch: a wrong file is told at once.

Symbols: N samples, C channels.
"""

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from hypersiren.signals.files import (
    SignalError,
    atomic_write,
    check_size,
    guarded,
    muted,
    one_line,
)
from hypersiren.signals.sound.opened import OpenSound, open_sound_file

ROUNDING = 1e-6
"""What a wave may go beyond full scale and still count as within it."""


@dataclass(frozen=True)
class Sound:
    """Samples with their rate.

    Attributes:
        wave: Amplitudes, 1 being full scale.
        rate: Samples per second.
    """

    wave: Float32[np.ndarray, "N C"]
    rate: int

    @property
    def seconds(self) -> float:
        """The duration T."""
        return len(self.wave) / self.rate


def read_sound(path: str | os.PathLike[str], start: float = 0.0, stop: float | None = None) -> Sound:
    """Read a sound in any format that libsndfile knows: WAV, FLAC, OGG, MP3, AIFF and others, any depth and rate.

    Channels come in the order of WAV (front left, front right, centre, LFE ...); what libsndfile does not see of a file
    is mended, see `hypersiren.signals.sound.opened`.

    A file that is damaged or breaks off is read up to there, with a warning. (Of uncompressed formats, as for any
    player, what is there is the whole.)

    Args:
        path: The file.
        start, stop: The part wanted, in seconds; all of it by default.

    Returns:
        The samples between start and stop, each time rounded to the nearest sample.

    Raises:
        SignalError: If the file is missing, empty, not a sound or damaged from the start of the part on, if the part
            does not lie within the file, or if a sample is not a finite number.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_sound(f"{folder}/a.wav", np.zeros((8000, 2)), 16000)
        ...     sound = read_sound(f"{folder}/a.wav", start=0.25)
        >>> sound.wave.shape, sound.rate, sound.seconds
        ((4000, 2), 16000, 0.25)
    """
    with open_sound_file(path) as file:
        return read_opened(file, path, start, stop)


def read_opened(file: OpenSound, path: str | os.PathLike[str], start: float = 0.0, stop: float | None = None) -> Sound:
    """As `read_sound`, of a file that is open."""
    rate, first, last = file.samplerate, *sample_range(file.frames, file.samplerate, start, stop, path)
    check_size(4 * file.channels * (last - (first if file.seeks else 0)), path, "ask for a shorter part")
    with guarded("damaged", path), muted():
        wave = file.decode(first, last)
    if not len(wave):
        raise SignalError(f"damaged or cut off: nothing can be decoded from {start:g} s on", path)
    if len(wave) < last - first:
        end = (first + len(wave)) / rate
        warnings.warn(f"{os.fspath(path)}: damaged or cut off at {end:.3f} s; read up to there", stacklevel=3)
    if not (finite := np.isfinite(wave).all(axis=1)).all():
        bad = first + int(finite.argmin())
        raise SignalError(f"expected finite samples, got {wave[bad - first].tolist()} at {bad / rate:.4f} s", path)
    return Sound(wave, rate)


def scaled(sound: Sound) -> tuple[Sound, float]:
    """The sound scaled to a maximum of 1 (paper, supplement: audio), and what it was: original = scaled * scale.

    Raises:
        SignalError: If the sound is silent, so that no scale exists.

    Example:
        >>> loud, scale = scaled(Sound(np.array([[0.25], [-0.5]], np.float32), 8000))
        >>> loud.wave.tolist(), scale
        ([[0.5], [-1.0]], 0.5)
    """
    scale = _peak(sound.wave)
    if scale == 0:
        raise SignalError("expected a sound, got silence: all samples are 0, there is nothing to scale to 1")
    return Sound(sound.wave / np.float32(scale), sound.rate), scale


def check_sound_name(path: str | os.PathLike[str]) -> None:
    """Refuse a file in which sounds are not written.

    Raises:
        SignalError: If its ending is not .wav.

    Example:
        >>> check_sound_name("speech.wav")
    """
    if Path(path).suffix.lower() != ".wav":
        raise SignalError(f"expected the ending .wav, got {Path(path).suffix!r}", path)


def write_sound(path: str | os.PathLike[str], wave: Float[np.ndarray, "N C"], rate: int) -> None:
    """Write a WAV file; it appears complete or not at all.

    The samples are stored in 24 bits, which players, browsers and editors read as they do 16: rounding lies 144 dB
    below full scale, under the error of any fit, where 16 bits would add a noise of their own at 98 dB. A wave that
    goes beyond full scale is stored as 32-bit floats, which hold it as it is.

    Args:
        path: The file, ending in .wav; its folder must exist. What was there is replaced.
        wave: Amplitudes, full scale being [-1, 1]; what is not a number is silence, what is infinite full scale.
        rate: Samples per second.

    Raises:
        SignalError: If the file has another ending or cannot be written (no such folder, forbidden, full disk).
        ValueError: If there is no sample.

    Warns:
        UserWarning: If the wave goes beyond full scale, where many players clip.
    """
    if wave.ndim != 2 or not wave.size:
        raise ValueError(f"expected at least one sample in a wave (N, C), got shape {wave.shape}")
    check_sound_name(path)
    if (peak := _peak(_finite(wave))) > 1 + ROUNDING:
        warnings.warn(
            f"{os.fspath(path)}: the wave goes to {peak:.4g} of full scale, stored as floats; players may clip it",
            stacklevel=2,
        )
    data = encode_wav(wave, rate)  # in memory first: libsndfile would not tell of a full disk
    try:
        with atomic_write(path) as file:
            file.write(data)
    except OSError as error:
        raise SignalError(f"cannot be written ({one_line(error)})", path) from error


def encode_wav(wave: Float[np.ndarray, "N C"], rate: int, bits: Literal[16, 24] = 24) -> bytes:
    """The bytes of a WAV file: of so many bits, or of floats where amplitudes go beyond [-1, 1]."""
    import soundfile

    data, finite = io.BytesIO(), _finite(wave)
    if _peak(finite) > 1 + ROUNDING:
        soundfile.write(data, finite.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    else:
        soundfile.write(data, finite.clip(-1, 1, out=finite), rate, format="WAV", subtype=f"PCM_{bits}")
    return data.getvalue()


def _peak(wave: Float[np.ndarray, "N C"]) -> float:
    """The largest of the absolute values, which are not stored."""
    return float(max(wave.max(), -wave.min()))


def _finite(wave: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
    return np.nan_to_num(wave, nan=0.0, posinf=1.0, neginf=-1.0)


def chime(start: float = 0.0, stop: float | None = None) -> Sound:
    """Four bells, one after the other, each of five partials that fade: two seconds to try things on, made here.

    Args:
        start, stop: The part wanted, in seconds.

    Raises:
        SignalError: If the part does not lie within.

    Example:
        >>> chime().wave.shape
        (32000, 1)
    """
    seconds, rate = 2.0, 16_000
    t = np.arange(round(seconds * rate)) / rate
    wave = np.zeros_like(t)
    for i, note in enumerate((523.25, 659.26, 783.99, 1046.5)):
        after = (t - i * seconds / 4).clip(0)
        for k, partial in enumerate((0.5, 1.0, 1.19, 2.0, 2.74)):
            wave += np.sin(2 * np.pi * note * partial * after) * np.exp(-(2 + k) * after) / (1 + k)
    first, last = sample_range(len(t), rate, start, stop, "chime")
    return Sound((0.9 * wave / np.abs(wave).max()).astype(np.float32)[first:last, None], rate)


def sample_range(
    samples: int, rate: int, start: float, stop: float | None, path: str | os.PathLike[str]
) -> tuple[int, int]:
    """First and last sample (exclusive) of a part in seconds, of a sound of so many samples.

    Raises:
        SignalError: If no sample lies in it, or it does not lie within the sound.
    """
    if samples == 0:
        raise SignalError("holds no samples", path)
    seconds = samples / rate
    end = seconds if stop is None else stop
    if start >= seconds:
        raise SignalError(f"expected a start before the end, {seconds:.10g} s, got {start:g} s", path)
    if not (0 <= start < end <= seconds + 0.5 / rate):
        raise SignalError(f"expected a part within 0 to {seconds:.10g} s, got {start:g} to {end:g} s", path)
    first, last = round(start * rate), min(round(end * rate), samples)
    if first == last:
        raise SignalError(f"no sample lies between {start:g} and {end:g} s at {rate} samples a second", path)
    return first, last
