"""Volume: fit one field to values on a raster of three axes, x = (slice, row, column).

Values are in [-1, 1]; errors are reported on [0, 1] after clipping, over all voxels that have a value.

Symbols: D slices, H x W voxels of a slice, C channels, N points of a batch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hypersiren.fields.coords import cell_centers, strata
from hypersiren.fields.operators import Field
from hypersiren.fields.render import render_frames, unit
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep
from hypersiren.plotting import Curve, Picture
from hypersiren.signals.arrays import check_values, dtype_name, find_range, to_tensor
from hypersiren.signals.files import SignalError
from hypersiren.signals.volume.files import read_volume
from hypersiren.tasks.images.bands import FalseColour
from hypersiren.tasks.panels import ImagePanel, Panel, VideoPanel
from hypersiren.tasks.summary import Measure, Rows, error_picture
from hypersiren.tasks.task import FieldTask, Points, content_digest
from hypersiren.tasks.volumes.settings import VolumeSettings
from hypersiren.tasks.windows import solve_windows

PLANES = ("slice", "row", "column")
"""What a plane across each axis is called."""

FPS = 12.0
"""Slices a second of the clip that runs through a volume."""


@dataclass(frozen=True)
class Slices:
    """A volume that a field gives, and its errors.

    Attributes:
        values: On [0, 1].
        mse: Mean squared error of each slice, over its voxels that have a value; NaN where none has.
        total: Over all voxels that have a value.
    """

    values: Float[Tensor, "D H W C"]
    mse: Float[Tensor, " D"]
    total: float


class Volume(FieldTask):
    """The volume task.

    Args:
        volume: A file or folder, see `hypersiren.signals.volume.files.read_volume`; or an array or tensor (D, H, W) or
            (D, H, W, C), floats in [-1, 1], uint8, or of any numbers with a range. A tensor stays on its device.
        points: Random voxels a step; None for all in every step.
        range: What -1 and 1 of the field are in an array or a file, (low, high).
        valid: (D, H, W) bools, which voxels have a value; None for all. Others are not looked at.
        units: What -1 and 1 are called when the volume is written again; None for the range.

    Raises:
        SignalError: If it is no volume, or cannot be read.

    Example:
        >>> task = Volume(torch.zeros(5, 8, 6), points=10)
        >>> batch = task.sample(torch.Generator().manual_seed(0))
        >>> batch.x.shape, batch.y.shape
        (torch.Size([10, 3]), torch.Size([10, 1]))
    """

    name = "volume"
    windowed = True
    defaults = VolumeSettings()
    unit = "points"
    criterion: str | None = "mse"
    in_features = 3
    measures = (
        Measure("psnr", "PSNR", "dB", "higher"),
        Measure("mse", "mean squared error on [0, 1]"),
    )

    def __init__(
        self,
        volume: Any,
        *,
        points: int | None = None,
        range: tuple[float, float] | None = None,
        valid: Any = None,
        units: tuple[float, float] | None = None,
    ):
        if isinstance(volume, str) or hasattr(volume, "__fspath__"):
            read = read_volume(volume, range=range)
            volume, valid, units, range = torch.from_numpy(read.values), read.valid, read.units, (-1, 1)
        self.values, ends = _as_values(volume, range)
        self.out_features = self.values.shape[3]
        self.samples: tuple[int, ...] = tuple(self.values.shape[:3])
        self.device = self.values.device
        self.valid: Bool[Tensor, "D H W"] | None = None
        if valid is not None:
            self.valid = to_tensor(valid, "a mask of bools").to(self.device)
            if self.valid.dtype != torch.bool or self.valid.shape != self.samples or not self.valid.any():
                raise SignalError(f"expected bools of {self.samples}, of which some are True, got {tuple(valid.shape)}")
        self.shown = (
            None if self.out_features in (1, 3) else FalseColour.of((self.values[len(self.values) // 2] + 1) / 2)
        )
        self.playback: Mapping[str, Any] = {"kind": "volume", "units": list(units or ends)}
        if self.shown is not None:
            self.playback = {**self.playback, **self.shown.playback}
        count = math.prod(self.samples)
        self.batch_size = min(points or count, count)

    @classmethod
    def open(cls, settings: VolumeSettings, device: torch.device | str = "cpu") -> "Volume":
        """The task of a volume's file.

        Args:
            settings: `VolumeSettings`.
            device: Where to compute.

        Raises:
            SignalError: If it cannot be read.
        """
        signal = settings.signal
        found = read_volume(signal.path, range=signal.range, shrink=signal.shrink)
        values = torch.from_numpy(found.values).to(device)
        return cls(values, points=settings.training.points, range=(-1, 1), valid=found.valid, units=found.units)

    def windowed_field(self, network: Network, keep: Keep | None = None) -> nn.Module:
        """The windowed field of the volume."""
        return solve_windows(
            self.samples, lambda a, b: self.values[a:b], self.out_features, network, self.device,
            known=self.valid, keep=keep, memo=self.memo,
        )  # fmt: skip

    @cached_property
    def _places(self) -> Int[Tensor, " N"] | None:
        """Where the voxels are that have a value; None for everywhere. Found once: a GPU waits for their number."""
        return None if self.valid is None else self.valid.flatten().nonzero().squeeze(1)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Points:
        """Random voxels, spread evenly, or all of them; those that have a value."""
        n = math.prod(self.samples)
        if self.batch_size < n:
            index = strata(n, self.batch_size, generator, self.device)
        else:
            index = torch.arange(n, device=self.device)
        if (known := self._places) is not None:  # for others the nearest after them, which keeps batches of one size
            index = known[torch.searchsorted(known, index).clamp_max(len(known) - 1)]
        return Points(cell_centers(index, self.samples), self.values.flatten(0, 2)[index])

    def loss(self, field: Field, batch: Points) -> dict[str, Tensor]:
        """The mean squared error, values in [-1, 1]."""
        return {"mse": (field(batch.x) - batch.y).square().mean()}

    def digest(self) -> str:
        return content_digest(self.values, *(() if self.valid is None else (self.valid,)))

    def evaluate(self, field: Field) -> dict[str, float]:
        """PSNR in dB of the mean squared error over all voxels, and that error."""
        mse = self.once(field, self.render).total
        return {"mse": mse, "psnr": math.inf if mse == 0 else -10 * math.log10(mse)}

    def render(self, field: Field) -> Slices:
        """All slices with their errors, one after the other."""
        values, errors, counts = torch.empty_like(self.values), [], []
        for i, each in enumerate(render_frames(field, self.samples, device=self.device)):
            values[i] = unit(each)
            error = (values[i].double() - (self.values[i].double() + 1) / 2).square().mean(-1)
            known = torch.ones_like(error, dtype=torch.bool) if self.valid is None else self.valid[i]
            errors.append(error[known].sum())
            counts.append(known.sum())
        total, count = torch.stack(errors), torch.stack(counts)
        return Slices(values, (total / count).float(), (total.sum() / count.sum()).item())

    def panels(self, field: Field) -> dict[str, Panel]:
        """A clip through the slices, and the three planes through the middle."""
        fit = self.once(field, self.render).values
        frames = torch.stack([(255 * self._colours(each)).round().to(torch.uint8) for each in fit])
        planes = {f"fit_{name}": ImagePanel(self._colours(_plane(fit, axis))) for axis, name in enumerate(PLANES)}
        return {"fit": VideoPanel(frames, FPS), **planes}

    def summary(self, field: Field) -> Rows:
        """The three planes through the middle of truth, result and error; the PSNR of every slice."""
        found = self.once(field, self.render)
        truth = (self.values + 1) / 2
        if self.valid is not None:
            truth = torch.where(self.valid[..., None], truth, 0.5)
        rows: list[dict[str, Any]] = []
        words = f"\n({self.shown.words})" if self.shown is not None else ""
        for axis, name in enumerate(PLANES):
            where = f"{name} {self.samples[axis] // 2 + 1} of {self.samples[axis]}{words}"
            true, fit = _plane(truth, axis), _plane(found.values, axis)
            error = (fit - true).square().mean(-1).sqrt().cpu().numpy()
            rows.append({
                f"true_fit_{name}": Picture(f"Truth, {where}", self._colours(true).cpu().numpy()),
                f"fit_{name}": Picture(f"Result, {where}", self._colours(fit).cpu().numpy()),
                f"error_{name}": error_picture("Error", error, "error, values in [0, 1]"),
            })  # fmt: skip
        decibels = (-10 * found.mse.clamp_min(1e-20).log10()).tolist()
        lines = {"PSNR": (list(range(1, len(decibels) + 1)), decibels)}
        return [*rows, {"psnr": Curve("PSNR of each slice", lines, "slice", "PSNR (dB)")}]

    def _colours(self, plane: Float[Tensor, "H W C"]) -> Float[Tensor, "H W c"]:
        return plane if self.shown is None else self.shown(plane)


def _plane(values: Float[Tensor, "D H W C"], axis: int) -> Float[Tensor, "h w C"]:
    """The plane through the middle across an axis."""
    return values.select(axis, values.shape[axis] // 2)


def _as_values(volume: Any, given: tuple[float, float] | None) -> tuple[Float[Tensor, "D H W C"], tuple[float, float]]:
    """An array as values in [-1, 1], and what these ends were."""
    values = to_tensor(volume, "a volume as a path, a NumPy array or a tensor")
    values = values[..., None] if values.ndim == 3 else values
    if values.ndim != 4 or 0 in values.shape:
        raise SignalError(f"expected a volume (D, H, W) or (D, H, W, C), got {tuple(values.shape)}")
    if given is None and not values.is_floating_point() and values.dtype != torch.uint8:
        raise SignalError(f"expected range=(low, high), the values of -1 and 1, for {dtype_name(values)} voxels")
    low, high = find_range(values, given)
    exact = values.float() if values.dtype.itemsize <= 2 or values.dtype == torch.float32 else values.double()
    check_values(exact, low, high, "give range=(low, high), the values of -1 and 1 of the field")
    if (low, high) == (-1, 1):
        return exact.float(), (-1.0, 1.0)
    return ((exact - low) / ((high - low) / 2) - 1).float().clamp_(-1, 1), (float(low), float(high))
