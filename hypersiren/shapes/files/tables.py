"""What the readers of point files share: the raw points they give, and tables of numbers as text or bytes.

Symbols: N points.
"""

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hypersiren.signals.files import SignalError, check_regular


@dataclass(frozen=True)
class RawPoints:
    """What a file holds, unchecked: rows may be NaN, normals of any length.

    Attributes:
        points: Where the points are.
        normals: Their normals, if the file has them.
        sensor: Where they were seen from, if the file says so.
        half: Whether they come in half precision.
        colours: Red, green and blue of each in [0, 1], NaN where they are not known, if the file has them.
    """

    points: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"] | None = None
    sensor: Float[np.ndarray, " 3"] | None = None
    half: bool = False
    colours: Float[np.ndarray, "N 3"] | None = None


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """A whole file; a SignalError if that is impossible or it is empty."""
    check_regular(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise SignalError("no such file", path) from None
    except OSError as error:
        raise SignalError(f"cannot be read ({error.strerror or error})", path) from error
    if not data:
        raise SignalError("empty file", path)
    return data


def numbers(data: bytes, rows: int | None = None, columns: int | None = None) -> np.ndarray:
    """A table of numbers in text, its first `rows` rows if so many are wanted; SignalError if it has not those."""
    # NumPy makes room for all rows that are wanted; a row takes two bytes or more.
    most = None if rows is None else min(rows, len(data) // 2 + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's of an empty table
            table = np.loadtxt(io.BytesIO(data), np.float64, comments=("#", "//"), ndmin=2, max_rows=most)
    except ValueError as error:
        reason = " ".join(str(error).split()).partition("; use")[0]  # NumPy's advice is for programmers
        raise SignalError(f"expected rows of numbers, all of one length ({reason})") from error
    if len(table) < (rows or 0):
        raise SignalError(f"truncated: expected {rows} rows of numbers, got {len(table)}")
    if columns is not None and len(table) and table.shape[1] != columns:
        raise SignalError(f"expected {columns} numbers a row, got {table.shape[1]}")
    return table if len(table) else np.empty((0, columns or 3))


def records(data: bytes, kinds: list[str], count: int) -> list[np.ndarray]:
    """Columns of binary rows by NumPy types; of a type with several numbers the first. SignalError if truncated.

    A column of a type with no number at all is NaN.
    """
    row = np.dtype([(str(i), kind) for i, kind in enumerate(kinds)])
    if len(data) < count * row.itemsize:
        raise SignalError(f"truncated: expected {count * row.itemsize} bytes of points, got {len(data)}")
    table = np.frombuffer(data, row, count)
    columns = [table[str(i)].reshape(count, -1) if table[str(i)].size else None for i in range(len(kinds))]
    return [np.full(count, np.nan) if column is None else column[:, 0] for column in columns]


def from_columns(columns: dict[str, np.ndarray], sensor: np.ndarray | None = None) -> RawPoints:
    """Points, normals and colours among named columns; SignalError if there are no points."""
    points = _stacked(columns, ("x", "y", "z"))
    if points is None:
        raise SignalError(f"expected columns x, y and z, got {sorted(columns)}")
    colours = None
    for names in (("r", "g", "b"), ("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue")):
        if (found := _stacked(columns, names)) is not None:
            colours = as_colours(found, columns[names[0]].dtype)
    for names in (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")):
        normals = _stacked(columns, names)
        if normals is not None:
            return RawPoints(points, signed(normals, columns[names[0]].dtype), sensor, colours=colours)
    return RawPoints(points, None, sensor, colours=colours)


def as_colours(values: Float[np.ndarray, "N 3"], dtype: np.dtype | None = None) -> Float[np.ndarray, "N 3"] | None:
    """Red, green and blue in [0, 1]; None where values have another range.

    Whole numbers of a type of 8 or 16 bits span its range; others 0 to 1, 0 to 255 or 0 to 65535, the least of these
    that holds them all.

    Example:
        >>> as_colours(np.array([[0.0, 51.0, 255.0]])).tolist(), as_colours(np.array([[0.0, -1.0, 2.0]]))
        ([[0.0, 0.2, 1.0]], None)
    """
    finite = values[np.isfinite(values)]
    if not finite.size or finite.min() < 0:
        return None
    if dtype is not None and dtype.kind == "u" and dtype.itemsize <= 2:
        return values / np.iinfo(dtype).max
    full = next((full for full in (1.0, 255.0, 65535.0) if finite.max() <= full), None)
    return None if full is None else values / full


def signed(normals: Float[np.ndarray, "N 3"], dtype: np.dtype) -> Float[np.ndarray, "N 3"]:
    """Normals with their sign: of an unsigned type, 0 to its largest number stand for -1 to 1.

    So do whole numbers of 0 to 255 in text, if they are of unit length then.

    Example:
        >>> signed(np.array([[0.0, 127.5, 255.0]]), np.dtype("u1")).tolist()
        [[-1.0, 0.0, 1.0]]
    """
    if dtype.kind == "u":
        return normals / (np.iinfo(dtype).max / 2) - 1
    finite = normals[np.isfinite(normals).all(1)]
    if dtype.kind == "f" and len(finite) and finite.min() >= 0 and finite.max() > 1 and not (finite % 1).any():
        scaled = normals / 127.5 - 1
        lengths = np.linalg.norm(scaled[np.isfinite(scaled).all(1)], axis=1)
        if finite.max() > 255 or (np.abs(lengths - 1) < 0.03).mean() < 0.95:
            raise SignalError(
                f"expected normals, got whole numbers from {finite.min():g} to {finite.max():g} without a sign, "
                "which are not of unit length as 0 to 255 for -1 to 1 either"
            )
        return scaled
    return normals


def _stacked(columns: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    if not set(names) <= columns.keys():
        return None
    return np.stack([columns[name].astype(np.float64) for name in names], axis=1)
