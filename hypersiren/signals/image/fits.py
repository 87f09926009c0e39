"""FITS: the picture in the first part of an astronomer's file, in the values that its header says. No torch.

Pillow reads the numbers as they are stored, without BZERO and BSCALE, and 16 bits without their sign. The scaled value
is BZERO + BSCALE * stored (FITS 4.0, section 4.4.2.5). The first row of a file is the lowest of the picture.
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from hypersiren.signals.files import SignalError, check_size, guarded
from hypersiren.signals.image.wide import Wide

BLOCK = 2880

TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
"""By BITPIX."""


def read_fits(path: str | os.PathLike[str]) -> Wide:
    """The picture of the first part: two axes, or three, of which the third are channels.

    Raises:
        SignalError: If it is broken, or its first part holds no picture.
    """
    with guarded("broken or truncated image", path):
        check_size(os.path.getsize(path), path)
        data = Path(path).read_bytes()
        cards, start = _cards(data)
        bits, axes = int(cards.get("BITPIX", "0")), int(cards.get("NAXIS", "0"))
        shape = [int(cards.get(f"NAXIS{i}", "0")) for i in range(1, axes + 1)][::-1] if 0 <= axes < 1000 else []
        while len(shape) > 3 and shape[0] == 1:
            shape = shape[1:]
        if len(shape) == 3 and shape[0] == 1:
            shape = shape[1:]
        if len(shape) not in (2, 3) or min(shape) < 1 or bits not in TYPES:
            raise SignalError(
                f"expected a picture in the first part of the file, got {'x'.join(map(str, shape)) or 'no'} numbers of "
                f"{bits} bits; take a picture in a later part, or a compressed one, out first (funpack, astropy)"
            )
        kind = np.dtype(TYPES[bits])
        count = int(np.prod([float(n) for n in shape])) if np.prod([float(n) for n in shape]) < 2**50 else 2**50
        check_size(8 * count, path)
        if len(data) - start < count * kind.itemsize:
            raise SignalError(f"truncated: expected {count * kind.itemsize} bytes of pixels, got {len(data) - start}")
        values: Any
        stored = np.frombuffer(data, kind, count, start).reshape(shape)
        zero, scale = float(cards.get("BZERO", "0")), float(cards.get("BSCALE", "1"))
        blank = int(cards["BLANK"]) if "BLANK" in cards and bits > 0 else None
        valid = None if blank is None or not (stored == blank).any() else stored != blank
        full = (0.0, 255.0) if bits == 8 and (zero, scale) == (0, 1) else None
        if bits == 16 and (zero, scale) == (32768, 1):  # how FITS stores 16 bits without sign
            values, full = (stored.astype(np.int32) + 32768).astype(np.uint16), (0.0, 65535.0)
        elif (zero, scale) == (0, 1):
            values = stored.astype(kind.newbyteorder("="))
        else:
            values = zero + scale * stored.astype(np.float64)
        if len(shape) == 3:
            values = np.moveaxis(values, 0, -1)
            valid = None if valid is None else valid.all(axis=0)
        else:
            values = values[..., None]
        return Wide(values[::-1], full, valid=None if valid is None else valid[::-1])


def _cards(data: bytes) -> tuple[dict[str, str], int]:
    """The header's values by their names, and where the pixels begin."""
    cards: dict[str, str] = {}
    for place in range(0, len(data) - 79, 80):
        card = data[place : place + 80].decode("latin-1")
        if card.startswith("END") and not card[3:].strip():
            return cards, -(-(place + 80) // BLOCK) * BLOCK
        if card[8:10] == "= ":
            found = re.match(r"\s*([^/\s']+)", card[10:])
            if found:
                cards.setdefault(card[:8].strip(), found[1].replace("D", "E"))
    raise SignalError("broken or truncated image (its header has no end)")
