"""Pictures of one person's concern: opened as a tensor, and derivatives of fields drawn so that a person can read them.

Letters in shapes: H height, W width, C channels.
"""

import os

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import convert_image, fit_image, read_image

SAMPLES = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
    "immunohistochemistry", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
"""Photographs that scikit-image ships; their names stand for them where no file is called so."""


def open_picture(
    path: str | os.PathLike[str], *, gray: bool | None = None, size: int | tuple[int, int] | None = None
) -> Float[Tensor, "H W C"]:
    """A picture as values in [-1, 1].

    Args:
        path: A file of any format Pillow reads (see `hypersiren.signals.image.files.read_image`), or one of `SAMPLES`.
        gray: One channel, or three; None for what the file has.
        size: Pixels, one number for a square, or (H, W): the largest central rectangle of that shape is resized; None
            keeps the file's.

    Raises:
        SignalError: If it cannot be read.

    Example:
        >>> open_picture("camera", size=64).shape
        torch.Size([64, 64, 1])
    """
    shape = (size, size) if isinstance(size, int) else size
    if str(path) in SAMPLES and not os.path.exists(path):
        from skimage import data  # heavy

        pixels = getattr(data, str(path))()
        image = convert_image(pixels, gray=pixels.ndim == 2 if gray is None else gray)
        pixels = fit_image(image, shape or image.size[::-1])
    else:
        pixels = read_image(path, gray=is_gray(path) if gray is None else gray, size=shape)
    return torch.from_numpy(pixels) / 127.5 - 1


def is_gray(path: str | os.PathLike[str]) -> bool:
    """Whether an image file holds no colour; False if it cannot be opened."""
    try:
        with Image.open(path) as image:
            return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
    except Exception:  # `read_image` says what is wrong with it
        return False


def open_mask(
    path: str | os.PathLike[str], picture: str | os.PathLike[str], size: int | tuple[int, int] | None = None
) -> Bool[Tensor, "H W"]:
    """A mask image, True where it is bright (128 or more), brought to the size that its picture is brought to.

    Args:
        path: The mask, of the picture's size.
        picture: The picture's file, or one of `SAMPLES`.
        size: As for the picture.

    Raises:
        SignalError: If it cannot be read, or has not the picture's size.
    """
    pixels = read_image(path, gray=True)
    (h, w), wanted = pixels.shape[:2], open_picture(picture).shape[:2]
    if (h, w) != tuple(wanted):
        raise SignalError(f"expected a mask of the picture's {wanted[1]}x{wanted[0]} pixels, got {w}x{h}", path)
    shape = (size, size) if isinstance(size, int) else size or (h, w)
    return torch.from_numpy(fit_image(pixels, shape)[..., 0] >= 128)
