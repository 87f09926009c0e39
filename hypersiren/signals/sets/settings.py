"""Settings of a set of images. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from hypersiren.settings import Section


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
    flip: bool = True
    """Mirror half of the training images."""
    shift: Annotated[int, Field(ge=0)] = 2
    """Shift training images by up to so many pixels."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Magnify or shrink training images by up to this share."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 8.0
    """Turn training images by up to so many degrees."""
