"""What every reader and writer of files needs: one kind of error, checks, writing whole or not at all. No torch.

One limit holds for what a single file may become in memory: `limit()`, 1 GiB. A few thousand bytes can claim to be
terabytes; what a file claims is compared with it before anything is allocated. Whoever means a larger one sets the
environment variable HYPERSIREN_LIMIT to so many GiB.
"""

import contextlib
import glob
import logging
import math
import os
import platform
import secrets
import stat
import sys
import traceback
import types
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hypersiren.errors import UserError

_READERS = ("numpy", "scipy", "PIL", "tifffile", "soundfile", "av", "trimesh", "skimage", "torch", "torchvision")
"""Modules that read files; which versions of them are loaded is told where one lacks something."""

_HYPERSIREN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


@dataclass(eq=False)
class SignalError(UserError):
    """A signal that cannot be read or written: one line that names the file, where there is one, and what is wrong."""

    reason: str
    path: str | os.PathLike[str] | None = None

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{os.fspath(self.path)}: {self.reason}"


class LibraryError(UserError):
    """An installed library lacks what hypersiren asks of it, which is no fault of the file that was to be read."""


def check_library(error: Exception, path: str | os.PathLike[str] | None = None) -> None:
    """Raise a LibraryError if an error says that a library lacks a module, an attribute or an argument.

    For whoever takes any other error of a reader as a fault of its file. What a file cannot cause: a failed import, an
    attribute that a module or a class has not, an argument of an unknown name; and an attribute of an object, or a
    number of arguments, where hypersiren itself asked for it.

    Example:
        >>> try:
        ...     math.cube
        ... except AttributeError as error:
        ...     check_library(error, "a.png")
        Traceback (most recent call last):
        hypersiren.signals.files.LibraryError: a.png: cannot be read by the libraries installed here, through no fault
        of its own (module 'math' has no attribute 'cube'); ...
    """
    if isinstance(error, AttributeError):
        owner = error.obj
        own = type(owner).__module__ != "builtins" and _is_asked_here(error)
        lacks = isinstance(owner, types.ModuleType | type) or own
    elif isinstance(error, TypeError):
        lacks = "keyword argument" in str(error) or ("positional argument" in str(error) and _is_asked_here(error))
    else:
        lacks = isinstance(error, ImportError)
    if lacks:
        versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in _READERS}
        found = [f"{name} {version}" for name, version in versions.items() if version]
        raise LibraryError(
            f"{'the file' if path is None else os.fspath(path)}: cannot be read by the libraries installed here, "
            f"through no fault of its own ({one_line(error)}); hypersiren's pyproject.toml says which versions it "
            f"needs, these are {', '.join(found)}"
        ) from error


def _is_asked_here(error: Exception) -> bool:
    """Whether the last line of Python that was run is one of hypersiren: compiled modules have no files of theirs."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((name for name in reversed(files) if os.path.isfile(name)), "").startswith(_HYPERSIREN)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise a SignalError if this is a pipe or a device: they may never end, and files are opened more than once."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # whoever opens it says why not
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SignalError("a pipe or a device, not a file", path)


def check_file(path: str | os.PathLike[str], what: str) -> None:
    """Raise a SignalError unless there is a readable file that holds anything; `what` it should be, e.g. "a sound"."""
    check_regular(path)
    try:
        if os.path.isdir(path):
            raise SignalError(f"a folder, not {what}", path)
        with open(path, "rb") as file:
            if not file.read(1):
                raise SignalError("empty file", path)
    except FileNotFoundError:
        raise SignalError("no such file", path) from None
    except OSError as error:
        raise SignalError(f"cannot be read ({one_line(error)})", path) from error


@contextlib.contextmanager
def guarded(what: str, path: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Around a reader: whatever a decoder raises becomes a SignalError that says `what` and names the file.

    Except where a library lacks something (see `check_library`), and what hypersiren itself says to its user.

    Example:
        >>> with guarded("broken table", "a.csv"):
        ...     float("x")
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: a.csv: broken table (could not convert string to float: 'x')
    """
    try:
        if path is not None:
            check_regular(path)
        yield
    except SignalError as error:
        if error.path is None and path is not None:
            error.path = path
        raise
    except UserError:
        raise
    except MemoryError as error:
        raise SignalError("needs more memory than there is", path) from error
    except Exception as error:  # decoders raise whatever their file leads them to
        check_library(error, path)
        raise SignalError(f"{what} ({one_line(error)})", path) from error


@contextlib.contextmanager
def unlogged(name: str) -> Iterator[None]:
    """Without what a library writes to its log: it raises, too, and one line is enough."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Without what a C library prints to stderr of its own accord: the error that it raises is enough.

    For the whole process, so only around the decoding of one file.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):  # there is no stderr
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def limit() -> int:
    """Bytes of memory that one file may become: 1 GiB, or as many GiB as HYPERSIREN_LIMIT says."""
    text = os.environ.get("HYPERSIREN_LIMIT", "1")
    try:
        gibibytes = float(text)
    except ValueError:
        gibibytes = math.nan
    if not 0 < gibibytes < math.inf:
        raise UserError(f"HYPERSIREN_LIMIT: expected a number of GiB above 0, got {text!r}")
    return int(gibibytes * 2**30)


def check_size(size: float, path: str | os.PathLike[str] | None = None, mend: str = "") -> None:
    """Refuse what would become more than `limit()` bytes in memory; `mend` is what else could be done about it.

    Example:
        >>> check_size(3 * 2**40, "a.png")
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: a.png: would take 3,072.0 GiB of memory, more than the 1 GiB that a file
        may: if that is meant, set HYPERSIREN_LIMIT=3073
    """
    if size > (most := limit()):
        needed = size / 2**30
        raise SignalError(
            f"would take {needed:,.1f} GiB of memory, more than the {most / 2**30:g} GiB that a file may: "
            f"{mend}{'; or ' if mend else ''}if that is meant, set HYPERSIREN_LIMIT={math.floor(needed) + 1}",
            path,
        )


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file beside `path` that takes its place once written without an error, and else disappears.

    What a process that was killed left of an earlier one is removed.
    """
    path = Path(path)
    name = path.name[:64]
    remove_stale(path.parent, glob.escape(name))
    part = path.with_name(f".{name}.{_computer()}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            yield file
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.filename in (None, os.fspath(part)):  # a full disk names no file
            error.filename = os.fspath(path)
        raise


def remove_stale(folder: Path, name: str = "*") -> None:
    """Remove what killed processes of this computer left half written of files whose names match."""
    for old in folder.glob(f".{name}.{_computer()}-*-*.part"):
        if not _is_alive(old.name.split("-")[-2]):
            old.unlink(missing_ok=True)


def _computer() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_alive(process: str) -> bool:
    """Whether a process of this computer may still run."""
    if os.name != "posix" or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def one_line(error: Exception) -> str:
    """What an error says, without line breaks, error numbers and unprintable characters, 200 characters of it."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return (line if len(line) <= 200 else f"{line[:197]}...") or type(error).__name__
