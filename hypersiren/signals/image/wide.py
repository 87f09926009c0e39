"""Pictures of more than 8 bits: 16-bit and 32-bit whole numbers and floats, in the precision of their file.

Pillow holds those of one channel, but reduces colours of 16 bits to 8: TIFF is read by tifffile, PNG and PPM here, as
no library at hand does (torchvision's decoders are deprecated). What black and white are is told by the type, floats
being in [0, 1]; see `to_range` for values that are not so. Imports no torch.

Letters in shapes: H height, W width, C channels.
"""

import contextlib
import io
import os
import re
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from hypersiren.signals.files import SignalError, check_library, check_size, guarded, muted, one_line, unlogged

ROUNDING = 1e-6
"""Share of the range by which floats may lie outside it, as computing in single precision leaves them."""

UNUSED = 8
"""Whole numbers that all lie below such a part of their type's range hardly use it: that is said."""

HINT = "--signal.range LOW,HIGH (range=(low, high) in Python) says what black and white are"


@dataclass(frozen=True)
class Wide:
    """A picture as its file has it, upright.

    Attributes:
        values: Colours of any type of numbers, C = 1 or 3.
        full: What black and white are, where the type tells.
        alpha: Opacity in [0, 1], where there is one.
    """

    values: Shaped[np.ndarray, "H W C"]
    full: tuple[float, float] | None
    alpha: Float[np.ndarray, "H W"] | None = None


def read_wide(path: str | os.PathLike[str], *, only_tiff: bool = False) -> Wide | None:
    """The picture, or None where 8 bits hold all of it, or where Pillow holds it in its precision.

    With only_tiff, None for PNGs and PPMs too, which Pillow reads in 8 bits.

    Raises:
        SignalError: If it is broken, has other than 1 or 3 channels, or is too large.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError:
        return None
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _read_tiff(path)
    if only_tiff:
        return None
    # IHDR comes first: width, height, bits, kind (0 gray, 2 colours, 3 palette, 4 gray and 6 colours with alpha).
    if (
        head[:8] == b"\x89PNG\r\n\x1a\n"
        and head[24:25] == b"\x10"
        and head[25:26] in (b"\2", b"\4", b"\6")
        and len(head) > 28
    ):
        return _read_png(path, head)
    if head[:2] == b"P6":
        return _read_ppm(path)
    return None


def wide_image(image: Image.Image) -> Wide | None:
    """A Pillow image, or None where its mode has 8 bits or fewer."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return None
    check_size(4 * image.width * image.height)
    load(image)
    values = upright(np.asarray(image), orientation(image))[..., None]
    # Mode I is how Pillow holds 16-bit files of some formats (PGM), and 32-bit ones of others.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Wide(values.astype(np.uint16), (0, 65535))
    return Wide(values, None)


def load(image: Image.Image) -> None:
    """Decode a Pillow image. Its libtiff prints what it finds wrong."""
    with muted() if image.format == "TIFF" else contextlib.nullcontext():
        image.load()


def orientation(image: Image.Image) -> int:
    """The EXIF tag that tells how a picture lies; 1 is upright."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception as error:  # a broken tag must not cost the picture
        check_library(error)
        return 1


def to_range(
    wide: Wide,
    given: tuple[float, float] | None = None,
    *,
    guess: bool = True,
    name: str = "picture",
    hint: str = HINT,
) -> Float[np.ndarray, "H W C"]:
    """Values in [-1, 1], float64: -1 is black, 1 is white; transparency lies over white.

    Black and white are 0 and the largest number of an unsigned type of up to 16 bits, 0 and 1 of floats that lie there,
    and of all other pictures the least and the largest value, with a warning.

    Args:
        wide: The picture.
        given: What black and white are; values beyond are clipped, with a warning.
        guess: False to refuse a picture whose type does not tell, instead of taking its least and largest value.
        name: What the warnings call it.
        hint: What else can be done where the type does not tell.

    Raises:
        SignalError: If a value is NaN or infinite, with their count, or nothing tells black and white.

    Example:
        >>> to_range(Wide(np.array([[[0], [65535]]], np.uint16), (0, 65535))).tolist()
        [[[-1.0], [1.0]]]
        >>> to_range(Wide(np.array([[[0.5], [np.nan]]]), None))
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: expected finite values, got 1 of 2 that are NaN or infinite
    """
    values = wide.values

    def say(text: str) -> None:
        warnings.warn(f"{name}: {text}", stacklevel=3)

    if values.dtype.kind == "f" and (bad := values.size - int(np.isfinite(values).sum())):
        raise SignalError(f"expected finite values, got {bad} of {values.size} that are NaN or infinite")
    least, most = float(values.min()), float(values.max())
    low, high = given or wide.full or (0.0, 1.0)
    if given is not None:
        if outside := int(((values < low) | (values > high)).sum()):
            say(f"{outside} of {values.size} values, from {least:.7g} to {most:.7g}, lie outside the range "
                 f"{low:.7g} to {high:.7g} and are clipped")  # fmt: skip
    elif wide.full is not None:
        if most > 0 and (high - low) > UNUSED * most:
            say(f"values of {values.dtype} from {least:.7g} to {most:.7g} are read on a scale of {low:g} to {high:g}, "
                 f"which is nearly black; {hint}")  # fmt: skip
    elif values.dtype.kind != "f" or least < -ROUNDING or most > 1 + ROUNDING:
        came = f"{values.dtype} from {least:.7g} to {most:.7g}"
        if not guess or least == most:
            kind = "floats in [0, 1]" if values.dtype.kind == "f" else "whole numbers of up to 16 bits without sign"
            raise SignalError(f"expected {kind}, got {came}; {hint}")
        say(f"values of {came} are taken as black to white; {hint}")
        low, high = least, most
    unit = ((values.astype(np.float64) - low) / (high - low)).clip(0, 1)
    if wide.alpha is not None:
        unit = 1 - wide.alpha[..., None] * (1 - unit)
    return 2 * unit - 1


def _read_tiff(path: str | os.PathLike[str]) -> Wide | None:
    import tifffile  # heavy

    check_size(os.path.getsize(path), path)
    with guarded("broken or truncated image", path), unlogged("tifffile"):
        try:
            with tifffile.TiffFile(io.BytesIO(Path(path).read_bytes())) as file:
                page: Any = file.pages[0]
                if page.dtype is None or page.dtype == np.uint8 or page.dtype.kind not in "uif":
                    return None
                if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
                    return None
                check_size(page.size * max(4, page.dtype.itemsize), path)
                values = page.asarray(maxworkers=1)
                if page.axes == "SYX":
                    values = np.moveaxis(values, 0, -1)
                elif page.axes not in ("YX", "YXS"):
                    raise SignalError(f"expected a picture, got one of axes {page.axes} and shape {page.shape}")
                inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
                turned = page.tags[274].value if 274 in page.tags else 1
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            # Pillow's libtiff has the codec: all bits of one channel, but colours in 8.
            with Image.open(path) as image:
                if len(image.getbands()) > 1:
                    warnings.warn(f"{os.fspath(path)}: read in 8 bits ({one_line(error)})", stacklevel=2)
            return None
    full = (0.0, float(np.iinfo(values.dtype).max)) if values.dtype.kind == "u" and values.itemsize <= 2 else None
    if inverted:
        if full is None:
            raise SignalError(f"expected black as the least value, got white of {values.dtype}", path)
        values = np.iinfo(values.dtype).max - values
    return _split(upright(values, turned), full, path)


def _read_png(path: str | os.PathLike[str], head: bytes) -> Wide | None:
    width, height, interlaced = int.from_bytes(head[16:20]), int.from_bytes(head[20:24]), head[28]
    pixel = {2: 6, 4: 4, 6: 8}[head[25]]
    check_size(3 * pixel * width * height, path)
    if interlaced:
        warnings.warn(f"{os.fspath(path)}: 16 bits interlaced are read in 8", stacklevel=3)
        return None
    with guarded("broken or truncated image", path):
        with Image.open(path) as image:
            turn = orientation(image)
        data, place, packed = Path(path).read_bytes(), 8, b""
        while (name := data[place + 4 : place + 8]) != b"IEND":
            end = place + 8 + int.from_bytes(data[place : place + 4])
            if zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4]) or len(data) < end + 4:
                raise SignalError(f"broken or truncated image (in a part {name.decode('latin-1')!r})")
            packed += data[place + 8 : end] if name == b"IDAT" else b""
            place = end + 4
        size = height * (1 + width * pixel)
        plain = zlib.decompressobj().decompress(packed, size)
        if len(plain) < size or not size:
            raise SignalError(f"truncated image: expected {size} bytes of {width} x {height} pixels, got {len(plain)}")
        rows = np.frombuffer(plain, np.uint8).reshape(height, -1)
        values = _unfiltered(rows[:, 0], rows[:, 1:].reshape(height, width, pixel))
    return _split(upright(values.view(">u2").astype(np.uint16), turn), (0, 65535), path)


def _unfiltered(kinds: UInt8[np.ndarray, " H"], rest: UInt8[np.ndarray, "H W P"]) -> UInt8[np.ndarray, "H W P"]:
    """Bytes from their differences to what PNG's five filters predict of left, above and left above.

    All pixels of a diagonal at once: what they depend on lies on the two diagonals before.
    """
    height, width, size = rest.shape
    if kinds.max() > 4:
        raise SignalError(f"broken image (filter {kinds.max()})")
    out = np.zeros((height + 1, width + 1, size), np.int16)
    for d in range(height + width - 1):
        r = np.arange(max(0, d - width + 1), min(height, d + 1))
        c = d - r
        left, above, corner = out[r + 1, c], out[r, c + 1], out[r, c]
        by_left, by_above, by_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
        nearest = np.where(by_above <= by_corner, above, corner)
        nearest = np.where((by_left <= by_above) & (by_left <= by_corner), left, nearest)
        guess = np.choose(kinds[r, None], [np.zeros_like(left), left, above, (left + above) >> 1, nearest])
        out[r + 1, c + 1] = (rest[r, c] + guess) & 255
    return np.ascontiguousarray(out[1:, 1:].astype(np.uint8))


def _read_ppm(path: str | os.PathLike[str]) -> Wide | None:
    with open(path, "rb") as file:
        data = file.read()
    gap = rb"(?:\s|#[^\n]*\n)+"
    header = re.match(rb"P6" + (gap + rb"(\d{1,9})") * 3 + rb"\s", data)
    if header is None or not 255 < (top := int(header[3])) <= 65535:
        return None
    width, height = int(header[1]), int(header[2])
    if not width * height or len(data) - header.end() < 6 * width * height:
        raise SignalError(f"truncated: expected {width} x {height} pixels of 6 bytes after the header", path)
    values = np.frombuffer(data, ">u2", 3 * width * height, header.end()).reshape(height, width, 3)
    return Wide(values.astype(np.uint16), (0, top))


def _split(values: np.ndarray, full: tuple[float, float] | None, path: str | os.PathLike[str]) -> Wide:
    """Colours and opacity apart."""
    values = values[..., None] if values.ndim == 2 else values
    channels = values.shape[2]
    if 0 in values.shape or channels > 4:
        raise SignalError(f"expected a picture of 1 or 3 channels, got {values.shape[0]} x {values.shape[1]} pixels "
                          f"of {channels}", path)  # fmt: skip
    if channels in (1, 3):
        return Wide(values, full)
    if full is None:
        raise SignalError(f"expected 1 or 3 channels of {values.dtype}, got {channels}", path)
    return Wide(values[..., :-1], full, values[..., -1] / full[1])


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns turned as an EXIF or TIFF orientation tells.

    Example:
        >>> upright(np.array([[1, 2], [3, 4]]), 6).tolist()
        [[3, 1], [4, 2]]
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values
