"""Whether somebody looks: progress is shown in a terminal and in a notebook, and nowhere else by itself.

Of several processes that torchrun started, the first alone shows and writes anything. Imports no torch.
"""

import os
import sys
from typing import Any


def processes() -> int:
    """How many processes train together, as torchrun has told them; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def is_first() -> bool:
    """Whether this is the first of them, or the only one.

    Example:
        >>> is_first(), processes()
        (True, 1)
    """
    return rank() == 0


def shows_progress(progress: bool | str | None = None) -> bool | str:
    """Whether to show progress, or under which name: as given; None stands for "in a terminal or in a notebook".

    Example:
        >>> shows_progress(True), shows_progress(False), shows_progress("relu")
        (True, False, 'relu')
    """
    if not is_first():
        return False
    if progress is not None:
        return progress
    stream = sys.stderr
    return (stream is not None and stream.isatty()) or in_notebook()


def bar_size() -> dict[str, Any]:
    """The size of the terminal for a bar of tqdm: its own; 80 x 24 where it says that it has none.

    Example:
        >>> bar_size()
        {'dynamic_ncols': True}
    """
    try:
        unsized = sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns == 0
    except (AttributeError, OSError, ValueError):
        unsized = False
    return {"ncols": 80, "nrows": 24} if unsized else {"dynamic_ncols": True}


def in_notebook() -> bool:
    """Whether this runs in a Jupyter notebook, or in what shares its kernel."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
