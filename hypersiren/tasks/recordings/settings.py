"""Configuration of the tasks on recordings: audio, video. Pure description."""

from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from hypersiren.fields.settings import Network
from hypersiren.settings import NotNegative, Section, Size
from hypersiren.tasks.settings import FitSettings, FitTraining


class AudioSignal(Section):
    """The sound: each channel is an output of the field."""

    path: Path = Path("chime")
    """File of any kind that libsndfile reads; chime: a sound that is made here."""
    start: NotNegative = 0.0
    """Second at which the part begins that is taken."""
    stop: PositiveFloat | None = None
    """Second at which it ends; null: the end of the file."""


class AudioSettings(FitSettings):
    """Fit a field to a sound."""

    signal: AudioSignal = AudioSignal()
    network: Network = Network(first_omega=None)
    training: FitTraining = FitTraining(steps=2000, points=4096, optimizer="adam", lr=5e-4)


class VideoSignal(Section):
    """The video."""

    path: Path = Path("coffee")
    """File that FFmpeg decodes, GIF, folder of pictures, or .npy; or a photograph that scikit-image ships, by its name,
    as for an image: a flight over it that is made here."""
    start: NotNegative = 0.0
    """Second at which the part begins that is taken."""
    stop: PositiveFloat | None = None
    """Second at which it ends; null: the end of the file."""
    frames: PositiveInt | None = None
    """Most frames that are taken."""
    size: Size | None = None
    """Pixels: one number for a square, or [height, width], of the largest central part; null: the file's."""


class VideoSettings(FitSettings):
    """Fit a field to a video."""

    signal: VideoSignal = VideoSignal()
    training: FitTraining = FitTraining(steps=1500, points=4096, lr=4e-4)
