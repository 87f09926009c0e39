"""Which reader knows a file of a picture: by its first bytes, never by its name. Imports no torch.

TIFF            `tiff`, where its tags say what Pillow does not heed
PNG of 16 bits  `png`, with several channels
FITS            `fits`
PPM of 16 bits  here
NumPy           here, (H, W) or (H, W, C)
raw photographs are refused, see `raw`
any other       Pillow
"""

import os
import re
from pathlib import Path

import numpy as np

from hypersiren.signals.files import SignalError, check_size, guarded
from hypersiren.signals.image.fits import read_fits
from hypersiren.signals.image.png import is_wide, read_png
from hypersiren.signals.image.raw import check_raw
from hypersiren.signals.image.tiff import read_tiff
from hypersiren.signals.image.wide import Wide
from hypersiren.signals.numpy_files import parse_array

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_tiff(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a TIFF."""
    return head_of(path)[:4] in TIFF


def read_wide(path: str | os.PathLike[str]) -> Wide | None:
    """The picture in the values of its file, or None where Pillow reads all of it rightly, or says what is wrong.

    Raises:
        SignalError: If it is broken, too large, a raw photograph, or of a kind that is not known.
    """
    head = head_of(path)
    check_raw(path, head)
    if head[:4] in TIFF:
        return read_tiff(path)
    if is_wide(head):
        return read_png(path, head)
    if head.startswith(b"SIMPLE  ="):
        return read_fits(path)
    if head[:2] == b"P6":
        return _read_ppm(path)
    if head[:6] == b"\x93NUMPY":
        return _read_array(path)
    return None


def head_of(path: str | os.PathLike[str]) -> bytes:
    """The first 64 bytes; none where they cannot be read."""
    try:
        if not os.path.isfile(path):
            return b""
        with open(path, "rb") as file:
            return file.read(64)
    except (OSError, ValueError):  # whoever opens it says why not
        return b""


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


def _read_array(path: str | os.PathLike[str]) -> Wide:
    with guarded("broken or truncated array", path):
        check_size(os.path.getsize(path), path)
        values = parse_array(Path(path).read_bytes())
        values = values[..., None] if values.ndim == 2 else values
        if values.ndim != 3 or 0 in values.shape or values.dtype.kind not in "biuf":
            raise SignalError(f"expected a picture (H, W) or (H, W, C) of numbers, got {values.shape} {values.dtype}")
        if values.shape[0] <= 4 and min(values.shape[1:]) > 16:
            raise SignalError(f"expected channels last, (H, W, C), got {values.shape}: save array.transpose(1, 2, 0)")
        native = values.astype(values.dtype.newbyteorder("="))
        if native.dtype == bool:
            return Wide(native.astype(np.uint8), (0, 1))
        narrow = native.dtype.kind == "u" and native.dtype.itemsize <= 2
        return Wide(native, (0.0, float(np.iinfo(native.dtype).max)) if narrow else None)
