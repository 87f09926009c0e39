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


def rms_omega(wave: Float[Tensor, "N C"]) -> float:
    """Root mean square angular frequency of a sound over x in [-1, 1], its N samples evenly spread there.

    That of a tone of f Hz that lasts T seconds is pi f T. A sound's follows from its steps from sample to sample.

    Example:
        >>> tone = torch.sin(torch.pi * 100 * torch.linspace(-1, 1, 20_000))[:, None]
        >>> round(rms_omega(tone) / (torch.pi * 100), 2)
        1.0
    """
    if len(wave) < 2:
        return 0.0
    # Parseval: the slope's mean square, over the wave's. No spectrum of minutes of sound is needed.
    energy = wave.var(dim=0, correction=0).mean().item()
    slopes = wave.diff(dim=0).square_().mean().item()
    return len(wave) / 2 * (slopes / energy) ** 0.5 if energy else 0.0
