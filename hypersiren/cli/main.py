"""The `hypersiren` command. Imports no torch before it must, so that `--help` answers at once.

Exit codes: 0, and 130 after Ctrl-C; 2 for bad input, with one clear line that begins with "hypersiren:".
"""

import atexit
import gc
import itertools
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError

from hypersiren.cli.console import choose_device, fail, speaks
from hypersiren.cli.lines import LEVELS, LOG, show, showing, tell
from hypersiren.errors import UserError
from hypersiren.training.display import is_first, processes

if TYPE_CHECKING:
    from hypersiren.completion.registry import SetRow
    from hypersiren.tasks.registry import Row


def version() -> str:
    """The versions of hypersiren and torch, and the device that --device auto means."""
    from importlib.metadata import version as installed

    import torch

    device = choose_device("auto")
    name = f" ({torch.cuda.get_device_name()})" if device.type == "cuda" else ""
    return f"hypersiren {installed('hypersiren')}, torch {torch.__version__}, device {device}{name}"


app = App(
    name="hypersiren",
    help="SIRENs for single signals, and hypernetworks that predict them.",
    help_epilogue="Every command: -q/--quiet prints results and errors alone, -v/--verbose prints details too.",
    help_format="markdown",
    version=version,
)
# By their places: a command's settings take a tenth of a second to import, and each needs its own alone.
for command in ("render", "export", "mesh", "complete", "benchmark"):
    app.command(f"hypersiren.cli.{command}:{command}", name=command)
app.command("hypersiren.cli.compare:initialisation", name="initialisation")
app.command("hypersiren.cli.list:list_all", name="list")
for command, words in (("fit", "TASK [FILE]"), ("compare", "TASK [FILE]"), ("train", "[--config NAME]")):
    usage = f"Usage: hypersiren {command} {words} [--setting value ...]\n"
    app.command(f"hypersiren.cli.{command}:{command}", name=command, usage=usage)
app.register_install_completion_command(help="Complete commands and flags in your shell (bash, zsh or fish).")


@app.command
def settings(task: str | None = None) -> None:
    """List every setting of `hypersiren train`, or of `hypersiren fit TASK`, with its default.

    Args:
        task: image, inpaint, poisson, edit ...; shapes or sounds for `train` on those. The default is `train` on
            images.
    """
    from hypersiren.completion.registry import SETS
    from hypersiren.settings.describe import describe_settings
    from hypersiren.tasks.registry import TASKS

    rows: dict[str, Row | SetRow] = {**TASKS, **SETS}
    if task is not None and task not in rows:
        fail(f'unknown task "{task}"; expected one of {", ".join(rows)}')
    show(describe_settings(rows[task or "completion"].settings))


RENAMED = {"--run-dir": "--out", "--run_dir": "--out"}
"""Flags of former versions."""


def refuse_renamed(words: Sequence[str]) -> None:
    """Name the flag that has replaced one of a former version."""
    renamed = {**RENAMED, "--resolution": "--size"} if words[:1] == ["mesh"] else RENAMED
    for word in words:
        if (flag := word.partition("=")[0]) in renamed:
            fail(f"unknown flag {flag}; did you mean {renamed[flag]}?")


def settings_to_help(words: Sequence[str]) -> str | None:
    """What `--help` adds for a task: all of its settings. None where the words name no task, or ask for no help."""
    if not {"-h", "--help"} & set(words):
        return None
    from hypersiren.completion.registry import set_row
    from hypersiren.settings.describe import describe_settings
    from hypersiren.tasks.registry import TASKS

    if words[0] == "train":
        kind = next((b for a, b in itertools.pairwise(words) if a == "--data.kind"), None)
        return describe_settings(set_row(kind).settings)
    task = words[1] if words[0] in ("fit", "compare") and len(words) > 1 else ""
    return describe_settings(TASKS[task].settings) if task in TASKS else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; everything a user can cause ends in one line and exit code 2."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    level = next((LEVELS[word] for word in reversed(words) if word in LEVELS), logging.INFO)
    words = [word for word in words if word not in LEVELS]
    if arguments is None:
        gc.disable()  # looking for garbage among what is imported takes a fifth of the time; `choose_device` ends it
    with showing(level if is_first() else logging.CRITICAL):
        try:
            run(words)
        except Exception:
            if not speaks():  # of several processes, one tells
                raise SystemExit(1) from None
            raise
    # Python would look through all of torch's objects once more, for seconds. Triton complains of those that stay.
    if arguments is None:
        (gc.unfreeze if "triton" in sys.modules else gc.freeze)()


def meet(words: Sequence[str]) -> None:
    """Meet the other processes that torchrun started, where the command is one for several."""
    if words[:1] not in (["train"], ["fit"]):
        fail("expected train or fit with torchrun; other commands run in one process")
    from hypersiren.training.distributed import join

    join()


def run(words: Sequence[str]) -> None:
    """Run the command without its flags of the level."""
    refuse_renamed(words)
    if not words or words[0] in ("-h", "--help"):  # what each command does, its module says
        for name in app:
            app[name]
    try:
        if processes() > 1:
            meet(words)
        if (listed := settings_to_help(words)) is not None:
            app([words[0], "--help"], exit_on_error=False, result_action="return_value")
            show("Settings, with defaults; the last word is enough where only one section has it, as in --steps 500:")
            show(listed)
            return
        with warnings.catch_warnings():
            # Of several processes: what torch says of weights of shape (1, N), of no consequence.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            warnings.showwarning = lambda message, *rest, **more: LOG.warning(str(message).partition("\n")[0])
            app(
                words,
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
    except (CycloptsError, UserError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        if is_first():
            tell("stopped")
        raise SystemExit(130) from None
    except (MemoryError, RuntimeError) as error:
        # torch has no one class for these: CUDA's is a RuntimeError of its own, the CPU's a plain one.
        if processes() > 1 and re.search("gloo|NCCL|Connection (closed|reset)", str(error)):
            fail("another process has ended, or cannot be reached; the last checkpoint is kept")
        if not isinstance(error, MemoryError) and not re.search("out of memory|can't allocate memory", str(error)):
            raise
        fail(
            "out of memory; try more --training.parts, such as 8, a smaller --training.batch_size or "
            "--training.target_points (train), --training.points or --signal.size (fit), or --size"
        )
    except BrokenPipeError:  # the reader, such as `head`, has what it wants; Python would write to the pipe once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        fail(f"{error.filename or 'file'}: {error.strerror or error}")
    finally:
        # Another Ctrl-C while Python ends would print a traceback.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
