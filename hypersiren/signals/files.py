"""What every reader and writer of files needs: one kind of error, a check, writing whole or not at all. No torch."""

import contextlib
import glob
import os
import platform
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hypersiren.errors import UserError


@dataclass(eq=False)
class SignalError(UserError):
    """A signal that cannot be read or written: one line that names the file, where there is one, and what is wrong."""

    reason: str
    path: str | os.PathLike[str] | None = None

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{os.fspath(self.path)}: {self.reason}"


def check_file(path: str | os.PathLike[str], what: str) -> None:
    """Raise a SignalError unless there is a readable file that holds anything; `what` it should be, e.g. "a sound"."""
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
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file beside `path` that takes its place once written without an error, and else disappears.

    What a process that was killed left of an earlier one is removed.
    """
    path = Path(path)
    here = f".{path.name[:64]}.{zlib.crc32(platform.node().encode()):08x}-"
    for old in path.parent.glob(f"{glob.escape(here)}*.part"):
        if not _is_alive(old.name.removeprefix(here).partition("-")[0]):
            old.unlink(missing_ok=True)
    part = path.with_name(f"{here}{os.getpid()}-{secrets.token_hex(4)}.part")
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
    """What an error says, without line breaks and error numbers."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
