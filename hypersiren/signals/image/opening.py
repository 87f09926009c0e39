"""Pictures as tensors: whatever holds one as values in [-1, 1], with a mask where there is one.

Letters in shapes: H height, W width, C channels.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from hypersiren.errors import nearest
from hypersiren.signals.arrays import dtype_name, to_tensor
from hypersiren.signals.examples import PHOTOGRAPHS as SAMPLES
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import convert_image, fit_image, image_values, read_values
from hypersiren.signals.image.masks import read_mask
from hypersiren.values import to_signed


def as_pixels(
    image: Any, *, range: tuple[float, float] | None = None, bands: bool | None = False
) -> Float[Tensor, "H W C"]:
    """Whatever holds a picture as float32 values in [-1, 1], C = 1 or 3.

    Args:
        image: A file or one of `SAMPLES`, see `open_picture`; a PIL image, read as its file would be; or a NumPy array
            or tensor (H, W), (H, W, 1) or (H, W, 3). A tensor stays on its device, and is returned itself if nothing
            of it has to change.
        range: What the values run over, from black to white. Without it those of an array run over 0 to 255 (uint8), 0
            to 65535 (uint16), 0 to 1 (bool) or -1 to 1 (floats), and other integers must have it; those of a file or a
            PIL image run over what `hypersiren.signals.image.wide.limits` says.
        bands: Whether there may be any number of channels; None for yes, where an array leaves no doubt: at least 5 of
            them, and as many rows.

    Raises:
        SignalError: If it is something else, cannot be read, is empty or of another shape, or if values are NaN,
            infinite or outside their range.

    Warns:
        UserWarning: If floats without a range all lie in [0, 1], where [0, 1] may have been meant.

    Example:
        >>> as_pixels(np.array([[0, 255]], np.uint8)).tolist()
        [[[-1.0], [1.0]]]
        >>> as_pixels(torch.tensor([[0.0, 0.5]]), range=(0, 1)).tolist()
        [[[-1.0], [0.0]]]
        >>> as_pixels(np.zeros((3, 20, 30)))
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: expected (H, W), (H, W, 1) or (H, W, 3), got (3, 20, 30): channels come
        last, give image.transpose(1, 2, 0)
    """
    if isinstance(image, str | os.PathLike):
        return open_values(image, range=range, bands=bands is not False).pixels
    if isinstance(image, Image.Image):
        return torch.from_numpy(image_values(image, _checked(range)))
    values = to_tensor(image, "a picture as a path, a PIL image, a NumPy array or a tensor")
    values = values[..., None] if values.ndim == 2 else values
    clear = values.ndim == 3 and 0 not in values.shape and (bands or min(values.shape[0], values.shape[2]) > 4)
    if bands is False or not clear:
        _check_shape(values.shape, f"image.{'permute' if isinstance(image, Tensor) else 'transpose'}(1, 2, 0)")
    return to_signed(values, range, SignalError, stacklevel=4).float()


def as_mask(mask: Any, size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """A mask of a picture's size as a tensor, from a NumPy array or a tensor of bools.

    Raises:
        SignalError: If it is something else, has another size, or is nowhere True.

    Example:
        >>> as_mask(np.array([[0, 1]]), (1, 2))
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: expected a mask of bools, True where known, got int64: give mask > 0, say
    """
    known = to_tensor(mask, "a mask as a NumPy array or a tensor of bools")
    if known.dtype != torch.bool:
        raise SignalError(f"expected a mask of bools, True where known, got {dtype_name(known)}: give mask > 0, say")
    if known.shape != size or not known.any():
        raise SignalError(
            f"expected a mask of {size} with a known pixel, got {tuple(known.shape)} with {int(known.sum())}"
        )
    return known


def open_picture(
    path: str | os.PathLike[str],
    *,
    gray: bool | None = None,
    size: int | tuple[int, int] | None = None,
    range: tuple[float, float] | None = None,
) -> Float[Tensor, "H W C"]:
    """A picture as values in [-1, 1], in the precision of its file.

    Args:
        path: A file of any format Pillow reads (see `hypersiren.signals.image.files.read_values`), or one of `SAMPLES`.
        gray: One channel, or three; None for what the file has.
        size: Pixels, one number for a square, or (H, W): the largest central rectangle of that shape is resized; None
            keeps the file's.
        range: What black and white are, (low, high); None for what the file's type tells.

    Raises:
        SignalError: If it cannot be read.

    Example:
        >>> open_picture("camera", size=64).shape
        torch.Size([64, 64, 1])
    """
    return open_values(path, gray=gray, size=size, range=range).pixels


def open_masked(
    path: str | os.PathLike[str],
    mask: str | os.PathLike[str] | None,
    *,
    gray: bool | None = None,
    size: int | tuple[int, int] | None = None,
    range: tuple[float, float] | None = None,
    whole: bool = False,
) -> tuple[Float[Tensor, "H W C"], Bool[Tensor, "H W"] | None]:
    """A picture, and a mask that is an image file of its size. Each is opened once.

    Args:
        path, gray, size, range: As of `open_picture`.
        mask: The mask, see `hypersiren.signals.image.files.read_mask`, brought to the size that the picture is brought
            to; None for no mask.
        whole: Whether the mask may hold all of the picture.

    Raises:
        SignalError: If one cannot be read, or the mask has not the picture's size.
    """
    found = open_values(path, mask, gray=gray, size=size, range=range, whole=whole)
    return found.pixels, found.known


@dataclass(frozen=True)
class Opened:
    """A picture, or any raster of two axes, with what is known of it.

    Attributes:
        pixels: Values in [-1, 1]; 0 where nothing is known.
        known: Which may be learned from; None for all.
        valid: Which have a value in the file; None for all.
        range: What -1 and 1 are in the file.
    """

    pixels: Float[Tensor, "H W C"]
    known: Bool[Tensor, "H W"] | None = None
    valid: Bool[Tensor, "H W"] | None = None
    range: tuple[float, float] = (0.0, 255.0)


def open_values(
    path: str | os.PathLike[str],
    mask: str | os.PathLike[str] | None = None,
    *,
    gray: bool | None = None,
    size: int | tuple[int, int] | None = None,
    range: tuple[float, float] | None = None,
    whole: bool = False,
    bands: bool = False,
    holes: bool = False,
) -> Opened:
    """As `open_masked`, with all that the file says.

    Args:
        path, mask, gray, size, range, whole: As of `open_masked`. Where the mask is dark the picture may be anything.
        bands: Whether there may be any number of channels.
        holes: Whether there may be pixels without a value, which are not known then.

    Raises:
        SignalError: If one cannot be read, or the mask has not the picture's size.

    Example:
        >>> open_values("camera", size=8).pixels.shape
        torch.Size([8, 8, 1])
    """
    shape = (size, size) if isinstance(size, int) else size
    if str(path) in SAMPLES and not os.path.exists(path):
        pixels, before = _sample(path, gray, shape, range)
        if mask is None:
            return Opened(pixels)
        bright = fit_image(
            255 * read_mask(mask, before, whole=whole).astype(np.uint8), (pixels.shape[0], pixels.shape[1])
        )
        return Opened(pixels, torch.from_numpy(bright[..., 0] >= 128))
    if not os.path.exists(path) and (near := nearest(str(path), SAMPLES, 0.75)):
        raise SignalError(f'no such file; did you mean the photograph "{near}"?', path)
    found = read_values(
        path, gray=gray, size=shape, range=_checked(range), bands=bands, holes=holes,
        mask=None if mask is None else partial(read_mask, mask, whole=whole),
    )  # fmt: skip
    known, valid = (None if part is None else torch.from_numpy(part.copy()) for part in (found.known, found.valid))
    return Opened(torch.from_numpy(found.pixels), known, valid, found.range)


def _sample(
    path: str | os.PathLike[str],
    gray: bool | None,
    shape: tuple[int, int] | None,
    range: tuple[float, float] | None,
) -> tuple[Float[Tensor, "H W C"], tuple[int, int]]:
    """A photograph of scikit-image as values in [-1, 1], and its (H, W) before it was resized."""
    if range is not None:
        raise SignalError(f"expected no range with a photograph of scikit-image, got range={range}", path)
    pixels = photograph(str(path))
    image = convert_image(pixels, gray=pixels.ndim == 2 if gray is None else gray)
    whole = (image.height, image.width)
    return (torch.from_numpy(fit_image(image, shape or whole)) / 127.5).sub_(1), whole


def photograph(name: str) -> UInt8[np.ndarray, "H W *C"]:
    """A photograph that scikit-image ships, from its file: its own reader takes a third of a second to import."""
    from skimage import data  # heavy

    files = [Path(data.data_dir) / f"{name}{ending}" for ending in (".png", ".jpg")]
    found = next((file for file in files if file.exists()), None)
    if found is None:
        return getattr(data, name)()
    with Image.open(found) as image:
        return np.asarray(image)


def _check_shape(shape: Sequence[int], turned: str) -> None:
    """Raise a SignalError unless (H, W, C) is the shape of a picture; `turned` brings (C, H, W) to it."""
    if len(shape) == 3 and shape[2] in (1, 3) and 0 not in shape:
        return
    mend = ""
    if 0 in shape:
        mend = ": it is empty"
    elif len(shape) == 3 and shape[2] in (2, 4):
        mend = f": give its colours alone, image[..., :{shape[2] - 1}]"
    elif len(shape) == 3 and shape[0] in (1, 3, 4):
        mend = f": channels come last, give {turned}"
    raise SignalError(f"expected (H, W), (H, W, 1) or (H, W, 3), got {tuple(shape)}{mend}")


def _checked(given: tuple[float, float] | None) -> tuple[float, float] | None:
    if given is not None:
        low, high = given
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SignalError(f"expected range=(low, high) of two numbers, the first the lower, got {given}")
    return given
