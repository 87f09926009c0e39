"""Ctrl-C and SIGTERM in a training: the step ends whole, what is saved is whole, and then the program ends."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hypersiren.errors import UserError
from hypersiren.training.display import processes

Result = TypeVar("Result")

ON_INTERRUPT = ("raise", "return")
"""What `fit` and `train` do after Ctrl-C or SIGTERM, once the state is saved."""


class Interrupted(BaseException):
    """Ends what `Stop.unless_set` calls; nobody else sees it."""


class Stop(threading.Event):
    """Is set by the first Ctrl-C or SIGTERM.

    Example:
        >>> stop = Stop()
        >>> stop.unless_set(lambda: 3), stop.error()
        (3, KeyboardInterrupt())
    """

    def __init__(self) -> None:
        super().__init__()
        self._number, self._at_once = int(signal.SIGINT), False

    def request(self, number: int) -> None:
        """What the signal of this number does."""
        self._number = number
        self.set()
        if self._at_once:
            self._at_once = False
            raise Interrupted

    def unless_set(self, call: Callable[[], Result]) -> Result | None:
        """What a call returns that is not a step, such as an evaluation; None if a signal ended it, or came before.

        Of several processes none leaves a call for which the others wait.
        """
        if processes() > 1:
            return call()
        try:
            self._at_once = True
            if self.is_set():
                return None
            return call()
        except Interrupted:
            return None
        finally:
            self._at_once = False

    def error(self) -> BaseException:
        """What ends the program: as without a training, but that SIGTERM lets Python end in order."""
        term = self._number == signal.SIGTERM
        return SystemExit(128 + signal.SIGTERM) if term else KeyboardInterrupt()


def check_on_interrupt(choice: str) -> None:
    """Refuse another word.

    Raises:
        UserError: If it is neither "raise" nor "return".
    """
    if choice not in ON_INTERRUPT:
        raise UserError(f"on_interrupt: expected {' or '.join(map(repr, ON_INTERRUPT))}, got {choice!r}")


@contextmanager
def stop_requested() -> Iterator[Stop]:
    """An event that the first Ctrl-C or SIGTERM sets, so that the step ends whole; a second Ctrl-C interrupts.

    But not where torchrun passes on the Ctrl-C that the processes have from the terminal already.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: Any) -> None:
        if processes() == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.request(number)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
