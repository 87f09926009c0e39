"""Signals: read and write ONE of them. An image is a uint8 array (H, W, C), rows from top to bottom, C = 1 or 3.

Every way that Pillow stores a picture ends in that one form: turned as its EXIF tag says, 16 bit scaled to 8, palettes
looked up, transparency laid over white. Imports neither torch nor anything slow: processes that decode start with it.
"""

import io
import math
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from hypersiren.signals.files import SignalError, atomic_write, one_line

Crop = Literal["center", "none"]

# What brings an image upright, by its EXIF orientation; 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ORIENTATION = 0x0112


class SizeError(SignalError):
    """An image that does not have exactly the size that was asked for."""


def read_image(
    path: str | os.PathLike[str],
    *,
    gray: bool | None = False,
    size: tuple[int, int] | None = None,
    crop: Crop = "center",
) -> np.ndarray:
    """Read an image in any format that Pillow knows (the first frame where there are several).

    Args:
        path: The file.
        gray: One channel (luma, ITU-R 601) instead of three; a gray file read with gray=False repeats its channel.
            None for what the file has.
        size: Pixels (H, W) of the result; None keeps the file's.
        crop: How to come to `size`, see `fit_image`.

    Returns:
        (H, W, C) uint8, C = 1 or 3. 16-bit files are scaled by 255/65535, float ones from [0, 1] (or from
        [0, 255] or [0, 65535] where they go beyond); colour profiles are not applied.

    Raises:
        SignalError: If the file is missing, a folder, forbidden, not an image, broken, or too large to be meant.
        SizeError: If crop is "none" and the image has another size.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(f"{folder}/a.png", np.full((20, 30, 3), 7, np.uint8))
        ...     read_image(f"{folder}/a.png", gray=True, size=(4, 4)).tolist()[0]
        [[7], [7], [7], [7]]
    """
    return read_sized(path, gray=gray, size=size, crop=crop)[0]


def read_sized(
    path: str | os.PathLike[str],
    *,
    gray: bool | None = False,
    size: tuple[int, int] | None = None,
    crop: Crop = "center",
) -> tuple[np.ndarray, tuple[int, int]]:
    """As `read_image`, with the size (H, W) that the picture has in its file, upright."""
    try:
        with _open(path) as image:
            whole = _reduce_while_decoding(image, size) if size is not None and crop == "center" else None
            plain = upright_image(image, gray=gray)
            whole = whole or (plain.height, plain.width)
    except SignalError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever their file leads them to
        raise SignalError(f"broken or truncated image ({one_line(error)})", path) from error
    try:
        return np.array(_as_array(plain)) if size is None else fit_image(plain, size, crop), whole
    except SizeError as error:
        raise SizeError(error.reason, path) from None


def upright_image(image: Image.Image, *, gray: bool | None = None) -> Image.Image:
    """A Pillow image decoded, turned as its EXIF tag says, and of mode L or RGB; gray=None for what it has."""
    gray = is_gray(image) if gray is None else gray  # before loading, which may convert
    image.load()
    return convert_image(_upright(image), gray=gray)


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
        image: (H', W') or (H', W', C) uint8 with C = 1 or 3, or a Pillow image of mode L or RGB (`convert_image`).
        size: (H, W).
        crop: "center" takes the largest central rectangle of size's aspect ratio and resizes it by a Lanczos filter as
            wide as the reduction demands (antialiased, and the sharpest of Pillow's); "none" demands exactly `size`.

    Returns:
        (H, W, C) uint8.

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


def convert_image(image: np.ndarray | Image.Image, *, gray: bool = False) -> Image.Image:
    """A Pillow image of mode L (gray) or RGB, from one of any mode or from a uint8 array (H, W) or (H, W, C).

    Example:
        >>> clear = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
        >>> convert_image(clear).getpixel((0, 0))
        (255, 255, 255)
    """
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_8_bits(np.asarray(image), image.mode))
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
    image = _from_array(to_uint8(pixels))
    ending = Path(path).suffix.lower()
    kind = Image.registered_extensions().get(ending)
    if kind is None or kind not in Image.SAVE:
        raise SignalError(f"expected the ending of an image format, such as .png, got {ending!r}", path)
    settings: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    try:
        with atomic_write(path) as file:
            image.save(file, kind, **settings)
    except (OSError, ValueError) as error:
        raise SignalError(f"cannot be written ({one_line(error)})", path) from error


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file's bytes of (H, W, C) values in [0, 1] or uint8, C = 1 or 3."""
    file = io.BytesIO()
    _from_array(to_uint8(pixels)).save(file, "PNG")
    return file.getvalue()


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Pixels as they are stored: floats in [0, 1] times 255, those beyond clipped; any others are left as they are.

    Example:
        >>> to_uint8(np.array([-1, 0.5, 2])).tolist()
        [0, 128, 255]
    """
    if np.issubdtype(pixels.dtype, np.floating):
        return np.rint(np.nan_to_num(pixels).clip(0, 1) * 255).astype(np.uint8)
    return pixels


def _open(path: str | os.PathLike[str]) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        empty = os.path.getsize(path) == 0
        raise SignalError("empty file" if empty else "not an image that Pillow can read", path) from None
    except Image.DecompressionBombError as error:
        raise SignalError(f"too many pixels to be trusted ({one_line(error)})", path) from None
    except FileNotFoundError:
        raise SignalError("no such file", path) from None
    except OSError as error:
        reason = "a folder, not an image" if os.path.isdir(path) else f"cannot be read ({one_line(error)})"
        raise SignalError(reason, path) from error


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken tag must not cost the picture
        return 1


def _upright(image: Image.Image) -> Image.Image:
    # Asked only after loading: TIFFs are turned, and their tag removed, by Pillow itself.
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _reduce_while_decoding(image: Image.Image, size: tuple[int, int]) -> tuple[int, int] | None:
    """Let a JPEG's decoder itself reduce by 2, 4 or 8, never below twice the final size: much faster, same picture.

    Returns:
        The upright (H, W) before, of a JPEG.
    """
    if image.format not in ("JPEG", "MPO"):
        return None
    lying = _orientation(image) in (5, 6, 7, 8)
    height, width = size[::-1] if lying else size
    w, h = image.size
    scale = min(w / width, h / height)
    if scale >= 4:
        image.draft(None, (math.ceil(2 * w / scale), math.ceil(2 * h / scale)))
    return (w, h) if lying else (h, w)


def _to_8_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Gray values of 16 or 32 bits or floats as uint8, scaled by the full range that they can be taken to have."""
    values = np.nan_to_num(values.astype(np.float64))
    top = values.max(initial=0)
    if mode == "F":
        full = next((limit for limit in (1, 255, 65535) if top <= limit), top)
    else:
        # Mode I is how Pillow holds 16-bit files of some formats (PGM); only values beyond show that it is 32 bit.
        full = 65535 if top <= 65535 else 2**31 - 1
    return np.rint((values / full).clip(0, 1) * 255).astype(np.uint8)


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))):
        raise ValueError(f"expected (H, W) or (H, W, 1 or 3) uint8 pixels, got {pixels.shape} {pixels.dtype}")
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _as_array(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
