"""PNG: the parts of a file, and pictures of 16 bits with several channels, which Pillow reads in 8. No torch."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from hypersiren.signals.files import SignalError, check_size, guarded
from hypersiren.signals.image.spaces import space_of_wide
from hypersiren.signals.image.wide import Wide, orientation, upright

SIGNATURE = b"\x89PNG\r\n\x1a\n"


# Of interlaced pictures, Adam7: first row and column of a pass, and its steps.
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def is_wide(head: bytes) -> bool:
    """Whether a file begins as a PNG of 16 bits of colours, or with opacity."""
    # IHDR comes first: width, height, bits, kind (0 gray, 2 colours, 3 palette, 4 gray and 6 colours with alpha).
    return head[:8] == SIGNATURE and head[24:25] == b"\x10" and head[25:26] in (b"\2", b"\4", b"\6") and len(head) > 28


def read_png(path: str | os.PathLike[str], head: bytes) -> Wide:
    """A picture of 16 bits and several channels.

    Raises:
        SignalError: If it is broken, or too large.
    """
    width, height, interlaced = int.from_bytes(head[16:20]), int.from_bytes(head[20:24]), head[28]
    pixel = {2: 6, 4: 4, 6: 8}[head[25]]
    check_size(3 * pixel * width * height, path)
    with guarded("broken or truncated image", path):
        with Image.open(path) as image:
            turn, info = orientation(image), dict(image.info)
        packed, clear = b"", None
        for name, data in _parts(Path(path).read_bytes()):
            if name == b"IDAT":
                packed += data
            elif name == b"tRNS":
                clear = np.frombuffer(data, ">u2")
            elif name == b"cICP":
                info["cicp"] = data
        values = _decoded(packed, width, height, pixel, interlaced).view(">u2").astype(np.uint16)
        alpha = None
        if head[25] in (4, 6):
            values, alpha = values[..., :-1], values[..., -1] / 65535
        elif clear is not None and len(clear) == values.shape[2]:
            alpha = 1.0 - (values == clear).all(axis=2)
        space = space_of_wide(info, os.fspath(path))
        return Wide(upright(values, turn), (0, 65535), None if alpha is None else upright(alpha, turn), space=space)


def code_of(file: Any) -> bytes | None:
    """The part cICP of an open PNG, 4 bytes, if it comes before the pixels."""
    before = file.tell()
    file.seek(8)
    found = None
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4])
        if head[4:] == b"cICP" and length == 4:
            found = file.read(4)
            break
        file.seek(length + 4, 1)
    file.seek(before)
    return found if found is not None and len(found) == 4 else None


def _parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while (name := data[place + 4 : place + 8]) != b"IEND":
        end = place + 8 + int.from_bytes(data[place : place + 4])
        if zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4]) or len(data) < end + 4:
            raise SignalError(f"broken or truncated image (in a part {name.decode('latin-1')!r})")
        yield name, data[place + 8 : end]
        place = end + 4


def _decoded(packed: bytes, width: int, height: int, pixel: int, interlaced: int) -> UInt8[np.ndarray, "H W P"]:
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    shapes = [(-(-(height - top) // down), -(-(width - left) // right)) for top, left, down, right in passes]
    shapes = [(max(0, h), max(0, w)) for h, w in shapes]
    size = sum(h * (1 + w * pixel) for h, w in shapes if h and w)
    plain = zlib.decompressobj().decompress(packed, max(size, 1))
    if len(plain) < size or not size:
        raise SignalError(f"truncated image: expected {size} bytes of {width} x {height} pixels, got {len(plain)}")
    found, place = np.empty((height, width, pixel), np.uint8), 0
    for (top, left, down, right), (h, w) in zip(passes, shapes, strict=True):
        if h and w:
            rows = np.frombuffer(plain, np.uint8, h * (1 + w * pixel), place).reshape(h, -1)
            found[top::down, left::right] = _unfiltered(rows[:, 0], rows[:, 1:].reshape(h, w, pixel))
            place += rows.size
    return found


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
