"""The command `train`. Imports no torch before it must."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hypersiren.cli.complete import complete
from hypersiren.cli.console import choose_device, count, keep_freed_memory, make_folder, say, say_skipped
from hypersiren.settings import chosen_kind, load_settings
from hypersiren.tasks.registry import SETS, SetRow
from hypersiren.tasks.settings import SetSettings


def train(
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    config: Path | None = None,
    run_dir: Path | None = None,
) -> None:
    """Train a hypernetwork on a set of images or shapes, then print its completion table.

    The same command goes on with an unfinished run. Any setting of the YAML file can be overridden by a flag, such as
    --training.lr 2e-3; `hypersiren settings` lists them all.

    Args:
        config: YAML file of settings; without one, the built-in experiment on faces, or on shapes with --data.kind
            solids.
        run_dir: Folder of the run; by default runs/ and the name of the YAML file.
    """
    keep_freed_memory()
    row, checked = read_train_settings(config, settings)
    folder = run_dir or Path("runs") / (config.stem if config else checked.data.kind)

    from hypersiren.training.hypernet import prepare
    from hypersiren.training.loop import optimise

    device = choose_device(checked.device)
    objective, record = prepare(row, checked, device)
    say_skipped(objective.task.skipped)
    model = objective.model
    make_folder(folder)
    parts = {"encoder": model.encoder, "hypernetwork": model.hypernet, "adapter": model.adapter}
    counts = [f"{count(part)} {name} weights" for name, part in parts.items() if part is not None]
    say(
        f"{len(objective.task.train)} training {objective.task.unit}; {' and '.join(counts)} predict a SIREN of "
        f"{count(model.siren)} on {device}"
    )
    say(f"run folder {folder}; watch it with: tensorboard --logdir {folder}")
    if not optimise(objective, folder, record, checked.training, seed=checked.seed, progress=True):
        say("stopped and saved; the same command goes on from here")
        raise SystemExit(130)
    complete(folder, device=checked.device)


def read_train_settings(config: Path | None, words: Sequence[str] = ()) -> tuple[SetRow, SetSettings]:
    """The row of the task that data.kind says, and its settings."""
    kind = chosen_kind("data", config, words)
    row = next((row for row in SETS.values() if kind in row.kinds), SETS["completion"])
    return row, load_settings(row.settings, config, words)
