"""Pictures of a finished fit, drawn while the next signal is fitted."""

import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any


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

    def __enter__(self) -> "Later":
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(self._interval / 50)  # else each of the solve's many operations waits for the drawing
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._thread.shutdown()
            if error is None:
                self.wait()
        finally:
            sys.setswitchinterval(self._interval)


def do_later(task: Any, function: Callable[[], None]) -> None:
    """Call a function at once, or give it to the task's `later`, which a task from outside need not have."""
    (getattr(task, "later", None) or _call)(function)


def _call(function: Callable[[], None]) -> None:
    function()
