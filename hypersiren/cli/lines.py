"""What a person at the terminal reads: a line on stderr for each stage, results on stdout. Imports no torch.

The library logs to the logger "hypersiren": INFO for each stage, DEBUG for details, WARNING for what is odd. `showing`
prints that. On a terminal the newest detail stands in a line that the next one replaces; where nothing comes, that line
counts the seconds, so that a long stage is never silent.
"""

import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypersiren.errors import clear_line

LOG = logging.getLogger("hypersiren")

LEVELS = {"-q": logging.ERROR, "--quiet": logging.ERROR, "-v": logging.DEBUG, "--verbose": logging.DEBUG}
"""Flags of every command, and the least level that they show; without one it is INFO."""

SILENCE = 1.0
"""Seconds without a word after which a terminal shows how long the stage has taken."""


class Lines(logging.Handler):
    """Prints records above any progress bar.

    Args:
        least: The least level that gets a line of its own.
        live: Whether to show details, and seconds, in a line that is replaced.
    """

    def __init__(self, least: int, live: bool):
        super().__init__()
        self.least, self.live = least, live
        self._drawn, self._detail, self._since = False, "", time.monotonic()
        if live:
            threading.Thread(target=self._tick, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        text = ("warning: " if record.levelno >= logging.WARNING else "") + record.getMessage()
        if record.levelno >= self.least:
            self.write(text, sys.stderr)
        elif self.live and not _bars():
            self._draw(text)
        self._detail = text

    def write(self, text: str, file: Any) -> None:
        """A line of its own."""
        with self.lock:  # type: ignore[union-attr]
            self._erase()
            if _bars():
                sys.modules["tqdm"].tqdm.write(text, file=file)
            else:
                print(text, file=file, flush=True)
            self._since = time.monotonic()

    def close(self) -> None:
        with self.lock:  # type: ignore[union-attr]
            self.live = False
            self._erase()
        super().close()

    def _draw(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{clear_line(text)[:width]}")
        sys.stderr.flush()
        self._drawn, self._since = True, time.monotonic()

    def _erase(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def _tick(self) -> None:
        started, last = time.monotonic(), ""
        while True:
            time.sleep(SILENCE / 4)
            with self.lock:  # type: ignore[union-attr]
                if not self.live:
                    return
                now = time.monotonic()
                if self._detail != last:
                    started, last = now, self._detail
                if now - self._since < SILENCE:
                    continue
                for bar in (bars := _bars()):
                    if time.time() - bar.last_print_t >= SILENCE:
                        bar.refresh()
                self._since = now
                if not bars and last:
                    self._draw(f"... {last}, {now - started:.0f} s")


def _bars() -> list[Any]:
    """The progress bars that are open."""
    tqdm = sys.modules.get("tqdm")
    return [] if tqdm is None else list(tqdm.tqdm._instances)


@contextmanager
def showing(level: int) -> Iterator[None]:
    """Print what the library logs, from this level on."""
    live = sys.stderr.isatty() and level == logging.INFO
    handler, before = Lines(level, live), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG if live else level)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()
        LOG.setLevel(before)


def progress() -> bool:
    """Whether progress bars are shown: not under --quiet."""
    return LOG.isEnabledFor(logging.INFO)


def announce(command: str) -> None:
    """The first line of a command, before torch is imported, which takes seconds."""
    LOG.info(command if "torch" in sys.modules else f"{command}: loading PyTorch")


def show(text: Any) -> None:
    """Print a result on stdout."""
    _write(str(text), sys.stdout)


def tell(text: str) -> None:
    """Print on stderr, at any level."""
    _write(text, sys.stderr)


def _write(text: str, file: Any) -> None:
    for handler in LOG.handlers:
        if isinstance(handler, Lines):
            handler.write(text, file)
            return
    print(text, file=file)
