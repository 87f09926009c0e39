"""Run by test_kills.py: each line of its input is a command to run in a child that is struck at some moment.

A line is JSON: words, log (a file for what the child prints), cache (a folder) and, if it shall be struck, moment,
passes and how. Its answer is the exit code of the child, or minus the signal that ended it. Children are forked, so
that torch is imported once.
"""

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import hypersiren.cli.main as command
import hypersiren.signals.image.files as image_files
import hypersiren.signals.sets.decoding as decoding
import hypersiren.signals.sets.images as images
import hypersiren.training.folders as folders
from hypersiren.training import checkpoints
from hypersiren.training.monitor import Monitor
from hypersiren.training.step import TrainingStep


def strike(how: str) -> None:
    """As a terminal does it: to all processes of the command, except for kill -9."""
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    for i in range(2 if how == "ctrl-c twice" else 1):
        time.sleep(0.003 * i)
        os.killpg(0, signal.SIGTERM if how == "term" else signal.SIGINT)


def arm(moment: str | float, passes: int, how: str) -> None:
    """Strike when a moment is passed for the so-manieth time, or after so many seconds."""
    left = passes

    def passed() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            strike(how)

    def before(owner: Any, name: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def wrapped(*words: Any, **more: Any) -> Any:
            passed()
            return call(*words, **more)

        setattr(owner, name, wrapped)

    def half_written(owner: Any) -> None:
        write = owner.atomic_write

        @contextmanager
        def wrapped(path: Any) -> Any:
            with write(path) as file:
                yield file
                passed()

        owner.atomic_write = wrapped

    if isinstance(moment, float):
        timer = threading.Timer(moment, strike, [how])
        timer.daemon = True  # a command that has ended is struck no more
        timer.start()
        return
    match moment:
        case "decoding":
            before(decoding, "_results")
        case "decoding by several":
            results = decoding._results

            def counted(*words: Any) -> Any:
                for result in results(*words):
                    passed()
                    yield result

            decoding._results = counted
        case "cache":
            half_written(images)
        case "step":
            before(TrainingStep, "draw")
        case "checkpoint":
            half_written(checkpoints)
        case "record":
            half_written(folders)
        case "events":
            before(Monitor, "panels")
        case "picture":
            half_written(image_files)


def run(
    words: list[str], log: str, cache: str, moment: str | float | None = None, passes: int = 1, how: str = ""
) -> None:
    os.setsid()
    os.environ["HYPERSIREN_CACHE"] = cache
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if moment is not None:
        arm(moment, passes, how)
    try:
        command.main(words)
    finally:  # what comes after is Python's own end
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    decoding.FEW, decoding.SPAN = 0, 2  # several processes for a few images
    for name in ("torch._dynamo", "scipy.sparse.linalg", "scipy.interpolate", "skimage.metrics", "skimage.restoration",
                 "hypersiren.completion.train", "hypersiren.completion.images.study",
                 "hypersiren.completion.images.baselines",
                 "matplotlib.figure", "matplotlib.backends.backend_agg"):  # fmt: skip
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.stdin = open(os.devnull)  # noqa: SIM115 - ends with the child
            run(**json.loads(line))
            sys.exit()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
