"""Video: fit one field to a clip, x = (time, row, column) (paper, supplement: video).

The clip stays as its bytes, and a step takes random pixels of it: neither its floats nor its grid is ever in memory.
Values are in [-1, 1]; errors are reported on [0, 1] after clipping.

Symbols: T frames, H x W pixels, C channels, N points of a batch.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hypersiren.coords import cell_centers, evaluate, grid, strata
from hypersiren.metrics import image_mse, image_psnr
from hypersiren.pictures import SAMPLES, open_picture
from hypersiren.signals import SignalError, to_uint8
from hypersiren.tasks import Field, Panel, VideoPanel
from hypersiren.tasks.image import Points
from hypersiren.video import Video as Clip
from hypersiren.video import flight, read_video


class Video:
    """The video task.

    Args:
        pixels: (T, H, W, C) uint8, on the device where it shall run.
        fps: Frames per second.
        points: Random pixels a step; None for all in every step.

    Example:
        >>> task = Video(torch.zeros(5, 8, 6, 3, dtype=torch.uint8), fps=25, points=10)
        >>> batch = task.sample(torch.Generator().manual_seed(0))
        >>> batch.x.shape, batch.y.shape
        (torch.Size([10, 3]), torch.Size([10, 3]))
    """

    name = "video"
    unit = "points"
    criterion: str | None = "mse"
    in_features = 3

    def __init__(self, pixels: UInt8[Tensor, "T H W C"], fps: float, *, points: int | None = None):
        self.pixels, self.fps = pixels, fps
        self.out_features = pixels.shape[3]
        self.samples: tuple[int, ...] = tuple(pixels.shape[:3])
        self.device = pixels.device
        self.playback = {"fps": fps}
        self.colors = pixels.flatten(0, 2)
        self.batch_size = min(points or len(self.colors), len(self.colors))

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        start: float = 0.0,
        stop: float | None = None,
        frames: int | None = None,
        size: int | tuple[int, int] | None = None,
        points: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> "Video":
        """The task of a video, see `hypersiren.fit_config`.

        Raises:
            SignalError: If it cannot be read, or no frame lies in the part.
        """
        shape = (size, size) if isinstance(size, int) else size
        if str(path) in SAMPLES and not Path(path).exists():
            clip = _flight(str(path), start, stop, frames, shape)
        else:
            clip = read_video(path, start=start, stop=stop, frames=frames, size=shape)
        return cls(torch.from_numpy(clip.pixels).to(device), clip.fps, points=points)

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

    def evaluate(self, field: Field) -> dict[str, float]:
        """Mean and deviation of the frames' PSNR in dB, and the mean squared error, over all frames."""
        errors, decibels = [], []
        for fit, truth in zip(render(field, self.samples, self.device), self.pixels, strict=True):
            frame, true = fit[None], truth[None] / 255
            errors.append(image_mse(frame, true))
            decibels.append(image_psnr(frame, true))
        psnr = torch.cat(decibels)
        deviation = psnr.std(correction=0).item()
        return {"mse": torch.cat(errors).mean().item(), "psnr": psnr.mean().item(), "psnr_deviation": deviation}

    def panels(self, field: Field) -> dict[str, Panel]:
        """The clip beside the truth."""
        fit = torch.empty_like(self.pixels)
        for i, frame in enumerate(render(field, self.samples, self.device)):
            fit[i] = frame.mul(255).round()
        return {"fit": VideoPanel(fit, self.fps), "true_fit": VideoPanel(self.pixels, self.fps)}


def render(field: Field, size: Sequence[int], device: torch.device | str = "cpu") -> Iterator[Float[Tensor, "H W C"]]:
    """The frames that a field is, one by one, on [0, 1]; `size` (T, H, W) may be any."""
    frames, height, width = size
    for t in range(frames):
        begin, end = 2 * t / frames - 1, 2 * (t + 1) / frames - 1
        x = grid((1, height, width), (begin, -1, -1), (end, 1, 1), device=device)
        yield ((evaluate(field, x, chunk=16384) + 1) / 2).clamp(0, 1).view(height, width, -1)


def _flight(name: str, start: float, stop: float | None, frames: int | None, size: tuple[int, int] | None) -> Clip:
    """A part of the flight over a photograph that scikit-image ships."""
    clip = flight(to_uint8((open_picture(name).numpy() + 1) / 2), size=size or (72, 96))
    first, last = math.ceil(start * clip.fps), None if stop is None else math.ceil(stop * clip.fps)
    pixels = clip.pixels[first:last][:frames]
    if not len(pixels):
        raise SignalError(f"expected a part within 0 to {len(clip.pixels) / clip.fps:g} s, got none", name)
    return Clip(pixels, clip.fps)
