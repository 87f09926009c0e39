"""Video: fit one field to a clip, x = (time, row, column) (paper, supplement: video).

The clip stays as its bytes, and a step takes random pixels of it: neither its floats nor its grid is ever in memory.
Values are in [-1, 1]; errors are reported on [0, 1] after clipping.

Symbols: T frames, H x W pixels, C channels, N points of a batch.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from hypersiren.fields.coords import cell_centers, strata
from hypersiren.fields.operators import Field
from hypersiren.fields.render import render_frames, unit
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep
from hypersiren.plotting import Curve, Picture, Plot, beside
from hypersiren.signals.metrics import image_mse, image_psnr
from hypersiren.signals.video.opening import as_frames, open_clip
from hypersiren.tasks.images.derivatives import image_row
from hypersiren.tasks.panels import Panel, VideoPanel
from hypersiren.tasks.recordings.settings import VideoSettings
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import FieldTask, Points, content_digest
from hypersiren.tasks.windows import solve_windows

SHOWN = 4
"""Frames of a summary, evenly through the clip."""


@dataclass(frozen=True)
class Frames:
    """A clip that a field gives, and its errors.

    Attributes:
        pixels: The clip, rounded.
        mse, psnr: Mean squared error and PSNR of each frame, not rounded.
        shown: The frames of a summary on [0, 1], by their numbers.
    """

    pixels: UInt8[Tensor, "T H W C"]
    mse: Float[Tensor, " T"]
    psnr: Float[Tensor, " T"]
    shown: dict[int, Float[Tensor, "H W C"]]


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
    windowed = True
    defaults = VideoSettings()
    unit = "points"
    criterion: str | None = "mse"
    in_features = 3
    measures = (
        Measure("psnr", "PSNR, mean of the frames", "dB", "higher"),
        Measure("psnr_deviation", "standard deviation of the PSNR", "dB, over the frames", ""),
        Measure("mse", "mean squared error on [0, 1]"),
    )

    def __init__(self, frames: Any, fps: float | None = None, *, points: int | None = None):
        pixels, fps = as_frames(frames, fps)
        self.pixels: UInt8[Tensor, "T H W C"] = pixels
        self.fps: float = fps
        self.out_features = pixels.shape[3]
        self.samples: tuple[int, ...] = tuple(pixels.shape[:3])
        self.device = pixels.device
        self.playback = {"kind": "video", "fps": fps}
        self.colors = pixels.flatten(0, 2)
        self.batch_size = min(points or len(self.colors), len(self.colors))

    @classmethod
    def open(cls, settings: VideoSettings, device: torch.device | str = "cpu") -> "Video":
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

    def windowed_field(self, network: Network, keep: Keep | None = None) -> nn.Module:
        """The windowed field of the clip."""
        return solve_windows(
            self.samples,
            lambda a, b: self.pixels[a:b] / 127.5 - 1,
            self.out_features,
            network,
            self.device,
            keep=keep,
            memo=self.memo,
        )

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
        found = self.once(field, self.render)
        deviation = found.psnr.std(correction=0).item()
        return {"mse": found.mse.mean().item(), "psnr": found.psnr.mean().item(), "psnr_deviation": deviation}

    def render(self, field: Field) -> Frames:
        """All frames with their errors, one after the other."""
        count = len(self.pixels)
        chosen = {round(i * (count - 1) / (SHOWN - 1)) for i in range(SHOWN)}
        pixels, shown = torch.empty_like(self.pixels), {}
        errors, decibels = [], []
        for i, frame in enumerate(render_frames(field, self.samples, device=self.device)):
            fit, truth = unit(frame), self.pixels[i : i + 1] / 255
            errors.append(image_mse(fit[None], truth))
            decibels.append(image_psnr(fit[None], truth))
            if i in chosen:
                shown[i] = fit
            pixels[i] = (255 * fit).round()
        return Frames(pixels, torch.cat(errors), torch.cat(decibels), shown)

    def panels(self, field: Field) -> dict[str, Panel]:
        """The clip, and beside the truth."""
        fit = self.once(field, self.render).pixels
        pair = {"truth": self.pixels.cpu().numpy(), "result": fit.cpu().numpy()}
        sides = VideoPanel(torch.from_numpy(beside(pair)), self.fps)
        return {"fit": VideoPanel(fit, self.fps), "side_by_side": sides}

    def summary(self, field: Field) -> Rows:
        """Frames of truth, result and error below each other, with their times; the PSNR of every frame."""
        found = self.once(field, self.render)
        columns: dict[int, dict[str, Picture]] = {}
        for i, fit in found.shown.items():
            time = f"t = {i / self.fps:.2f} s"
            titles = f"Truth, {time}", f"Result, {time}", f"Error, {time}"
            columns[i] = image_row(self.pixels[i] / 255, fit, titles)
        # One colour bar for all errors.
        top = max(limits[1] for column in columns.values() if (limits := column["error"].limits))
        rows: list[dict[str, Plot]] = [
            {f"{name}_{i}": column[name] for i, column in columns.items()} for name in ("true_fit", "fit")
        ]
        rows.append({f"error_{i}": replace(column["error"], limits=(0.0, top)) for i, column in columns.items()})
        lines = {"PSNR": ([i / self.fps for i in range(len(self.pixels))], found.psnr.tolist())}
        return [*rows, {"psnr": Curve("PSNR of each frame", lines, "time (s)", "PSNR (dB)")}]
