"""Pictures of one person's concern: opened as a tensor, and derivatives of fields drawn so that a person can read them.

Letters in shapes: H height, W width, C channels.
"""

import os

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from hypersiren.signals import SignalError, convert_image, fit_image, read_image

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
        path: A file of any format Pillow reads (see `hypersiren.signals.read_image`), or one of `SAMPLES`.
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


def draw_gradient(gradient: Float[Tensor, "H W C D"]) -> Float[Tensor, "H W 3"]:
    """A gradient as colour: its direction as hue, its strength as brightness (the 99th percentile is full).

    Channels are averaged. Down is along axis 0, right along axis 1.

    Example:
        >>> draw_gradient(torch.tensor([0.0, 1.0]).expand(1, 1, 1, 2))  # to the right: red
        tensor([[[1., 0., 0.]]])
    """
    down, right = gradient.float().mean(-2).unbind(-1)
    strength = torch.hypot(down, right)
    full = _percentile(strength, 0.99)
    hue = torch.atan2(down, right) / (2 * torch.pi) * 6  # in sixths of the circle
    corners = torch.tensor([0.0, 2.0, 4.0], device=hue.device)  # red, green, blue
    distance = ((hue[..., None] - corners + 3) % 6 - 3).abs()
    return (2 - distance).clamp(0, 1) * (strength / full).clamp(0, 1)[..., None]


def draw_signed(values: Float[Tensor, "H W C"]) -> Float[Tensor, "H W C"]:
    """Signed values as gray or colour: 0 is mid gray, the 99th percentile of the size is black or white.

    Example:
        >>> draw_signed(torch.tensor([-2.0, 0.0, 2.0]).view(1, 3, 1)).flatten().tolist()
        [0.0, 0.5, 1.0]
    """
    return (0.5 + 0.5 * values.float() / _percentile(values.abs(), 0.99)).clamp(0, 1)


def draw_wave(values: Float[Tensor, "*shape"], full: float) -> Float[Tensor, "*shape 3"]:
    """Signed values as colour: 0 is white, `full` and beyond red, -`full` blue.

    Example:
        >>> draw_wave(torch.tensor([-2.0, 0.0, 1.0]), full=2.0).tolist()
        [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.5, 0.5]]
    """
    part = (values.float() / full).clamp(-1, 1)
    return torch.stack([1 + part.clamp(max=0), 1 - part.abs(), 1 - part.clamp(min=0)], dim=-1)


def _percentile(values: Tensor, share: float) -> Tensor:
    flat = values.float().flatten()
    flat = flat[:: max(1, len(flat) // 1_000_000)]  # torch.quantile takes no more than 16 million
    return torch.quantile(flat, share).clamp_min(torch.finfo(torch.float32).tiny)
