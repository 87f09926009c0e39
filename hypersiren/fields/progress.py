"""Progress of long work, said now and then."""

import time
from collections.abc import Callable


def now_and_then(seconds: float) -> Callable[[], bool]:
    """Asks whether it is time to say something: `seconds` and more have gone since it last was, or since this call.

    Example:
        >>> due = now_and_then(3600)
        >>> due()
        False
        >>> due = now_and_then(-1)
        >>> due(), due()
        (True, True)
    """
    said = time.monotonic()

    def due() -> bool:
        nonlocal said
        if time.monotonic() - said <= seconds:
            return False
        said = time.monotonic()
        return True

    return due
