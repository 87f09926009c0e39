"""Memory that is free within the process: how much of it glibc keeps, on Linux. Imports no torch."""

import ctypes
import os
import sys
from functools import cache
from typing import Any

RETURN_SECONDS = 2.0
"""Between two calls of `return_freed_memory` in a training: it then takes 1 to 3 % of the time."""


def keep_freed_memory() -> None:
    """Let glibc keep what a training step frees for the next one, instead of giving it back to the system.

    A step asks for the same large tensors again and again; on a CPU this is up to a fifth of its time. Blocks of more
    than 32 MB, the most that glibc takes, still go back at once: PyTorch, if it is not imported yet, asks for these in
    pages of 2 MB instead of 4 KB, with which a step of the paper's hypernetwork takes a seventh less.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    if (libc := _libc()) is not None:
        libc.mallopt(mmap_threshold, 32 * 2**20)
        libc.mallopt(trim_threshold, 2**30)


def return_freed_memory() -> None:
    """Give back to the system what glibc keeps.

    Tensors begin at multiples of 64 bytes. Up to glibc 2.36 at least, the place of a freed one is too short for the
    next of the same size unless its neighbours are free too: a training that goes on takes gigabytes of which it uses
    little.
    """
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


@cache
def _libc() -> Any:
    """The C library, if it is glibc."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
