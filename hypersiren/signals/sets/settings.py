"""Settings of a set of images or sounds. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from hypersiren.settings.section import Section

TORCHVISION = (
    "MNIST", "FashionMNIST", "KMNIST", "QMNIST", "USPS", "SEMEION", "Omniglot", "CIFAR10", "CIFAR100", "SVHN", "STL10",
    "Flowers102", "Food101", "DTD", "FGVCAircraft", "GTSRB", "PCAM", "Country211", "RenderedSST2", "OxfordIIITPet",
    "Imagenette", "ImageNet", "EuroSAT", "StanfordCars", "Caltech101", "Caltech256", "FER2013", "SUN397", "LFWPeople",
    "Places365",
)  # fmt: skip
"""Classes of torchvision.datasets whose items are (image, label)."""

IMAGE_KINDS = ("faces", "photos", "folder", "celeba", *TORCHVISION)
"""Values of data.kind by which settings are those of images."""

SOUND_KINDS = ("sounds",)
"""Values of data.kind by which settings are those of sounds."""


class ImageData(Section):
    """The set of images."""

    kind: str = "faces"
    """faces, photos, folder, celeba, or a set of torchvision's by its name, such as FashionMNIST or CIFAR10."""
    root: Path | None = None
    """Folder of the images (folder, celeba, torchvision's sets)."""
    size: PositiveInt | tuple[PositiveInt, PositiveInt] = 32
    """Pixels of an image: one number for a square, or [height, width]."""
    gray: bool = True
    """One channel instead of three."""
    crop: Literal["center", "none"] = "center"
    """center: the largest central rectangle of the right shape, resized; none: images must have the size already."""
    crops: PositiveInt | None = None
    """Random crops to cut for training (photos); null: 10,000."""
    download: bool = False
    """Let torchvision download its set."""
    in_memory: Literal["auto"] | bool = "auto"
    """false: leave the decoded images on disk, for sets larger than memory, and read those that a step needs; auto: if
    they take more than half of the free memory. The batches are the same."""
    flip: bool = True
    """Mirror half of the training images."""
    shift: Annotated[int, Field(ge=0)] = 2
    """Shift training images by up to so many pixels."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Magnify or shrink training images by up to this share."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 8.0
    """Turn training images by up to so many degrees."""


class SoundData(Section):
    """The set of sounds, and the windows that recordings are cut into."""

    kind: Literal["sounds"] = "sounds"
    """sounds: audio files in a folder; subfolders train, val and test are the splits, if there are any."""
    root: Path | None = None
    """Folder of the recordings, of any kind that libsndfile reads."""
    rate: PositiveInt = 8000
    """Samples a second; recordings of another rate are resampled, channels are averaged."""
    window: Annotated[int, Field(ge=8)] = 512
    """Samples of a window."""
    hop: PositiveInt | None = None
    """Samples from a training window to the next; null: half a window. Validation and test windows do not overlap."""
    partial: Literal["mask", "drop"] = "mask"
    """What becomes of a recording's last samples where they fill no window: kept, the rest being masked, or dropped."""
    silence: PositiveFloat = 60.0
    """Leave out windows that lie so many dB below the loudest window of their recording."""
