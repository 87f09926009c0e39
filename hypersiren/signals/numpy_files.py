"""NumPy's files, .npy and .npz, with what their headers claim compared with what is there. No torch."""

import io
import math
import zipfile
from typing import Any

import numpy as np

from hypersiren.signals.files import SignalError, check_size


def parse_arrays(data: bytes, name: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz by their names, or that of a .npy under the name given.

    Raises:
        SignalError: If an array claims more than is there, or holds objects, or all are too large.
        Exception: Whatever broken bytes lead NumPy and zipfile to.

    Example:
        >>> file = io.BytesIO()
        >>> np.savez(file, a=np.arange(3))
        >>> parse_arrays(file.getvalue(), "points")
        {'a': array([0, 1, 2])}
    """
    if data[:6] == b"\x93NUMPY":
        return {name: parse_array(data)}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        check_size(sum(info.file_size for info in archive.infolist()))
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        return {info.filename.removesuffix(".npy"): parse_array(archive.read(info)) for info in members}


def parse_array(data: bytes) -> np.ndarray:
    """The array of a .npy."""
    file = io.BytesIO(data)
    shape, dtype = read_header(file)
    if math.prod(shape) * dtype.itemsize > len(data) - file.tell():
        raise SignalError(f"truncated: expected {dtype} numbers of shape {shape}, got {len(data) - file.tell()} bytes")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def read_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that a .npy claims; SignalError if it holds objects."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise SignalError("expected numbers, got Python objects")
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise SignalError(f"expected a shape of whole numbers, got {shape}")
    return shape, dtype
