"""The `hypersiren` command. Imports no torch before it must, so that `--help` answers at once.

Exit codes: 0, and 130 after Ctrl-C; 2 with one clear line for bad input.
"""

import re
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from hypersiren import cli_benchmark, cli_fit, cli_hypernet, cli_mesh
from hypersiren.config import Section, Settings
from hypersiren.config_io import describe_settings
from hypersiren.console import fail, say
from hypersiren.errors import UserError
from hypersiren.fit_config import TASKS
from hypersiren.shape_config import ShapeSettings

app = App(
    name="hypersiren", help="SIRENs for single signals, and hypernetworks that predict them.", help_format="plaintext"
)
for command in (
    cli_fit.fit,
    cli_fit.compare,
    cli_fit.render,
    cli_fit.initialisation,
    cli_mesh.mesh,
    cli_hypernet.train,
    cli_hypernet.complete,
    cli_benchmark.benchmark,
):
    app.command(command)


@app.command
def settings(task: str | None = None) -> None:
    """List every setting of `hypersiren train`, or of `hypersiren fit TASK`, with its default.

    Args:
        task: image, inpaint, poisson, edit ..., or shapes, for the settings of `train` on shapes; without one, the
            settings of `train` on images.
    """
    known: dict[str, type[Section]] = {**TASKS, "shapes": ShapeSettings}
    if task is not None and task not in known:
        fail(f'unknown task "{task}"; expected one of {", ".join(known)}')
    print(describe_settings(Settings if task is None else known[task]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; everything a user can cause ends in one line and exit code 2."""
    try:
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


if __name__ == "__main__":
    main()
