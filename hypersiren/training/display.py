"""Whether somebody looks: progress is shown in a terminal and in a notebook, and nowhere else by itself."""

import sys


def shows_progress(progress: bool | str | None = None) -> bool | str:
    """Whether to show progress, or under which name: as given; None stands for "in a terminal or in a notebook".

    Example:
        >>> shows_progress(True), shows_progress(False), shows_progress("relu")
        (True, False, 'relu')
    """
    if progress is not None:
        return progress
    stream = sys.stderr
    return (stream is not None and stream.isatty()) or in_notebook()


def in_notebook() -> bool:
    """Whether this runs in a Jupyter notebook, or in what shares its kernel."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
