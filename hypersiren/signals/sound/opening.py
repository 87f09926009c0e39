"""Sounds as tensors: whatever holds one as a wave with its rate.

Symbols: N samples, C channels.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.signals.arrays import check_values, dtype_name, to_tensor
from hypersiren.signals.files import SignalError
from hypersiren.signals.sound.files import Sound, chime, read_sound, scaled

CHIME = "chime"
"""Names the sound made by `hypersiren.signals.sound.files.chime` where no file is called so."""

CHANNELS = 8
"""At most so many channels a sound may have; more are samples, the array lying on its side."""

FULL_SCALE = {torch.int16: 2**15, torch.int32: 2**31}


def as_wave(
    wave: Any, rate: float | None = None, scale: float | None = None
) -> tuple[Float[Tensor, "N C"], int, float]:
    """Whatever holds a sound as float32 amplitudes in [-1, 1], their rate, and what they were divided by.

    Args:
        wave: A file or "chime", which is scaled to a maximum of 1; or a NumPy array or tensor (N,) or (N, C) with at
            most 8 channels, floats in [-1, 1], or int16 or int32, divided by 2^15 or 2^31. A tensor stays on its
            device, and is returned itself if nothing of it has to change.
        rate: Samples per second, a whole number; of a file None.
        scale: What an array's amplitudes were divided by, None for 1; of a file None.

    Raises:
        SignalError: If it is something else, cannot be read, is empty or of another shape, if amplitudes are NaN,
            infinite or above 1, or if the rate is missing, or given beside a file.

    Example:
        >>> as_wave(torch.tensor([0, -16384], dtype=torch.int16), 8000)
        (tensor([[ 0.0000], [-0.5000]]), 8000, 1.0)
        >>> as_wave(torch.zeros(2, 8000), 8000)
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: expected a wave (N,) or (N, C) of at most 8 channels, got (2, 8000):
        samples come first, give wave.T
    """
    if isinstance(wave, str | os.PathLike):
        if rate is not None or scale is not None:
            raise SignalError(f"expected no rate and no scale with a file, got rate={rate}, scale={scale}", wave)
        sound, peak = open_sound(wave)
        return torch.from_numpy(sound.wave), sound.rate, peak
    values = to_tensor(wave, "a sound as a path, a NumPy array or a tensor")
    if rate is None or not 0 < rate < float("inf") or rate != int(rate):
        raise SignalError(f"expected the rate of the wave, a whole number of samples a second, got {rate}")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not 1 <= values.shape[1] <= CHANNELS or not len(values):
        turned = ": samples come first, give wave.T" if values.ndim == 2 and 1 <= len(values) <= CHANNELS else ""
        mend = ": it is empty" if 0 in values.shape else turned
        raise SignalError(
            f"expected a wave (N,) or (N, C) of at most {CHANNELS} channels, got {tuple(values.shape)}{mend}"
        )
    if values.dtype in FULL_SCALE:
        values = values.double() / FULL_SCALE[values.dtype]
    elif not values.is_floating_point():
        raise SignalError(f"expected amplitudes as floats in [-1, 1], int16 or int32, got {dtype_name(values)}")
    mend = "divide the wave by its peak, abs(wave).max(), and give that as scale"
    check_values(values, -1, 1, mend)
    return values.float(), int(rate), 1.0 if scale is None else float(scale)


def open_sound(path: str | os.PathLike[str], start: float = 0.0, stop: float | None = None) -> tuple[Sound, float]:
    """A part of a sound file, or of the chime where no file is called so, scaled to a maximum of 1, and the scale.

    Raises:
        SignalError: If it cannot be read, the part does not lie within it, or it is silent.

    Example:
        >>> sound, scale = open_sound("chime", stop=0.5)
        >>> sound.wave.shape, float(abs(sound.wave).max()), scale < 1
        ((8000, 1), 1.0, True)
    """
    made = str(path) == CHIME and not Path(path).exists()
    sound = (chime if made else partial(read_sound, path))(start, stop)
    try:
        return scaled(sound)
    except SignalError as error:
        raise SignalError(error.reason, path) from None
