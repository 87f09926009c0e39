"""Volumes: read and write one, as values (D, H, W, C) in the precision of the file.

A volume is a NumPy file, a TIFF of several pages (also of ImageJ and OME), a folder of numbered pictures, or NIfTI (the
extra `nifti`). Imports no torch.

Symbols: D slices, H rows, W columns, C channels.
"""

import io
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from hypersiren.signals.files import SignalError, atomic_write, check_file, check_size, guarded, one_line, unlogged
from hypersiren.signals.image.files import picture_names, read_whole
from hypersiren.signals.image.formats import is_tiff
from hypersiren.signals.image.tiff import read_pages
from hypersiren.signals.image.wide import Wide, limits
from hypersiren.signals.numpy_files import parse_array

PHANTOM = "phantom"
"""Names the volume made by `phantom` where no file is called so."""

NIFTI = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")


@dataclass(frozen=True)
class Volume:
    """Values in [-1, 1], with what -1 and 1 are in the file.

    Attributes:
        values: 0 where there is no value.
        units: What -1 and 1 are.
        valid: Which voxels have a value; None for all.
    """

    values: Float32[np.ndarray, "D H W C"]
    units: tuple[float, float]
    valid: Bool[np.ndarray, "D H W"] | None = None


def read_volume(path: str | os.PathLike[str], *, range: tuple[float, float] | None = None, shrink: int = 1) -> Volume:
    """Read a volume.

    Args:
        path: A .npy of (D, H, W) or (D, H, W, C); a TIFF of several pages; a folder of pictures of one size, ordered by
            the numbers in their names; or NIfTI, of which D runs upwards, H from front to back, W from left to right.
        range: What -1 and 1 shall be; None for 0 and 255 of bytes, 0 and 1 of floats that lie there, and the least and
            the largest value of all others.
        shrink: The mean of so many voxels along each axis is taken.

    Raises:
        SignalError: If it cannot be read, is no volume, or too large for memory; or nothing tells a range.

    Warns:
        UserWarning: If the range is that of the values, values are clipped, or some are NaN or infinite.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/a.npy", np.arange(24, dtype=np.uint8).reshape(2, 3, 4) * 11)
        ...     volume = read_volume(f"{folder}/a.npy")
        >>> volume.values.shape, volume.units
        ((2, 3, 4, 1), (0.0, 255.0))
    """
    if str(path) == PHANTOM and not os.path.exists(path):
        return Volume(_shrunk(phantom()[..., None] * np.float32(2) - 1, shrink), (0.0, 1.0))
    with guarded("broken or truncated volume", path):
        stored = _read(path)
        if stored.ndim == 3:
            stored = stored[..., None]
        check_size(4 * stored.size, path, "take fewer voxels by --signal.shrink")
        finite = np.isfinite(stored).all(axis=-1) if stored.dtype.kind == "f" else None
        valid = None if finite is None or finite.all() else finite
        if valid is not None:
            if not valid.any():
                raise SignalError("no voxel has a finite value")
            warnings.warn(f"{os.fspath(path)}: {int((~valid).sum())} of {valid.size} voxels are NaN or infinite and "
                          "are not known", stacklevel=2)  # fmt: skip
        rows = (-1, stored.shape[2], stored.shape[3])
        full = (0.0, 255.0) if stored.dtype == np.uint8 else None
        wide = Wide(stored.reshape(rows), full)
        low, high = limits(wide, range, name=os.fspath(path), known=None if valid is None else valid.reshape(rows[:2]))
        values = stored.astype(np.float32)
        if stored.dtype.kind != "f" and stored.dtype.itemsize > 2:
            values = (stored - np.float64(low)).astype(np.float32) + np.float32(low)
        values -= np.float32((low + high) / 2)
        values /= np.float32((high - low) / 2)
        if valid is not None:
            values[~valid] = 0
        np.clip(values, -1, 1, out=values)
    if shrink == 1:
        return Volume(values, (low, high), valid)
    if valid is None:
        return Volume(_shrunk(values, shrink), (low, high))
    share = _shrunk(valid[..., None].astype(np.float32), shrink)
    mean = _shrunk(values, shrink) / share.clip(1e-9)
    return Volume(np.where(share >= 0.5, mean, 0).astype(np.float32), (low, high), share[..., 0] >= 0.5)


def phantom(size: Sequence[int] = (48, 64, 64)) -> Float32[np.ndarray, "D H W"]:
    """A head of ellipsoids within each other, after Shepp and Logan (1974): a volume to try things on, in [0, 1].

    Example:
        >>> phantom((4, 6, 6)).shape
        (4, 6, 6)
    """
    # Centre (z, y, x), half axes, angle about the first axis in degrees, what is added.
    parts = (
        ((0, 0, 0), (0.9, 0.92, 0.69), 0, 1.0), ((0, -0.0184, 0), (0.88, 0.874, 0.6624), 0, -0.8),
        ((0, 0, 0.22), (0.22, 0.31, 0.11), -18, -0.2), ((0, 0, -0.22), (0.28, 0.41, 0.16), 18, -0.2),
        ((-0.15, 0.35, 0), (0.41, 0.25, 0.21), 0, 0.1), ((0.25, 0.1, 0), (0.05, 0.046, 0.046), 0, 0.1),
        ((0.25, -0.1, 0), (0.05, 0.046, 0.046), 0, 0.1), ((0, -0.605, -0.08), (0.05, 0.023, 0.046), 0, 0.1),
        ((0.1, -0.605, 0.06), (0.05, 0.046, 0.023), 0, 0.1),
    )  # fmt: skip
    z, y, x = np.meshgrid(*((2 * np.arange(n) + 1) / n - 1 for n in size), indexing="ij")
    found = np.zeros(tuple(size), np.float32)
    for (cz, cy, cx), (az, ay, ax), angle, value in parts:
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        u, v, w = cos * (x - cx) + sin * (y - cy), cos * (y - cy) - sin * (x - cx), z - cz
        distance = np.sqrt((u / ax) ** 2 + (v / ay) ** 2 + (w / az) ** 2)
        # Borders as wide as a voxel, as a scanner has them.
        found += value * (0.5 + (1 - distance) * min(size) * min(az, ay, ax) / 2).clip(0, 1).astype(np.float32)
    return found.clip(0, 1)


def write_volume(path: str | os.PathLike[str], slices: Iterator[np.ndarray], shape: Sequence[int]) -> None:
    """Write a volume slice by slice, as .npy or as a TIFF stack of 32-bit floats; it appears complete or not at all.

    Args:
        path: The file, ending in .npy, .tif or .tiff. What was there is replaced.
        slices: (H, W, C) each.
        shape: (D, H, W, C); one channel gets no axis.

    Raises:
        SignalError: If the ending is another, or the file cannot be written.
    """
    depth, height, width, channels = shape
    lone = channels == 1
    frames = (np.ascontiguousarray(each[..., 0] if lone else each, np.float32) for each in slices)
    kind = Path(path).suffix.lower()
    if kind not in (".npy", ".tif", ".tiff"):
        raise SignalError(f"expected the ending .npy, .tif or .tiff, got {kind!r}", path)
    whole = (depth, height, width) if lone else (depth, height, width, channels)
    try:
        with atomic_write(path) as file:
            if kind == ".npy":
                np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": whole})
                for frame in frames:
                    file.write(frame.astype("<f4").tobytes())
            else:
                import tifffile

                words: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
                words |= {} if lone else {"planarconfig": "contig"}
                with tifffile.TiffWriter(file, bigtiff=4 * depth * height * width * channels > 2**31) as writer:
                    for frame in frames:
                        writer.write(frame, **words)
    except OSError as error:
        raise SignalError(f"cannot be written ({one_line(error)})", path) from error


def write_bands(path: str | os.PathLike[str], values: Float32[np.ndarray, "H W C"]) -> None:
    """Write a picture of any channels as .npy (H, W, C), or as a TIFF of 32-bit floats with a plane for each.

    Raises:
        SignalError: If the ending is another, or the file cannot be written.
    """
    kind = Path(path).suffix.lower()
    if kind not in (".npy", ".tif", ".tiff"):
        raise SignalError(f"expected the ending .npy, .tif or .tiff, got {kind!r}", path)
    data = io.BytesIO()
    if kind == ".npy":
        np.save(data, values)
    else:
        import tifffile

        words: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "separate", "metadata": None}
        tifffile.imwrite(data, np.moveaxis(values, -1, 0), **words)
    try:
        with atomic_write(path) as file:
            file.write(data.getvalue())
    except OSError as error:
        raise SignalError(f"cannot be written ({one_line(error)})", path) from error


def _read(path: str | os.PathLike[str]) -> Shaped[np.ndarray, "D H W *C"]:
    if os.path.isdir(path):
        return _folder(path)
    check_file(path, "a volume")
    name = os.fspath(path).lower()
    if name.endswith(NIFTI):
        return _nifti(path)
    if is_tiff(path):
        return read_pages(path)
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise SignalError("expected a volume: a .npy, a TIFF of several pages, NIfTI, or a folder of pictures")
    check_size(os.path.getsize(path), path, "save it in fewer bits")
    values = parse_array(Path(path).read_bytes())
    if values.ndim not in (3, 4) or 0 in values.shape or values.dtype.kind not in "biuf":
        raise SignalError(f"expected (D, H, W) or (D, H, W, C) of numbers, got {values.shape} {values.dtype}")
    if values.ndim == 4 and values.shape[0] <= 4 and min(values.shape[1:]) > 4:
        raise SignalError(f"expected channels last, (D, H, W, C), got {values.shape}: save array.transpose(1, 2, 3, 0)")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values.astype(np.uint8) * np.uint8(255) if values.dtype == bool else values


def _folder(path: str | os.PathLike[str]) -> np.ndarray:
    found: list[np.ndarray] = []
    for name in picture_names(path):
        picture = read_whole(os.path.join(path, name))
        if found and picture.shape != found[0].shape:
            raise SignalError(f"expected slices of one size, got {found[0].shape} and, of {name}, {picture.shape}")
        found.append(picture)
        check_size(4 * len(found) * picture.size, path, "take fewer slices")
    return np.stack(found)


def _nifti(path: str | os.PathLike[str]) -> np.ndarray:
    """(D, H, W[, C]): upwards, from front to back, from left to right, as the affine map of the file says."""
    try:
        import nibabel
    except ImportError:
        raise SignalError('NIfTI needs nibabel: pip install "hypersiren[nifti]"', path) from None
    with unlogged("nibabel.global"):
        image: Any = nibabel.load(os.fspath(path))
        check_size(4 * float(np.prod([float(n) for n in image.shape])), path, "take fewer voxels")
        image = nibabel.as_closest_canonical(image)
        values = np.asanyarray(image.dataobj)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (3, 4) or 0 in values.shape or values.dtype.kind not in "iuf":
        raise SignalError(f"expected three axes, or four with channels, got {values.shape} {values.dtype}")
    if values.ndim == 4:
        warnings.warn(f"{os.fspath(path)}: its {values.shape[3]} times are taken as channels", stacklevel=3)
    turned = np.swapaxes(values, 0, 2)[:, ::-1]  # x to the right, y to the front, z upwards
    kind = turned.dtype.newbyteorder("=")
    return np.ascontiguousarray(turned, np.float32 if kind == np.float64 else kind)


def _shrunk(values: np.ndarray, factor: int) -> np.ndarray:
    """Means of cubes of voxels; what fills no cube is left out."""
    if factor == 1:
        return values
    if min(values.shape[:3]) < factor:
        raise SignalError(f"expected at least {factor} voxels along each axis to shrink, got {values.shape[:3]}")
    d, h, w = (n // factor for n in values.shape[:3])
    total = np.zeros((d, h, w, values.shape[3]), np.float32)
    for i, j, k in itertools.product(range(factor), repeat=3):
        total += values[i : d * factor : factor, j : h * factor : factor, k : w * factor : factor]
    return total / np.float32(factor**3)
