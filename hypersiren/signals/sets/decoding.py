"""Decoding: all images of a ImageSource as one uint8 array, each read once, by several processes where there are many.

Imports no torch, and workers import nothing else of the library: they start in a moment and stay small.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import SizeError
from hypersiren.signals.sets.sources import ImageSource, Target
from hypersiren.signals.sets.splits import DatasetError

LOG = logging.getLogger(__name__)

FEW = 500
"""Up to so many images, starting processes costs more than it gains."""

SPAN = 16
"""Images that a worker reads at a time: few, so that Ctrl-C never waits long."""

AHEAD = 16
"""Times as many spans as workers, that may be read before they are wanted."""

Skipped = tuple[str, str]
"""Name of an image, and why it could not be read."""


Read = tuple[np.ndarray, list[Skipped], list[Skipped]]
"""Images, those that could not be read, and what was said of others."""


def decode(
    source: ImageSource, target: Target, *, workers: int | None = None, progress: bool = True
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read all images of a source into memory; for arguments and errors see `decode_parts`.

    Returns:
        Images (M, H, W, C) uint8, and "name: reason" for each one skipped.

    Example:
        >>> from hypersiren.signals.sets.sources import photos
        >>> images, skipped = decode(photos("train", crops=3, seed=0), Target((16, 16)))
        >>> images.shape, skipped
        ((3, 16, 16, 3), ())
    """
    pixels, count = np.empty(target.shape(len(source.names)), np.uint8), 0
    skipped: list[str] = []
    with contextlib.closing(decode_parts(source, target, workers=workers, progress=progress)) as parts:
        for images, failures in parts:
            pixels[count : count + len(images)] = images
            count += len(images)
            skipped += failures
    return pixels[:count], tuple(skipped)


def decode_parts(
    source: ImageSource, target: Target, *, workers: int | None = None, progress: bool = True
) -> Generator[tuple[np.ndarray, list[str]], None, None]:
    """Read all images of a source, in their order, without those that cannot be read: a few at a time.

    Args:
        source: Where they come from.
        target: What each is brought to.
        workers: Processes, or threads of this one if it uses a GPU; None for one per CPU, 1 for none but this one.
        progress: Whether to show a bar, if stderr is a terminal.

    Yields:
        Images (B, H, W, C) uint8, and "name: reason" for each one skipped.

    Raises:
        DatasetError: If none can be read, an image has another size than crop="none" demands, or a worker dies.
    """
    n, count = len(source.names), 0
    first = ""
    said: dict[str, list[str]] = {}
    results = _results(source, target, _processes(n, workers))
    # tqdm's disable=None means: unless stderr is a terminal.
    hidden = None if progress and LOG.isEnabledFor(logging.WARNING) else True
    LOG.debug("decoding %s: %d files", source.label, n)
    # Closing the generator at once ends the workers.
    with contextlib.closing(results), tqdm(total=n, desc=source.label, disable=hidden) as bar:
        for images, failures, notes in results:
            for name, note in notes:
                said.setdefault(note, []).append(name)
            count += len(images)
            skipped = [f"{name}: {reason}" for name, reason in failures]
            first = first or next(iter(skipped), "")
            yield images, skipped
            bar.update(len(images) + len(failures))
    for note, names in said.items():
        LOG.warning("%s: %d of %d files, the first %s: %s", source.label, len(names), n, names[0], note)
    if count == 0:
        raise DatasetError(f"{source.label}: none of {n} files could be read as an image; the first: {first}")


def _processes(images: int, workers: int | None) -> int:
    if workers is not None and workers < 1:
        raise DatasetError(f"expected at least one worker, got {workers}")
    # A daemonic process may not have children.
    if images <= FEW or multiprocessing.current_process().daemon:
        return 1
    return workers or os.cpu_count() or 1


def _results(source: ImageSource, target: Target, workers: int) -> Generator[Read, None, None]:
    n = len(source.names)
    spans = [(i, min(i + SPAN, n)) for i in range(0, n, SPAN)]
    if workers == 1:
        yield from (_read_span(source, target, *span) for span in spans)
        return
    # The first span is read here: what loading it leaves in memory, forked workers inherit.
    yield _read_span(source, target, *spans[0])
    # Spawned workers import the caller's __main__ again, which scripts without a guard do not survive; forked ones do
    # not, and are safe here as they use Pillow and NumPy only. macOS has fork, but its system libraries bear it badly.
    # No process may be forked that uses a GPU: there threads read, side by side too as far as Pillow decodes.
    pool: Executor
    work: Callable[..., Read]
    if cuda_has_begun():
        pool, work = ThreadPoolExecutor(workers), partial(_read_span, source, target)
    else:
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        pool, work = ProcessPoolExecutor(workers, context, _start_worker, (source, target)), _work
    try:
        waiting: deque[Future[Read]] = deque()
        for span in spans[1:]:
            waiting.append(_submit(pool, work, span))
            # Whoever takes the images may be slower than the workers; what waits for it is in memory.
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DatasetError(f"{source.label}: a decoding process died (out of memory?); try workers=1") from error
    finally:
        pool.shutdown(cancel_futures=True)


def cuda_has_begun() -> bool:
    """Whether this process uses a GPU; without torch it does not."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _submit(pool: Executor, work: Callable[..., Any], span: tuple[int, int]) -> "Future[Read]":
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        return pool.submit(work, *span)


_job: tuple[ImageSource, Target] | None = None  # what a worker works on, sent once instead of with every span


def _start_worker(source: ImageSource, target: Target) -> None:
    global _job
    _job = (source, target)
    # Ctrl-C reaches every process of the terminal; the parent alone answers it, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A parent that is killed cannot end them: they watch it.
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _work(start: int, stop: int) -> Read:
    assert _job is not None
    return _read_span(*_job, start, stop)


def _read_span(source: ImageSource, target: Target, start: int, stop: int) -> Read:
    images, failures, notes = [], [], []
    for i in range(start, stop):
        try:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always", UserWarning)
                images.append(source.read(i, target))
            # A line begins with its file's name, which is not that of others.
            notes += [(source.names[i], str(warning.message).rpartition(": ")[2]) for warning in heard]
        except SizeError as error:
            raise DatasetError(f'{source.names[i]}: {error.reason}, and crop="none" lets none be resized') from None
        except SignalError as error:
            failures.append((source.names[i], error.reason))
    return np.stack(images) if images else np.empty(target.shape(0), np.uint8), failures, notes
