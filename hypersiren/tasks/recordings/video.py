"""Video: fit one field to a clip, x = (time, row, column) (paper, supplement: video).

The clip stays as its bytes, and a step takes random pixels of it: neither its floats nor its grid is ever in memory.
Values are in [-1, 1]; errors are reported on [0, 1] after clipping.

Symbols: T frames, H x W pixels, C channels, N points of a batch.
"""

from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from hypersiren.fields.coords import cell_centers, strata
from hypersiren.fields.operators import Field
from hypersiren.fields.render import render_frames, unit
from hypersiren.signals.metrics import image_mse, image_psnr
from hypersiren.signals.video.opening import as_frames, open_clip
from hypersiren.tasks.panels import Panel, VideoPanel
from hypersiren.tasks.recordings.settings import VideoSettings
from hypersiren.tasks.task import FieldTask, Points, content_digest


class Video(FieldTask):
    """The video task.

    Args:
        frames: A file or folder; or an array or tensor (T, H, W, C) or (T, H, W), uint8, or floats in [0, 1]; see
            `hypersiren.signals.video.opening.as_frames`. A tensor stays on its device: there the task runs.
        fps: Frames per second, of an array; a file has its own.
        points: Random pixels a step; None for all in every step.

    Raises:
        SignalError: If it is no video, or cannot be read.

    Example:
        >>> task = Video(torch.zeros(5, 8, 6, 3, dtype=torch.uint8), fps=25, points=10)
        >>> batch = task.sample(torch.Generator().manual_seed(0))
        >>> batch.x.shape, batch.y.shape
        (torch.Size([10, 3]), torch.Size([10, 3]))
    """

    name = "video"
    defaults = VideoSettings()
    unit = "points"
    criterion: str | None = "mse"
    in_features = 3

    def __init__(self, frames: Any, fps: float | None = None, *, points: int | None = None):
        pixels, fps = as_frames(frames, fps)
        self.pixels: UInt8[Tensor, "T H W C"] = pixels
        self.fps: float = fps
        self.out_features = pixels.shape[3]
        self.samples: tuple[int, ...] = tuple(pixels.shape[:3])
        self.device = pixels.device
        self.playback = {"fps": fps}
        self.colors = pixels.flatten(0, 2)
        self.batch_size = min(points or len(self.colors), len(self.colors))

    @classmethod
    def open(cls, settings: Any, device: torch.device | str = "cpu") -> "Video":
        """The task of a video.

        Args:
            settings: `VideoSettings`.
            device: Where to compute.

        Raises:
            SignalError: If it cannot be read, or no frame lies in the part.
        """
        signal = settings.signal
        part = signal.model_dump(include={"start", "stop", "frames", "size"})
        clip = open_clip(signal.path, **part)
        return cls(torch.from_numpy(clip.pixels).to(device), clip.fps, points=settings.training.points)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Points:
        """Random pixels, spread evenly, or all of them."""
        n = len(self.colors)
        if self.batch_size == n:
            index = torch.arange(n, device=self.device)
        else:
            index = strata(n, self.batch_size, generator, self.device)
        return Points(cell_centers(index, self.samples), self.colors[index] / 127.5 - 1)

    def loss(self, field: Field, batch: Points) -> dict[str, Tensor]:
        """The mean squared error, values in [-1, 1]."""
        return {"mse": (field(batch.x) - batch.y).square().mean()}

    def digest(self) -> str:
        return content_digest(self.pixels, self.fps)

    def evaluate(self, field: Field) -> dict[str, float]:
        """Mean and deviation of the frames' PSNR in dB, and the mean squared error, over all frames."""
        errors, decibels = [], []
        for fit, truth in zip(render_frames(field, self.samples, device=self.device), self.pixels, strict=True):
            frame, true = unit(fit)[None], truth[None] / 255
            errors.append(image_mse(frame, true))
            decibels.append(image_psnr(frame, true))
        psnr = torch.cat(decibels)
        deviation = psnr.std(correction=0).item()
        return {"mse": torch.cat(errors).mean().item(), "psnr": psnr.mean().item(), "psnr_deviation": deviation}

    def panels(self, field: Field) -> dict[str, Panel]:
        """The clip beside the truth."""
        fit = torch.empty_like(self.pixels)
        for i, frame in enumerate(render_frames(field, self.samples, device=self.device)):
            fit[i] = unit(frame).mul(255).round()
        return {"fit": VideoPanel(fit, self.fps), "true_fit": VideoPanel(self.pixels, self.fps)}
