"""PCD (Point Cloud Library, version 0.7): a text header of fields, then the points.

Points are text, or bytes point by point, or bytes field by field compressed by LZF. They are the fields x y z, normals
normal_x normal_y normal_z; the rest is passed over. VIEWPOINT tells where the sensor stood.

Why not a library: trimesh 5.2 has no reader of PCD, and Open3D would be a dependency for this format alone.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hypersiren.shapes.files.tables import RawPoints, from_columns, numbers, records
from hypersiren.signals.files import SignalError, check_size


@dataclass(frozen=True)
class _Header:
    """Names of the fields, NumPy types with the numbers per point, points, sensor, encoding."""

    names: list[str]
    kinds: list[str]
    points: int
    sensor: Float[np.ndarray, " 3"]
    encoding: str


def _header(data: bytes) -> tuple[_Header, bytes]:
    """The header, and what follows it."""
    entries: dict[str, list[str]] = {}
    place = 0
    while "DATA" not in entries:
        if (end := data.find(b"\n", place)) < 0:
            raise SignalError("expected a PCD header that ends with a line DATA")
        key, *values = data[place:end].decode("latin-1").split() or ["#"]
        entries[key], place = values, end + 1
    try:
        names = entries["FIELDS"]
        if not set(entries["TYPE"]) <= set("FIUfiu"):
            raise ValueError
        kinds = [
            f"({int(count)},)<{kind.lower()}{int(size)}"
            for kind, size, count in zip(
                entries["TYPE"], entries["SIZE"], entries.get("COUNT", ["1"] * len(names)), strict=True
            )
        ]
        points = math.prod(int(entries[key][0]) for key in (["POINTS"] if "POINTS" in entries else ["WIDTH", "HEIGHT"]))
        sensor = np.array(entries.get("VIEWPOINT", ["0", "0", "0"])[:3], np.float64)
        if len(kinds) != len(names) or points < 0 or sensor.shape != (3,) or not np.isfinite(sensor).all():
            raise ValueError
        if any(size < 0 for kind in kinds for size in np.dtype(kind).shape):
            raise ValueError
        return _Header(names, kinds, points, sensor, entries["DATA"][0]), data[place:]
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise SignalError("broken PCD header: expected FIELDS, SIZE, TYPE, COUNT and POINTS that agree") from error


def read_pcd(data: bytes) -> RawPoints:
    """The points of a PCD file; a SignalError if it is broken, truncated, or has none."""
    header, body = _header(data)
    if header.encoding == "ascii":
        counts = [math.prod(np.dtype(kind).shape) for kind in header.kinds]
        table = numbers(body, header.points, sum(counts))
        starts = np.cumsum([0, *counts[:-1]])
        columns = [table[:, i] if n else np.full(len(table), np.nan) for i, n in zip(starts, counts, strict=True)]
    elif header.encoding == "binary":
        columns = records(body, header.kinds, header.points)
    elif header.encoding == "binary_compressed":
        columns = _unpacked(body, header)
    else:
        raise SignalError(f"expected PCD data ascii, binary or binary_compressed, got {header.encoding!r}")
    named = dict(zip(header.names, columns, strict=True))
    for name in ("rgb", "rgba"):
        if name in named and header.encoding != "ascii" and named[name].dtype.itemsize == 4:
            packed = np.ascontiguousarray(named[name]).view(np.uint32)  # also of a float, which PCL makes of it
            named |= {
                key: (packed >> shift & 255).astype(np.uint8) for key, shift in zip("rgb", (16, 8, 0), strict=True)
            }
    return from_columns(named, header.sensor)


def _unpacked(body: bytes, header: _Header) -> list[np.ndarray]:
    """The columns of compressed points, which lie field by field."""
    packed, size = np.frombuffer(body[:8].ljust(8, b"\0"), "<u4").tolist()
    if len(body) >= 8 and size != (expected := header.points * sum(np.dtype(kind).itemsize for kind in header.kinds)):
        raise SignalError(f"broken: expected {expected} bytes of {header.points} points, the file says {size}")
    check_size(size)
    if len(body) < 8 + packed or not packed:
        raise SignalError(f"truncated: expected {packed} bytes of compressed points, got {max(len(body) - 8, 0)}")
    plain, place, columns = lzf_decompress(body[8 : 8 + packed], size), 0, []
    for kind in header.kinds:
        columns += records(plain[place:], [kind], header.points)
        place += header.points * np.dtype(kind).itemsize
    return columns


def lzf_decompress(data: bytes, size: int) -> bytes:
    """Undo LZF, which says either "n bytes follow" or "repeat n bytes from a distance back".

    A control byte below 32 announces that many bytes, and one more, as they are. Else its upper three bits are the
    length less 2 (7: a byte with more length follows), and its lower five with the next byte the distance less 1.

    Raises:
        SignalError: If the data is broken or does not give `size` bytes.

    Example:
        >>> lzf_decompress(bytes([1, 97, 98, 0x80, 1]), 8)
        b'abababab'
    """
    out = bytearray()
    place, end = 0, len(data)
    try:
        while place < end and len(out) <= size:
            control = data[place]
            place += 1
            if control < 32:
                out += data[place : place + control + 1]
                place += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[place]
                place += 1
            length += 2
            start = len(out) - ((control & 31) << 8 | data[place]) - 1
            place += 1
            if start < 0:
                raise IndexError
            if start + length <= len(out):
                out += out[start : start + length]
            else:  # what is repeated overlaps what it becomes
                period = out[start:]
                out += (period * (length // len(period) + 1))[:length]
    except IndexError as error:
        raise SignalError("broken compressed points") from error
    if len(out) != size or place != end:
        raise SignalError(f"broken compressed points: expected {size} bytes, got {len(out)}")
    return bytes(out)
