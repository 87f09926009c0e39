"""The command `train`. Imports no torch before it must."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from hypersiren.cli.complete import complete
from hypersiren.cli.console import (
    File,
    Out,
    check_run_dir,
    choose_device,
    count,
    fail,
    find_config,
    near_file,
    report_finished,
    report_skipped,
    start_folder,
    stop_saved,
)
from hypersiren.cli.lines import LOG, announce, progress
from hypersiren.completion.registry import SETS, SetRow, set_row
from hypersiren.settings.flags import load_settings
from hypersiren.training.display import is_first
from hypersiren.training.folders import choose_folder
from hypersiren.training.memory import keep_freed_memory


def train(
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    config: File | None = None,
    out: Out | None = None,
    restart: bool = False,
) -> None:
    """Train a hypernetwork on a set of images, shapes or sounds, then print its completion table.

    The same command resumes an unfinished run. With other settings, or other data, the run gets its own folder. Every
    setting of the YAML file is a flag too: --training.lr 2e-3 or, shorter, --lr 2e-3. `hypersiren train --help` lists
    them all.

    `torchrun --nproc-per-node 4 -m hypersiren train ...` trains on four GPUs, or in four processes on the CPU, to the
    same result: they share the images of each step.

    Args:
        config: YAML file of settings, or the name of one that hypersiren ships: faces, photos, celeba_fast, celeba_set,
            solids, meshes, digits ... The default is the experiment on faces; with --data.kind solids, the one on
            shapes.
        out: Folder of the run. The default is runs/ with the name of the YAML file, and a number if another run is
            there.
        restart: Delete the run in the folder and start again.
    """
    keep_freed_memory()
    row, checked = read_train_settings(config, settings)
    check_root(checked.data)
    check_run_dir(out, checked, restart)
    announce(f"train {config.stem if config else checked.data.kind}")

    from hypersiren.completion.train import draw_run, optimisation_of, prepare
    from hypersiren.training.distributed import first_then_others, leave, on_first
    from hypersiren.training.loop import optimise

    device = choose_device(checked.device)
    objective, record = first_then_others(partial(prepare, row, checked, device))
    report_skipped(objective.task.skipped)
    model = objective.model
    base = Path("runs") / (config.stem if config else checked.data.kind)
    folder = out or on_first(partial(choose_folder, base, record["settings"], record["digest"]))
    LOG.info(f"{len(objective.task.train)} training {objective.task.unit}; {_parts(model)} on {device}")
    done = on_first(partial(start_folder, folder, restart))
    training = optimisation_of(objective, checked.training)
    finished = optimise(objective, folder, record, training, seed=checked.seed, progress=progress())
    leave()
    if not finished:
        stop_saved()
    if not is_first():
        return
    report_finished(done, training.steps)
    LOG.info(str(draw_run(objective, folder)))
    complete(folder, device=checked.device, task=objective.task)


def check_root(data: Any) -> None:
    """Refuse a folder of signals that is not there, unless it is to be filled, before PyTorch is loaded."""
    root = data.root
    if root is not None and not root.exists() and not getattr(data, "download", False):
        fail(f"{root}: no such folder{near_file(root)}")


def _parts(model: Any) -> str:
    """What a model is made of."""
    if not hasattr(model, "siren"):
        return f"a network of {count(model)} weights"
    parts = {"encoder": model.encoder, "hypernetwork": model.hypernet, "adapter": model.adapter}
    counts = [f"{count(part)} {name} weights" for name, part in parts.items() if part is not None]
    return f"{' and '.join(counts)} predict a SIREN of {count(model.siren)}"


def read_train_settings(config: Path | None, words: Sequence[str] = ()) -> tuple[SetRow, Any]:
    """The row of the task that data.kind says, and its settings."""
    if config is not None:
        config = find_config(config, list(SETS))
    settings = load_settings(lambda kind: set_row(kind).settings, config, words)
    return set_row(settings.data.kind), settings
