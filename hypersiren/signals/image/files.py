"""Signals: read and write ONE of them. An image is an array (H, W, C), rows from top to bottom, C = 1 or 3.

Every way that Pillow stores a picture ends in that one form: turned as its EXIF tag says, palettes looked up,
transparency laid over white. `read_values` keeps the precision of the file, `read_image` scales to uint8 what sets of
images hold in bytes. Imports neither torch nor anything slow: processes that decode start with it.
"""

import io
import math
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32
from PIL import Image, UnidentifiedImageError

from hypersiren.signals.files import (
    SignalError,
    atomic_write,
    check_library,
    check_regular,
    check_size,
    guarded,
    one_line,
)
from hypersiren.signals.image.wide import HINT, Wide, load, orientation, read_wide, to_range, wide_image

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

STORED = "store it in 8 or 16 bits"

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in gray, ITU-R 601."""


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
        (H, W, C) uint8, C = 1 or 3. 16-bit files are scaled by 255/65535, float ones from [0, 1]; colour profiles are
        not applied.

    Raises:
        SignalError: If the file is missing, a folder, forbidden, not an image, broken, or too large to be meant; if
            floats lie outside [0, 1], or whole numbers have 32 bits: see `hypersiren.signals.image.wide.to_range`.
        SizeError: If crop is "none" and the image has another size.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(f"{folder}/a.png", np.full((20, 30, 3), 7, np.uint8))
        ...     read_image(f"{folder}/a.png", gray=True, size=(4, 4)).tolist()[0]
        [[7], [7], [7], [7]]
    """
    with guarded("broken or truncated image", path):
        wide = read_wide(path, only_tiff=True)
        if wide is not None:
            plain = convert_image(wide, gray=wide.values.shape[2] == 1 if gray is None else gray)
        else:
            with open_image(path) as image:
                if size is not None and crop == "center":
                    _reduce_while_decoding(image, size)
                plain = upright_image(image, gray=gray)
        return np.array(_as_array(plain)) if size is None else fit_image(plain, size, crop)


def read_values(
    path: str | os.PathLike[str],
    *,
    gray: bool | None = None,
    size: tuple[int, int] | None = None,
    range: tuple[float, float] | None = None,
    guess: bool = True,
    hint: str = HINT,
) -> tuple[Float32[np.ndarray, "H W C"], tuple[int, int]]:
    """Read an image in the precision of its file: 8 or 16 bits, 32-bit whole numbers or floats.

    Args:
        path, gray, size: See `read_image`; gray=None by default.
        range: What black and white are, (low, high); None for what the type tells, see `wide.to_range`.
        guess, hint: See `wide.to_range`.

    Returns:
        Values in [-1, 1], and the size (H, W) that the picture has in its file, upright.

    Raises:
        SignalError: As `read_image`, and if a value is NaN or infinite, or no range can be taken.

    Warns:
        UserWarning: If black and white are the least and the largest value, as the type does not tell; if values
            outside a given range are clipped; or if the file holds several pictures, of which the first is read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(f"{folder}/a.png")
        ...     pixels, whole = read_values(f"{folder}/a.png")
        >>> (255 * (pixels + 1) / 2).round(3).squeeze().tolist(), whole
        ([0.0, 1.0, 255.0], (1, 3))
    """
    with guarded("broken or truncated image", path):
        wide = read_wide(path)
        if wide is None:
            with open_image(path) as image:
                if _several(image):
                    warnings.warn(f"{os.fspath(path)}: holds several pictures, the first is taken", stacklevel=2)
                whole = None if size is None else _reduce_while_decoding(image, size)
                if size is None:
                    check_size(4 * image.width * image.height * _channels(image, gray), path, "give a smaller size")
                wide = wide_image(image)
                if wide is None:
                    plain = upright_image(image, gray=gray)
                    whole = whole or (plain.height, plain.width)
                    if range is None:
                        pixels = np.array(_as_array(plain)) if size is None else fit_image(plain, size)
                        return _unit(pixels), whole
                    wide = Wide(_as_array(plain), (0, 255))
        values = to_range(wide, range, guess=guess, name=os.fspath(path), hint=hint)
        return _shaped(values, gray, size), wide.values.shape[:2]


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


def _unit(pixels: np.ndarray) -> Float32[np.ndarray, "H W C"]:
    return pixels / np.float32(127.5) - np.float32(1)


def _shaped(
    values: Float[np.ndarray, "_H _W _C"], gray: bool | None, size: tuple[int, int] | None
) -> Float32[np.ndarray, "H W C"]:
    if gray and values.shape[2] == 3:
        values = values @ LUMA[:, None]
    if gray is False and values.shape[2] == 1:
        values = values.repeat(3, axis=2)
    values = values.astype(np.float32)
    return values if size is None else fit_image(values, size).clip(-1, 1)  # the filter overshoots


def read_mask(path: str | os.PathLike[str], size: tuple[int, int], *, whole: bool = False) -> Bool[np.ndarray, "H W"]:
    """Read a mask from an image file: unknown where it is transparent (less than half opaque), else known where bright.

    Bright is half of white or more: 128 of 255.

    Args:
        path: The file.
        size: Pixels (H, W) that it must have, the picture's.
        whole: Whether all of it may be known.

    Raises:
        SignalError: If the file cannot be read or has another size, or nothing is known, or all of it; the message says
            what was found.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pixels = np.array([[[255, 255], [255, 0], [0, 255], [0, 0]]], np.uint8)
        ...     Image.fromarray(pixels, "LA").save(f"{folder}/a.png")
        ...     read_mask(f"{folder}/a.png", (1, 4)).tolist()
        [[True, False, False, False]]
    """
    with guarded("broken or truncated image", path):
        wide = read_wide(path, only_tiff=True)
        if wide is None:
            with open_image(path) as image:
                wide = wide_image(image)
                if wide is None:
                    load(image)
                    upright = _upright(image)
                    if upright.has_transparency_data:
                        pixels = np.asarray(upright.convert("RGBA"))
                        colours = np.asarray(Image.fromarray(pixels[..., :3]).convert("L"))
                        wide = Wide(colours[..., None], (0, 255), pixels[..., 3] / 255)
                    else:
                        wide = Wide(_as_array(convert_image(upright, gray=True)), (0, 255))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*nearly black")  # the errors below say it
            values = to_range(Wide(wide.values, wide.full), guess=False, hint=STORED).mean(2)
    opaque = np.ones(values.shape, bool) if wide.alpha is None else wide.alpha >= 0.5
    known = opaque & (values >= 128 / 127.5 - 1 - 1e-9 if wide.full == (0, 255) else values >= 0)
    if known.shape != size:
        (h, w), (mask_h, mask_w) = size, known.shape
        raise SignalError(
            f"expected a mask of the picture's {w}x{h} pixels (width x height), got {mask_w}x{mask_h}", path
        )
    if not known.any() or (known.all() and not whole):
        found = f"{100 * (~opaque).mean():.3g} % transparent" if wide.alpha is not None else "nothing transparent"
        raise SignalError(
            f"{'every' if known.any() else 'no'} pixel is known: the mask has {found}, values from "
            f"{wide.values.min():g} to {wide.values.max():g}; known is what is opaque and bright (half white)",
            path,
        )
    return known


def upright_image(image: Image.Image, *, gray: bool | None = None) -> Image.Image:
    """A Pillow image decoded, turned as its EXIF tag says, and of mode L or RGB; gray=None for what it has."""
    gray = is_gray(image) if gray is None else gray  # before loading, which may convert
    check_size(image.width * image.height * max(_channels(image, gray), len(image.getbands())))
    load(image)
    return convert_image(_upright(image), gray=gray)


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


def convert_image(image: np.ndarray | Image.Image | Wide, *, gray: bool = False) -> Image.Image:
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
        image = _from_array(np.rint((to_range(wide, guess=False, hint=STORED) + 1) * 127.5).astype(np.uint8))
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
        scaled = np.nan_to_num(pixels)  # a copy, and the only one
        scaled.clip(0, 1, out=scaled)
        scaled *= 255
        return np.rint(scaled, out=scaled).astype(np.uint8)
    return pixels


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """A Pillow image of a file, not yet decoded; a SignalError if it is missing, forbidden or no image."""
    check_regular(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # see check_size
            image = Image.open(path)
        if image.format == "PNG":
            _check_chunks(image, path)
        return image
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


def _check_chunks(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """The lengths that the parts of a PNG claim: Pillow makes room for them before it reads."""
    file, size = image.fp, os.path.getsize(path)  # type: ignore[attr-defined]
    before, place = file.tell(), 8
    while place < size:
        file.seek(place)
        head = file.read(8)
        place += 12 + int.from_bytes(head[:4])
        if head[4:] == b"IEND":
            break
        if place > size:
            image.close()
            raise SignalError("broken or truncated image (a part claims more than there is)", path)
    file.seek(before)


def _several(image: Image.Image) -> bool:
    try:
        # The others of an MPO are thumbnails, or what the other eye sees.
        return image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    except Exception as error:  # what is broken behind the first one does not matter
        check_library(error)
        return False


def _upright(image: Image.Image) -> Image.Image:
    # Asked only after loading: TIFFs are turned, and their tag removed, by Pillow itself.
    turn = _UPRIGHT.get(orientation(image))
    return image if turn is None else image.transpose(turn)


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
