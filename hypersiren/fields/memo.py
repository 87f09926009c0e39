"""Memo: what signals of one size share when they are fitted one after the other, such as a system and its factors."""

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Memo:
    """The results of functions for their last few arguments. Nothing that is in it may be changed.

    Example:
        >>> memo = Memo(most=2)
        >>> memo.once("a", lambda: [1]) is memo.once("a", lambda: [2])
        True
    """

    def __init__(self, most: int = 4):
        self._most = most
        self._results: dict[Hashable, Any] = {}
        self._lock = threading.RLock()  # for what is drawn while the next signal is fitted

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make()` gave for this key, or gives."""
        with self._lock:
            found = self._results.pop(key) if key in self._results else make()
            self._results[key] = found
            while len(self._results) > self._most:
                del self._results[next(iter(self._results))]
        return found


def once(memo: Memo | None, key: Hashable, make: Callable[[], T]) -> T:
    """`memo.once(key, make)`, or `make()` without a memo.

    Example:
        >>> once(None, "a", lambda: 3)
        3
    """
    return make() if memo is None else memo.once(key, make)
