"""Configuration of the tasks on recordings: audio, video, sets of sounds. Pure description."""

from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from hypersiren.fields.settings import Network
from hypersiren.settings.section import NotNegative, Section, Size
from hypersiren.tasks.settings import FitSettings, FitTraining


class AudioSignal(Section):
    """The sound: each channel is an output of the field."""

    path: Path = Path("chime")
    """File that libsndfile reads; chime: a synthesised sound."""
    start: NotNegative = 0.0
    """Second at which the part begins that is taken."""
    stop: PositiveFloat | None = None
    """Second at which it ends; null: the end of the file."""


class AudioSettings(FitSettings):
    """Fit a field to a sound."""

    signal: AudioSignal = AudioSignal()
    network: Network = Network(kind=None, first_omega=None)
    training: FitTraining = FitTraining(points=4096, lr=7e-4, decay="exponential")


class VideoSignal(Section):
    """The video."""

    path: Path = Path("coffee")
    """File that FFmpeg decodes, GIF, folder of pictures, or .npy; or the name of a photograph that scikit-image ships,
    for a synthesised flight over it."""
    start: NotNegative = 0.0
    """Second at which the part begins that is taken."""
    stop: PositiveFloat | None = None
    """Second at which it ends; null: the end of the file."""
    frames: PositiveInt | None = None
    """Largest number of frames."""
    size: Size | None = None
    """Pixels: one number for a square, or [height, width]; the largest central part is resized. null: the file's."""


class VideoSettings(FitSettings):
    """Fit a field to a video."""

    signal: VideoSignal = VideoSignal()
    network: Network = Network(kind=None)
    training: FitTraining = FitTraining(points=4096, lr=2e-3, decay="exponential")
