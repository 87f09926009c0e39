"""Configuration of the task on volumes. Pure description."""

from pathlib import Path

from pydantic import PositiveInt

from hypersiren.fields.settings import Network
from hypersiren.settings.section import Section
from hypersiren.tasks.images.settings import Range
from hypersiren.tasks.settings import FitSettings, FitTraining


class VolumeSignal(Section):
    """The volume."""

    path: Path = Path("phantom")
    """File: .npy (D, H, W) or (D, H, W, C), TIFF of several pages, NIfTI, or a folder of pictures; phantom: one that is
    made here."""
    range: Range | None = None
    """Values in the file that are -1 and 1 of the field: -1000,3000; null: those of bytes, of floats in [0, 1], or the
    least and the largest."""
    shrink: PositiveInt = 1
    """Take the mean of so many voxels along each axis."""


class VolumeSettings(FitSettings):
    """Fit a field to a volume."""

    signal: VolumeSignal = VolumeSignal()
    network: Network = Network(kind=None)
    training: FitTraining = FitTraining(points=4096, lr=2e-3, decay="exponential")
