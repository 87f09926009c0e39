"""The spectrum of a sound: what a person looks at, and what tells a SIREN's frequencies.

Symbols: N samples, C channels, F frequencies, K frames.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def spectrogram(
    wave: Float[Tensor, "N C"], *, window: int = 1024, hop: int = 256, floor: float = -100.0
) -> Float[Tensor, "C F K"]:
    """Levels in dB by frequency and time; a sine of amplitude 1 has 0 dB.

    Args:
        wave: Amplitudes.
        window: Samples of a (Hann) frame; frequency f, of window // 2 + 1 from 0 to rate / 2, is f rate / window Hz.
        hop: Samples from one frame to the next; frame k lies around sample k hop, with silence beyond the ends.
        floor: Lower levels are raised to this one.

    Example:
        >>> tone = torch.sin(2 * torch.pi * 0.125 * torch.arange(4096.0))[:, None]
        >>> level = spectrogram(tone)
        >>> level.shape, abs(level[0, 128, 8].item()) < 0.01, level[0, 256, 8].item()
        (torch.Size([1, 513, 17]), True, -100.0)
    """
    hann = torch.hann_window(window, dtype=wave.dtype, device=wave.device)
    frames = torch.stft(wave.mT, window, hop, window=hann, center=True, pad_mode="constant", return_complex=True)
    amplitude = frames.abs() * (2 / hann.sum())
    return 20 * amplitude.clamp(min=10 ** (floor / 20)).log10()
