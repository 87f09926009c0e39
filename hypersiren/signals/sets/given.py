"""Images that a user hands over from Python as a set: arrays, tensors, files, Pillow images, or a Dataset of them.

Symbols: M images, H height, W width, C channels.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hypersiren.errors import UserError
from hypersiren.signals.image.files import read_image
from hypersiren.signals.sets.images import ImageSet
from hypersiren.signals.sets.splits import DatasetError
from hypersiren.values import channels_last, to_signed

Images = np.ndarray | Tensor | Sequence[Any] | Dataset[Any]
"""What `as_images` makes a set of."""


def as_images(images: ImageSet | Images, name: str = "images", range: tuple[float, float] | None = None) -> ImageSet:
    """A set of images of one size, held in memory unless it is a set already (see `load_images` for larger ones).

    Args:
        images: A set, as it is; or an array or tensor (M, H, W), (M, H, W, 1) or (M, H, W, 3), by the rule of
            `hypersiren.Image`: uint8, uint16, bool, or floats in [-1, 1] (in [0, 1] if none is negative); or a sequence
            of pictures of one size (files, Pillow images, arrays), or a `torch.utils.data.Dataset` of them or of
            (picture, label) pairs.
        name: What people call it.
        range: What the values run over, from black to white, where that rule is not meant.

    Raises:
        DatasetError: If it is none of these; the message says what was expected and what came.

    Example:
        >>> as_images(np.zeros((5, 8, 6), np.uint8)).pixels.shape
        torch.Size([5, 8, 6, 1])
        >>> as_images(np.full((5, 8, 6), 7.0))
        Traceback (most recent call last):
        ...
        hypersiren.signals.sets.splits.DatasetError: images: expected values in [-1, 1], got 7 to 7: give
        range=(low, high), the values of black and white
    """
    if isinstance(images, ImageSet):
        return images
    if not isinstance(images, np.ndarray | Tensor):
        images = _stacked([_picture(image, i) for i, image in enumerate(_items(images))])
    pixels = torch.as_tensor(images)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or not len(pixels):
        mend = channels_last(tuple(images.shape), isinstance(images, Tensor))
        raise DatasetError(f"images: expected (M, H, W), (M, H, W, 1) or (M, H, W, 3), got {tuple(images.shape)}{mend}")
    if pixels.dtype != torch.uint8 or range is not None:
        try:
            pixels = ((to_signed(pixels, range, whole_set=True) + 1) * 127.5).round().to(torch.uint8)
        except UserError as error:
            raise DatasetError(f"images: {error}") from None
    return ImageSet(pixels, name)


def split_images(train: ImageSet, validation: ImageSet | None) -> tuple[ImageSet, ImageSet]:
    """Both sets; without one for validation every tenth image is held out for it.

    Raises:
        DatasetError: If there are fewer than two images to split.
    """
    if validation is not None:
        return train, validation
    if len(train) < 2:
        raise DatasetError(f"images: expected at least 2, to hold one out for validation, got {len(train)}")
    held = torch.arange(len(train), device=train.pixels.device) % 10 == min(9, len(train) - 1)
    return train.at(~held), train.at(held)


def _items(images: Any) -> Iterator[Any]:
    """The items of a sequence, or of a map-style Dataset, whose pairs hold a picture and its label."""
    try:
        count = len(images)
    except TypeError:
        raise DatasetError(
            f"images: expected an array, a sequence or a Dataset, got a {type(images).__name__}"
        ) from None
    for i in range(count):
        item = images[i]
        yield item[0] if isinstance(item, tuple) else item


def _stacked(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, C) of one size, number of channels and type as one array; an error names two that differ."""
    if not pictures:
        raise DatasetError("images: expected at least one, got none")
    for what in ("shape", "dtype"):
        first = getattr(pictures[0], what)
        for i, picture in enumerate(pictures):
            if (found := getattr(picture, what)) != first:
                kind = "size and one number of channels (H, W, C)" if what == "shape" else "type"
                raise DatasetError(f"images: expected one {kind}, got {first} of image 0 and {found} of image {i}")
    return np.stack(pictures)


def _picture(image: Any, index: int) -> np.ndarray:
    """One picture as (H, W, C)."""
    if isinstance(image, str | os.PathLike):
        image = read_image(image)
    elif isinstance(image, Tensor):
        image = image.numpy(force=True)
        if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
            image = image.transpose(1, 2, 0)  # as torchvision's ToTensor has them
    array = np.asarray(image)
    if array.ndim not in (2, 3):
        raise DatasetError(f"images: expected (H, W) or (H, W, C) of image {index}, got {array.shape}")
    return array[..., None] if array.ndim == 2 else array
