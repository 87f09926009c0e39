"""Raw photographs: what a camera's sensor counted, before colours are made of it. They are refused. No torch.

Many are TIFFs whose first picture is a thumbnail, so a reader of TIFFs would take that without a word; see
`hypersiren.signals.image.tiff`, which asks the tags. The others are told by their first bytes.
"""

import os

from hypersiren.signals.files import SignalError

ENDINGS = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
"""Of files that cameras write in their own formats."""

_MAGIC = (
    (0, b"FUJIFILMCCD-RAW"), (0, b"IIRO"), (0, b"IIRS"), (0, b"MMOR"), (0, b"IIU\0"), (0, b"FOVb"), (0, b"\0MRM"),
    (6, b"HEAPCCDR"), (4, b"ftypcrx"), (8, b"CR\2"),
)  # fmt: skip
"""Fujifilm, Olympus, Panasonic, Sigma, Minolta, Canon."""


def refuse(path: str | os.PathLike[str], why: str) -> SignalError:
    """The error that says what to do."""
    return SignalError(
        f"a raw photograph ({why}), whose colours are not made yet: develop it first, with darktable, RawTherapee or "
        "your camera's program, and give the TIFF or PNG",
        path,
    )


def check_raw(path: str | os.PathLike[str], head: bytes) -> None:
    """Raise a SignalError if the first bytes of a file are those of a camera's raw format.

    Example:
        >>> check_raw("a.raf", b"FUJIFILMCCD-RAW 0201")
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: a.raf: a raw photograph (by its first bytes), whose colours are not made
        yet: develop it first, with darktable, RawTherapee or your camera's program, and give the TIFF or PNG
    """
    if any(head[place : place + len(magic)] == magic for place, magic in _MAGIC):
        raise refuse(path, "by its first bytes")
