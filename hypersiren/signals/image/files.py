"""Signals: read and write ONE of them. An image is an array (H, W, C), rows from top to bottom, C = 1 or 3.

Every way that Pillow stores a picture ends in that one form: turned as its EXIF tag says, palettes looked up,
transparency laid over white. `read_values` keeps the precision of the file, `read_image` scales to uint8 what sets of
images hold in bytes. Imports neither torch nor anything slow: processes that decode start with it.
"""

import io
import math
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped
from PIL import Image

from hypersiren.signals.files import (
    SignalError,
    atomic_write,
    check_size,
    guarded,
    one_line,
)
from hypersiren.signals.image.formats import read_wide
from hypersiren.signals.image.pillow import open_image, say_several, turned
from hypersiren.signals.image.spaces import in_srgb
from hypersiren.signals.image.wide import HINT, Wide, limits, load, orientation, scaled, to_range, wide_image

Crop = Literal["center", "none"]

STORED = "store it in 8 or 16 bits"

PNG = {"compress_level": 3}
"""Of photographs as small as with Pillow's own 6, in half of the time."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in gray, ITU-R 601."""


class SizeError(SignalError):
    """An image that does not have exactly the size that was asked for."""


@dataclass(frozen=True)
class Values:
    """A picture in the precision of its file.

    Attributes:
        pixels: Values in [-1, 1]; 0 where nothing is known.
        size: (H, W) of the picture in its file, upright.
        known: Which pixels the mask and the file give; None for all.
        valid: Which pixels have a value in the file; None for all.
        range: What -1 and 1 are in the file.
    """

    pixels: Float32[np.ndarray, "H W C"]
    size: tuple[int, int]
    known: Bool[np.ndarray, "H W"] | None = None
    valid: Bool[np.ndarray, "H W"] | None = None
    range: tuple[float, float] = (0.0, 255.0)


def read_image(
    path: str | os.PathLike[str],
    *,
    gray: bool | None = False,
    size: tuple[int, int] | None = None,
    crop: Crop = "center",
) -> np.ndarray:
    """Read an image in any format that is known (the first picture where there are several).

    Args:
        path: The file.
        gray: One channel (luma, ITU-R 601) instead of three; a gray file read with gray=False repeats its channel.
            None for what the file has.
        size: Pixels (H, W) of the result; None keeps the file's.
        crop: How to come to `size`, see `fit_image`.

    Returns:
        (H, W, C) uint8 of sRGB, C = 1 or 3. 16-bit files are scaled by 255/65535, float ones from [0, 1].

    Raises:
        SignalError: If the file is missing, a folder, forbidden, not an image, broken, or too large to be meant; if
            floats lie outside [0, 1], or whole numbers have 32 bits: see `hypersiren.signals.image.wide.limits`; if
            some pixels have no value.
        SizeError: If crop is "none" and the image has another size.

    Warns:
        UserWarning: If colours are converted to sRGB, or the file holds several pictures.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(f"{folder}/a.png", np.full((20, 30, 3), 7, np.uint8))
        ...     read_image(f"{folder}/a.png", gray=True, size=(4, 4)).tolist()[0]
        [[7], [7], [7], [7]]
    """
    with guarded("broken or truncated image", path):
        wide = read_wide(path)
        if wide is not None:
            wide = _of_colours(wide, os.fspath(path))
            plain = convert_image(wide, gray=wide.values.shape[2] == 1 if gray is None else gray, name=os.fspath(path))
        else:
            with open_image(path) as image:
                say_several(image, path)
                if size is not None and crop == "center":
                    _reduce_while_decoding(image, size)
                plain = upright_image(image, gray=gray, name=os.fspath(path))
        return np.array(_as_array(plain)) if size is None else fit_image(plain, size, crop)


def read_values(
    path: str | os.PathLike[str],
    *,
    gray: bool | None = None,
    size: tuple[int, int] | None = None,
    range: tuple[float, float] | None = None,
    guess: bool = True,
    hint: str = HINT,
    bands: bool = False,
    holes: bool = False,
    mask: Callable[[tuple[int, int]], Bool[np.ndarray, "H W"]] | None = None,
) -> Values:
    """Read an image in the precision of its file: 8 or 16 bits, 32-bit whole numbers or floats.

    Args:
        path, gray, size: See `read_image`; gray=None by default. A NumPy file may be given, too.
        range: What black and white are, (low, high); None for what the type tells, see `wide.limits`.
        guess, hint: See `wide.limits`.
        bands: Whether there may be any number of channels.
        holes: Whether there may be pixels without a value, which are not known then.
        mask: From the size (H, W) in the file to its known pixels; values elsewhere are not looked at.

    Raises:
        SignalError: As `read_image`, and if a known value is NaN or infinite, or no range can be taken.

    Warns:
        UserWarning: If black and white are the least and the largest value, as the type does not tell; if values
            outside a given range are clipped; if pixels have no value; or as `read_image`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(f"{folder}/a.png")
        ...     found = read_values(f"{folder}/a.png")
        >>> (255 * (found.pixels + 1) / 2).round(3).squeeze().tolist(), found.size, found.range
        ([0.0, 1.0, 255.0], (1, 3), (0, 65535))
    """
    with guarded("broken or truncated image", path):
        whole: tuple[int, int] | None = None
        wide = read_wide(path)
        if wide is None:
            with open_image(path) as image:
                say_several(image, path)
                whole = None if size is None else _reduce_while_decoding(image, size)
                if size is None:
                    check_size(4 * image.width * image.height * _channels(image, gray), path, "give a smaller size")
                wide = wide_image(image)
                if wide is None:
                    plain = upright_image(image, gray=gray, name=os.fspath(path))
                    whole = whole or (plain.height, plain.width)
                    if range is None:
                        pixels = np.array(_as_array(plain)) if size is None else fit_image(plain, size)
                        known = None if mask is None else _resized(mask(whole), size)
                        return Values(_unit(pixels), whole, known)
                    wide = Wide(_as_array(plain), (0, 255))
        if not bands or gray is not None:
            wide = _of_colours(wide, os.fspath(path))
        here = (wide.values.shape[0], wide.values.shape[1])
        whole = whole or here
        known, valid = None if mask is None else _resized(mask(whole), here), wide.valid
        if valid is not None and (empty := int((~valid if known is None else known & ~valid).sum())):
            if not holes:
                raise SignalError(f"{empty} of {valid.size} pixels have no value (nodata): fill them first")
            warnings.warn(f"{os.fspath(path)}: {empty} of {valid.size} pixels have no value (nodata) and are not known",
                          stacklevel=2)  # fmt: skip
            known = valid if known is None else known & valid
            if not known.any():
                raise SignalError("no pixel that is asked for has a value")
        low, high = limits(wide, range, guess=guess, name=os.fspath(path), hint=hint, known=known)
        values = scaled(wide, low, high, name=os.fspath(path), known=known)
        pixels = _shaped(values, gray, size, known)
        return Values(pixels, whole, _resized(known, size), _resized(valid, size), (low, high))


def read_whole(path: str | os.PathLike[str]) -> Shaped[np.ndarray, "H W C"]:
    """The numbers of a picture as its file has them, upright; of 8 bits in sRGB.

    Raises:
        SignalError: As `read_image`.
    """
    with guarded("broken or truncated image", path):
        wide = read_wide(path)
        if wide is None:
            with open_image(path) as image:
                wide = wide_image(image)
                if wide is None:
                    return np.array(_as_array(upright_image(image, name=os.fspath(path))))
        return wide.values


def picture_names(folder: str | os.PathLike[str]) -> list[str]:
    """The files of a folder that are pictures by their endings, in the order of the numbers in their names.

    Raises:
        SignalError: If there are none.
    """
    endings = Image.registered_extensions()
    names = [name for name in os.listdir(folder) if Path(name).suffix.lower() in endings and not name.startswith(".")]
    if not names:
        raise SignalError("expected a folder of pictures, found none in it", folder)
    # Text and numbers take turns.
    return sorted(names, key=lambda name: [int(p) if i % 2 else p for i, p in enumerate(re.split(r"(\d+)", name))])


def image_values(image: Image.Image, range: tuple[float, float] | None = None) -> Float32[np.ndarray, "H W C"]:
    """A Pillow image as `read_values` would read its file."""
    with guarded("broken or truncated PIL image"):
        wide = wide_image(image)
        if wide is None:
            pixels = _as_array(upright_image(image))
            if range is None:
                return _unit(pixels)
            wide = Wide(pixels, (0, 255))
        return _shaped(to_range(wide, range), None, None)


def _of_colours(wide: Wide, name: str) -> Wide:
    """Of one channel or three; what a file has beside its colours is left out, and said."""
    channels = wide.values.shape[2]
    if channels in (1, 3):
        return wide
    if wide.colours != 3:
        raise SignalError(
            f"expected a picture of 1 or 3 channels, got {channels} (hypersiren fit image takes them all)"
        )
    warnings.warn(f"{name}: {channels - 3} channels beside its colours are left out", stacklevel=3)
    return replace(wide, values=wide.values[..., :3])


def _unit(pixels: np.ndarray) -> Float32[np.ndarray, "H W C"]:
    return pixels / np.float32(127.5) - np.float32(1)


def _shaped(
    values: Float[np.ndarray, "_H _W _C"],
    gray: bool | None,
    size: tuple[int, int] | None,
    known: Bool[np.ndarray, "_H _W"] | None = None,
) -> Float32[np.ndarray, "H W C"]:
    if gray and values.shape[2] == 3:
        values = values @ LUMA[:, None]
    if gray is False and values.shape[2] == 1:
        values = values.repeat(3, axis=2)
    values = values.astype(np.float32)
    if size is None:
        return values
    if known is None:
        return fit_image(values, size).clip(-1, 1)  # the filter overshoots
    # What is not known is 0, and must not count.
    share = fit_image(known[..., None].astype(np.float32), size)
    return np.where(share >= 0.5, fit_image(values, size) / share.clip(0.5), 0).clip(-1, 1).astype(np.float32)


def _resized(known: Bool[np.ndarray, "_H _W"] | None, size: tuple[int, int] | None) -> Bool[np.ndarray, "H W"] | None:
    """A mask brought to the size that its picture is brought to."""
    if known is None or size is None or known.shape == size:
        return known
    return fit_image(255 * known.astype(np.uint8), size)[..., 0] >= 128


def upright_image(image: Image.Image, *, gray: bool | None = None, name: str = "picture") -> Image.Image:
    """A Pillow image decoded, in sRGB, turned as its EXIF tag says, of mode L or RGB; gray=None for what it has."""
    gray = is_gray(image) if gray is None else gray  # before loading, which may convert
    check_size(image.width * image.height * max(_channels(image, gray), len(image.getbands())))
    load(image)
    return convert_image(turned(in_srgb(image, name), orientation(image)), gray=gray, name=name)


def _channels(image: Image.Image, gray: bool | None) -> int:
    """Of what the picture becomes: one of a palette comes to three."""
    return 1 if gray or (gray is None and is_gray(image)) else 3


def is_gray(image: Image.Image) -> bool:
    """Whether a Pillow image holds no colour, by its mode.

    Example:
        >>> is_gray(Image.new("I;16", (1, 1))), is_gray(Image.new("P", (1, 1)))
        (True, False)
    """
    return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def fit_image(image: np.ndarray | Image.Image, size: tuple[int, int], crop: Crop = "center") -> np.ndarray:
    """Bring an image to (H, W) pixels.

    Args:
        image: (H', W') or (H', W', C) uint8 with C = 1 or 3, or a Pillow image of mode L or RGB (`convert_image`); or
            float32, whose values may overshoot at edges.
        size: (H, W).
        crop: "center" takes the largest central rectangle of size's aspect ratio and resizes it by a Lanczos filter as
            wide as the reduction demands (antialiased, and the sharpest of Pillow's); "none" demands exactly `size`.

    Returns:
        (H, W, C) of the same type.

    Raises:
        SizeError: If crop is "none" and the image has another size.
        ValueError: If size or crop makes no sense.

    Example:
        >>> fit_image(np.zeros((60, 100), np.uint8), (16, 16)).shape
        (16, 16, 1)
        >>> fit_image(np.zeros((60, 100), np.uint8), (16, 16), crop="none")
        Traceback (most recent call last):
        hypersiren.signals.image.files.SizeError: expected an image of 16 x 16 pixels (height x width), got 60 x 100
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"expected a size of at least 1 x 1 pixels, got {height} x {width}")
    if crop not in ("center", "none"):
        raise ValueError(f'expected crop "center" or "none", got {crop!r}')
    if isinstance(image, np.ndarray):
        if image.dtype == np.float32 and image.ndim == 3:
            channels = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
            return np.concatenate([fit_image(channel, size, crop) for channel in channels], axis=2)
        image = _from_array(image)
    w, h = image.size
    if (h, w) == (height, width):
        return np.array(_as_array(image))
    if crop == "none":
        raise SizeError(f"expected an image of {height} x {width} pixels (height x width), got {h} x {w}")
    scale = min(w / width, h / height)
    # Rounding must not carry the box past the border.
    box_w, box_h = min(width * scale, w), min(height * scale, h)
    left, top = (w - box_w) / 2, (h - box_h) / 2
    right, bottom = min(left + box_w, w), min(top + box_h, h)
    # Pillow's filters reach beyond the box that they are given: cut off first what must not leak in, whole pixels.
    x, y = math.floor(left), math.floor(top)
    image = image.crop((x, y, math.ceil(right), math.ceil(bottom)))
    box = (left - x, top - y, min(right - x, image.width), min(bottom - y, image.height))
    # The gap lets whole-number reductions by a box filter go first: as good to the eye, several times faster.
    return np.array(_as_array(image.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=3.0)))


def convert_image(image: np.ndarray | Image.Image | Wide, *, gray: bool = False, name: str = "picture") -> Image.Image:
    """A Pillow image of mode L (gray) or RGB, from one of any mode or from a uint8 array (H, W) or (H, W, C).

    Raises:
        SignalError: If it has more than 8 bits, and values that `hypersiren.signals.image.wide.to_range` knows no black
            and white for.

    Example:
        >>> clear = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
        >>> convert_image(clear).getpixel((0, 0))
        (255, 255, 255)
    """
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    wide = image if isinstance(image, Wide) else wide_image(image)
    if wide is not None:
        if wide.valid is not None:
            holes = int((~wide.valid).sum())
            raise SignalError(f"{holes} of {wide.valid.size} pixels have no value (nodata): fill them first")
        values = to_range(wide, guess=False, hint=STORED, name=name)
        image = _from_array(np.rint((values + 1) * 127.5).astype(np.uint8))
    assert isinstance(image, Image.Image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if gray else "RGB"
    if image.mode == mode:
        return image
    # CMYK and others know the way to RGB only.
    return image.convert("L") if gray and image.mode in ("1", "RGB", "RGBA") else image.convert("RGB").convert(mode)


def write_image(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Write an image in the format that the name's ending tells; the file appears complete or not at all.

    Args:
        path: The file; its folder must exist. What was there is replaced.
        pixels: (H, W, C) uint8, or float in [0, 1] (values beyond are clipped), with C = 1 or 3.

    Raises:
        SignalError: If the format is unknown, or the file cannot be written (no such folder, forbidden, full disk).
        ValueError: If the array is not an image.
    """
    image, kind = _from_array(to_uint8(pixels)), image_format(path)
    settings: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else PNG if kind == "PNG" else {}
    _write(path, lambda file: image.save(file, kind, **settings))


def image_format(path: str | os.PathLike[str]) -> str:
    """The format in which an image is written, as its file's ending tells.

    Raises:
        SignalError: If images are not written so.

    Example:
        >>> image_format("photo.jpg")
        'JPEG'
    """
    ending = Path(path).suffix.lower()
    kind = Image.registered_extensions().get(ending)
    if kind is None or kind not in Image.SAVE:
        raise SignalError(f"expected the ending of an image format, such as .png, got {ending!r}", path)
    return kind


def write_encoded(path: str | os.PathLike[str], content: bytes) -> None:
    """Write the bytes of an image file, such as those of `encode_png`; the file appears complete or not at all.

    Raises:
        SignalError: If it cannot be written.
    """
    _write(path, lambda file: file.write(content))


def _write(path: str | os.PathLike[str], write: Callable[[Any], object]) -> None:
    try:
        with atomic_write(path) as file:
            write(file)
    except (OSError, ValueError) as error:
        raise SignalError(f"cannot be written ({one_line(error)})", path) from error


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file's bytes of (H, W, C) values in [0, 1] or uint8, C = 1 or 3."""
    file = io.BytesIO()
    _from_array(to_uint8(pixels)).save(file, "PNG", **PNG)
    return file.getvalue()


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Pixels as they are stored: floats in [0, 1] times 255, those beyond clipped; any others are left as they are.

    Example:
        >>> to_uint8(np.array([-1, 0.5, 2])).tolist()
        [0, 128, 255]
    """
    if np.issubdtype(pixels.dtype, np.floating):
        scaled = np.nan_to_num(pixels)  # a copy, and the only one
        scaled.clip(0, 1, out=scaled)
        scaled *= 255
        return np.rint(scaled, out=scaled).astype(np.uint8)
    return pixels


def _reduce_while_decoding(image: Image.Image, size: tuple[int, int]) -> tuple[int, int] | None:
    """Let a JPEG's decoder itself reduce by 2, 4 or 8, never below twice the final size: much faster, same picture.

    Returns:
        The upright (H, W) before, of a JPEG.
    """
    if image.format not in ("JPEG", "MPO"):
        return None
    lying = orientation(image) in (5, 6, 7, 8)
    height, width = size[::-1] if lying else size
    w, h = image.size
    scale = min(w / width, h / height)
    if scale >= 4:
        image.draft(None, (math.ceil(2 * w / scale), math.ceil(2 * h / scale)))
    return (w, h) if lying else (h, w)


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))):
        raise ValueError(f"expected (H, W) or (H, W, 1 or 3) uint8 pixels, got {pixels.shape} {pixels.dtype}")
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _as_array(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
