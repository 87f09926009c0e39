"""Images that stay on disk: a set larger than memory, read from its cache file where it is asked for.

The file is mapped. What a batch needs is asked of the disk for all its images at once, copied, and given back: the
process never holds more of the file than the batch, while the system keeps what it has room for. Processes that train
side by side share what it keeps.

Letters in shapes: M images in the set, B images of a batch, H height, W width, C channels.
"""

import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

LOG = logging.getLogger(__name__)

SHARE = 0.5
"""Share of the free memory that a set may take; a larger one stays on disk."""

BLOCK = 2**24
"""Bytes that are read at a time."""

InMemory = Literal["auto"] | bool
"""Whether a set is held in memory; auto: if it fits."""


class DiskPixels:
    """The pixels of a NumPy file as a set of images wants them: read by index, as tensors on a device.

    Args:
        path: A .npy file of uint8 in C order, shape (M, H, W, C). It may be replaced while it is open: this one goes on
            with the old content.
        device: Where what is read comes to.

    Raises:
        OSError, ValueError, EOFError: If it is no such file.

    Attributes:
        shape: (M, H, W, C).
        device: As given.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> np.save(f"{folder.name}/pixels.npy", np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1))
        >>> pixels = DiskPixels(f"{folder.name}/pixels.npy")
        >>> pixels[torch.tensor([2, 0])].flatten().tolist()
        [8, 9, 10, 11, 0, 1, 2, 3]
        >>> pixels.at(torch.tensor([1])).shape, len(pixels[1:])
        ((1, 2, 2, 1), 2)
    """

    def __init__(self, path: str | os.PathLike[str], device: torch.device | str = "cpu"):
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not (isinstance(found, np.memmap) and found.dtype == np.uint8 and found.ndim == 4 and len(found)):
            raise ValueError(f"{os.fspath(path)}: expected uint8 pixels (M, H, W, C)")
        if not found.flags.c_contiguous:
            raise ValueError(f"{os.fspath(path)}: expected pixels in C order")
        self._map: Any = found.base  # an mmap.mmap
        self._pixels, self._start = np.asarray(found), found.offset
        self._rows = np.arange(len(found))
        self.device = torch.device(device)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        _, h, w, c = self._pixels.shape
        return len(self._rows), h, w, c

    def __len__(self) -> int:
        return len(self._rows)

    def to(self, device: torch.device | str) -> "DiskPixels":
        """The same, still on disk; what is read of it comes to another device."""
        return self._with(self._rows, torch.device(device))

    def at(self, index: Tensor) -> "DiskPixels":
        """Some of the images, still on disk; index: places (B,), or which ones (M,) as booleans."""
        return self._with(self._rows[index.cpu().numpy()], self.device)

    def _with(self, rows: np.ndarray, device: torch.device) -> "DiskPixels":
        made = object.__new__(DiskPixels)
        made.__dict__.update(self.__dict__, _rows=rows, device=device)
        return made

    def __getitem__(self, index: Tensor | slice) -> UInt8[Tensor, "B H W C"]:
        """Read images.

        Raises:
            IndexError: If there are not so many.
        """
        rows = self._rows[index.cpu().numpy() if isinstance(index, Tensor) else index]
        # From pinned memory a copy to a GPU waits for nothing; torch keeps it, so that it is for batches only.
        pinned = self.device.type == "cuda" and len(rows) <= self._many
        found = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8, pin_memory=pinned)
        for i in range(0, len(rows), self._many):
            self._read(rows[i : i + self._many], found[i : i + self._many].numpy())
        return found.to(self.device, non_blocking=True)

    def blocks(self) -> Iterator[UInt8[np.ndarray, "B H W C"]]:
        """All images in their order, a block at a time."""
        for i in range(0, len(self), self._many):
            rows = self._rows[i : i + self._many]
            found = np.empty((len(rows), *self.shape[1:]), np.uint8)
            self._read(rows, found)
            yield found

    @property
    def _many(self) -> int:
        return max(1, BLOCK // self._pixels[0].size)

    def _read(self, rows: np.ndarray, out: np.ndarray) -> None:
        if hasattr(mmap, "MADV_WILLNEED"):  # not on Windows
            # All at once: one after the other, each image would wait for the disk.
            size = self._pixels[0].size
            for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
                start, stop = (self._start + int(i) * size for i in (run[0], run[-1] + 1))
                page = start - start % mmap.PAGESIZE
                self._map.madvise(mmap.MADV_WILLNEED, page, stop - page)
        np.take(self._pixels, rows, axis=0, out=out, mode="clip")  # rows are known to be there
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def keep_in_memory(size: int, label: str, wanted: InMemory = "auto", device: torch.device | str = "cpu") -> bool:
    """Whether a set shall be held in memory; if not, one line says why.

    Args:
        size: Bytes of its pixels.
        label: What people call it.
        wanted: "auto" holds what takes at most half of the free memory, of the device and of the machine.
        device: Where it would be held.

    Example:
        >>> keep_in_memory(1000, "a few"), keep_in_memory(1000, "a few", False), keep_in_memory(10**18, "all")
        (True, False, False)
    """
    if wanted == "auto":
        free = free_memory(device)
        if free is None or size <= SHARE * free:
            return True
        large, most = in_bytes(size), in_bytes(free)
        LOG.info("%s stays on disk: its %s are more than half of the %s of free memory", label, large, most)
        return False
    if not wanted:
        LOG.info("%s stays on disk, %s: data.in_memory is false", label, in_bytes(size))
    return wanted


def in_bytes(size: float) -> str:
    """A number of bytes for people.

    Example:
        >>> in_bytes(2_457_600_000), in_bytes(36_000), in_bytes(12)
        ('2.46 GB', '36 kB', '12 bytes')
    """
    scale, unit = next((pair for pair in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size >= pair[0]), (1, "bytes"))
    return f"{size / scale:.3g} {unit}"


def free_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes free on a device and on this machine, the fewer of both; None where the system does not say.

    A container's limit counts. Each of the processes that torchrun started on this machine has its part of the
    machine's.
    """
    free = [torch.cuda.mem_get_info(device)[0]] if torch.device(device).type == "cuda" else []
    machine = [found for found in (_available(), *map(_left, CONTAINERS)) if found is not None]
    if machine:
        free.append(max(0, min(machine)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return min(free, default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS does not say what is free
    except (AttributeError, ValueError, OSError):
        return None


CONTAINERS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""Where Linux says what a container may use and does use, in both versions of its control groups."""


def _left(container: tuple[str, str, str]) -> int | None:
    folder, most, used = container
    try:
        limit, current = (int((Path(folder) / name).read_text()) for name in (most, used))
        pairs = (line.split() for line in (Path(folder) / "memory.stat").read_text().splitlines())
        files = next(int(count) for name, count in pairs if name == "inactive_file")
    except (OSError, ValueError, StopIteration):  # there is no limit, or no container
        return None
    return limit - current + files  # files that were read are kept only while there is room
