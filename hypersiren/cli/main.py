"""The `hypersiren` command. Imports no torch before it must, so that `--help` answers at once.

Exit codes: 0, and 130 after Ctrl-C; 2 with one clear line for bad input.
"""

import atexit
import re
import signal
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from hypersiren.cli.benchmark import benchmark
from hypersiren.cli.compare import compare, initialisation
from hypersiren.cli.complete import complete
from hypersiren.cli.console import fail, say
from hypersiren.cli.fit import fit
from hypersiren.cli.mesh import mesh
from hypersiren.cli.render import render
from hypersiren.cli.train import train
from hypersiren.errors import UserError
from hypersiren.settings import describe_settings
from hypersiren.tasks.registry import SETS, TASKS, Row, SetRow

app = App(
    name="hypersiren", help="SIRENs for single signals, and hypernetworks that predict them.", help_format="plaintext"
)
for command in (fit, compare, render, initialisation, mesh, train, complete, benchmark):
    app.command(command)


@app.command
def settings(task: str | None = None) -> None:
    """List every setting of `hypersiren train`, or of `hypersiren fit TASK`, with its default.

    Args:
        task: image, inpaint, poisson, edit ..., or shapes, for the settings of `train` on shapes; without one, the
            settings of `train` on images.
    """
    rows: dict[str, Row | SetRow] = {**TASKS, **SETS}
    if task is not None and task not in rows:
        fail(f'unknown task "{task}"; expected one of {", ".join(rows)}')
    print(describe_settings(rows[task or "completion"].settings))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; everything a user can cause ends in one line and exit code 2."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *rest, **more: say(f"warning: {str(message).partition(chr(10))[0]}")
            app(
                sys.argv[1:] if arguments is None else list(arguments),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
    except (CycloptsError, UserError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        say("stopped")
        raise SystemExit(130) from None
    except (MemoryError, RuntimeError) as error:
        # torch has no one class for this: CUDA's is a RuntimeError of its own, the CPU's a plain one.
        if not isinstance(error, MemoryError) and not re.search("out of memory|can't allocate memory", str(error)):
            raise
        fail(
            "out of memory; try a smaller --training.batch_size or --training.target_points (train), "
            "--training.points or --signal.size (fit), or --size"
        )
    except OSError as error:
        fail(f"{error.filename or 'file'}: {error.strerror or error}")
    finally:
        # Another Ctrl-C while Python ends would print a traceback.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
