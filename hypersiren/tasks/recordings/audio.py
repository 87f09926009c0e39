"""Audio: fit one field to a sound, x = time in [-1, 1], a channel of the sound each output (paper, supplement: audio).

The wave is scaled to a maximum of 1, and errors are reported on that scale. A SIREN's first omega decides whether it
learns a sound at all. The paper has the coordinates run over [-100, 100], an omega of 3000, for its clips; here it is
chosen for each, so that the frequencies of the first layer have the root mean square of the sound's angular frequency
over x, in which duration and spectrum are both.

Symbols: N samples, C channels.
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.coords import cell_centers, grid, strata
from hypersiren.fields.operators import Field
from hypersiren.fields.render import render_sound
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep
from hypersiren.plotting import Plot
from hypersiren.signals.metrics import log_spectral_distance, mean_square, si_snr, snr
from hypersiren.signals.sound.opening import as_wave, open_sound
from hypersiren.signals.sound.picture import level_picture, waveform
from hypersiren.signals.sound.spectrum import rms_omega, spectrogram
from hypersiren.tasks.panels import Panel, SoundPanel
from hypersiren.tasks.recordings.settings import AudioSettings
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import LEAST_OMEGA, FieldTask, Points, content_digest
from hypersiren.tasks.windows import solve_windows

SHOWN_CHANNELS = 2
"""Channels of a summary at most."""


class Audio(FieldTask):
    """The audio task.

    Args:
        wave: A file, which is scaled to a maximum of 1; or an array or tensor (N,) or (N, C), floats in [-1, 1], int16
            or int32; see `hypersiren.signals.sound.opening.as_wave`. A tensor stays on its device: there the task runs.
        rate: Samples per second, of an array; a file has its own.
        scale: What an array's amplitudes were divided by; files are written with it.
        points: Random samples a step; None for all in every step, as in the paper.

    Raises:
        SignalError: If it is no sound, cannot be read, or goes beyond 1.

    Example:
        >>> task = Audio(torch.zeros(8000, 2), rate=8000, points=10)
        >>> batch = task.sample(torch.Generator().manual_seed(0))
        >>> batch.x.shape, batch.y.shape
        (torch.Size([10, 1]), torch.Size([10, 2]))
    """

    name = "audio"
    windowed = True
    defaults = AudioSettings()
    unit = "points"
    criterion: str | None = "mse"
    in_features = 1
    measures = (
        Measure("si_snr", "scale-invariant SNR", "dB", "higher"),
        Measure("snr", "SNR", "dB", "higher"),
        Measure("spectral_distance", "log-spectral distance", "dB"),
        Measure("mse", "mean squared error of the scaled sound"),
    )

    def __init__(self, wave: Any, rate: float | None = None, *, scale: float | None = None, points: int | None = None):
        wave, rate, scale = as_wave(wave, rate, scale)
        self.wave: Float[Tensor, "N C"] = wave
        self.rate: int = rate
        self.out_features = wave.shape[1]
        self.samples = (len(wave),)
        self.device = wave.device
        self.playback = {"kind": "sound", "rate": rate, "scale": scale}
        # Frequencies spread evenly up to omega have a root mean square of omega / sqrt(3): the sound's.
        self.first_omega = max(LEAST_OMEGA, math.sqrt(3) * rms_omega(wave))
        self.batch_size = min(points or len(wave), len(wave))

    @classmethod
    def open(cls, settings: AudioSettings, device: torch.device | str = "cpu") -> "Audio":
        """The task of a sound file.

        Args:
            settings: `AudioSettings`.
            device: Where to compute.

        Raises:
            SignalError: If the file cannot be read, the part does not lie within it, or it is silent.
        """
        signal = settings.signal
        sound, scale = open_sound(signal.path, signal.start, signal.stop)
        return cls(torch.from_numpy(sound.wave).to(device), sound.rate, scale=scale, points=settings.training.points)

    def windowed_field(self, network: Network, keep: Keep | None = None) -> nn.Module:
        """The windowed field of the wave."""
        return solve_windows(
            self.samples,
            lambda a, b: self.wave[a:b],
            self.out_features,
            network,
            self.device,
            keep=keep,
            memo=self.memo,
        )

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Points:
        """Random samples, spread evenly, or all of them."""
        n = len(self.wave)
        if self.batch_size == n:
            return Points(grid((n,), device=self.device), self.wave)
        index = strata(n, self.batch_size, generator, self.device)
        return Points(cell_centers(index, (n,)), self.wave[index])

    def loss(self, field: Field, batch: Points) -> dict[str, Tensor]:
        """The mean squared error of the scaled wave."""
        return {"mse": (field(batch.x) - batch.y).square().mean()}

    def digest(self) -> str:
        return content_digest(self.wave, self.rate, self.playback["scale"])

    def evaluate(self, field: Field) -> dict[str, float]:
        """Errors of the whole scaled wave: MSE, SNR and scale-invariant SNR in dB, log-spectral distance in dB."""
        fit = self.once(field, self.render)
        return {
            "mse": mean_square(fit, self.wave),
            "snr": snr(fit, self.wave).item(),
            "si_snr": si_snr(fit, self.wave).item(),
            "spectral_distance": log_spectral_distance(fit, self.wave).item(),
        }

    def panels(self, field: Field) -> dict[str, Panel]:
        """The sound and the truth."""
        fit = self.once(field, self.render)
        pairs = {"fit": fit, "true_fit": self.wave}
        return {name: SoundPanel(wave * self.playback["scale"], self.rate) for name, wave in pairs.items()}

    def summary(self, field: Field) -> Rows:
        """Waveforms and spectrograms of truth, result and error; of the first channels."""
        fit = self.once(field, self.render)
        hop = max(256, len(fit) // 1000)  # no more frames than a picture has columns
        top = float(10 * np.ceil(spectrogram(self.wave, hop=hop).max().item() / 10))
        rows: list[dict[str, Plot]] = [{} for _ in range(2 * min(SHOWN_CHANNELS, self.out_features))]
        for name, kind, wave in (
            ("true_", "Truth", self.wave), ("", "Result", fit), ("error_", "Error (result - truth)", fit - self.wave)
        ):  # fmt: skip
            levels = spectrogram(wave, hop=hop).cpu().numpy()
            for i in range(len(rows) // 2):
                title = kind if self.out_features == 1 else f"{kind}, channel {i + 1}"
                amplitudes = wave[:, i].cpu().numpy()
                rows[2 * i][f"{name}waveform_{i + 1}"] = waveform(amplitudes, self.seconds, 1.0, title=title)
                level = level_picture(levels[i], self.seconds, self.rate, top, title=f"{title}: spectrogram")
                rows[2 * i + 1][f"{name}spectrogram_{i + 1}"] = level
        return rows

    def render(self, field: Field) -> Float[Tensor, "N C"]:
        """The scaled wave of a field."""
        return render_sound(field, len(self.wave), device=self.device)

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.rate
