"""Pictures of a finished fit, drawn while the next signal is fitted: by a thread, and figures by another process.

matplotlib holds Python's lock for most of a second, for which each of the many operations of a solve would wait.
"""

import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from hypersiren.plotting import ZOOM, Pixels, Plot, draw_rows, figure_pixels

Rows = Sequence[Sequence[Plot | None]]


class Later:
    """Calls functions in their order, in a thread of its own.

    Example:
        >>> done = []
        >>> with Later() as later:
        ...     later(lambda: done.append(1))
        ...     later(lambda: done.append(2))
        >>> done
        [1, 2]
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._calls: deque[Future[None]] = deque()

    def __call__(self, function: Callable[[], None]) -> None:
        """Call it when those before it are done."""
        self._calls.append(self._thread.submit(function))

    @property
    def count(self) -> int:
        """How many calls are not known to be done."""
        return len(self._calls)

    def wait(self, count: int = 0) -> None:
        """Wait until at most so many are left; what one of them raises is raised here."""
        while len(self._calls) > count:
            self._calls.popleft().result()

    def draw(self, rows: Rows, title: str) -> Pixels:
        """As `draw`, by the other process; if that is gone, by this one."""
        try:
            pickle.dump((rows, title), self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.PickleError):
            return draw(rows, title)

    def __enter__(self) -> "Later":
        # In a session of its own: Ctrl-C is for the fits, and what they have left to draw is drawn.
        self._process: Any = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()
        self._process.communicate()  # the end of its input is its end
        if error is None:
            self.wait()


def serve() -> None:
    """What the other process does."""
    while True:
        try:
            rows, title = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(draw(rows, title), sys.stdout.buffer)
        sys.stdout.buffer.flush()


def draw(rows: Rows, title: str) -> Pixels:
    """Rows of plots as an image (H, W, 3), see `draw_rows`."""
    return figure_pixels(draw_rows(rows, title), zoom=ZOOM)


def do_later(task: Any, function: Callable[[], None]) -> None:
    """Call a function at once, or give it to the task's `later`, which a task from outside need not have."""
    (getattr(task, "later", None) or _call)(function)


def _call(function: Callable[[], None]) -> None:
    function()
