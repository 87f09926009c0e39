"""The command `fit`, and how it reads its words. Imports no torch before it must."""

import os
import re
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from hypersiren.cli.console import (
    File,
    Out,
    check_files,
    check_run_dir,
    choose_device,
    fail,
    files_of,
    find_config,
    print_metrics,
    print_next,
    report_finished,
    start_folder,
    stop_saved,
)
from hypersiren.cli.lines import LOG, announce, progress, show
from hypersiren.errors import UserError, did_you_mean
from hypersiren.fields.memo import Memo
from hypersiren.settings.flags import load_settings
from hypersiren.tasks.later import Later, do_later
from hypersiren.tasks.registry import TASKS, open_task
from hypersiren.tasks.settings import FitSettings
from hypersiren.training.display import is_first, processes
from hypersiren.training.folders import choose_folder
from hypersiren.training.memory import keep_freed_memory, return_freed_memory
from hypersiren.training.runs import find

if TYPE_CHECKING:
    import torch

    from hypersiren.tasks.task import FieldTask
    from hypersiren.training.fit import Fit


def fit(
    task: str,
    *words: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    preset: Literal["fast", "paper"] = "fast",
    config: File | None = None,
    out: Out | None = None,
    restart: bool = False,
) -> None:
    """Fit a field to one signal: `hypersiren fit image photo.png`; or to each of several.

    The same command resumes an unfinished run. With other settings, or another signal, the run gets its own folder.
    Every setting is a flag after the file: --training.steps 500 or, shorter, --steps 500. `hypersiren fit image --help`
    lists them all.

    Args:
        task: image, inpaint, poisson, edit (two files: source and target), audio, video, volume, sdf, helmholtz or wave
            (the file is a medium), or inversion (the file holds measured data).
        words: File, then flags. Several files of a task that takes one have a run folder each.
        preset: fast, or the paper's settings.
        config: YAML file of settings that replaces the preset, or the name of one that hypersiren ships: paper.
        out: Folder of the run. The default is runs/ with the names of task and file, and a number if another run is
            there.
        restart: Delete the run in the folder and start again.
    """
    keep_freed_memory()
    every = [read_settings(task, each, preset, config) for each in one_by_one(task, words)]
    if len(every) > 1 and (out is not None or processes() > 1):
        fail("several signals have a run folder each, and one process: expected no --out and no torchrun")
    for settings in every:
        check_signal(task, settings)
        check_run_dir(out, settings, restart)
    if len(every) == 1:
        fit_one(task, every[0], out, restart)
        return
    memo = Memo()
    with Later() as later:
        for settings in every:
            before = later.count
            fit_one(task, settings, out, restart, memo, later)
            later.wait(later.count - before)  # for the signal before: one at most is kept to be drawn


def fit_one(
    task: str,
    settings: FitSettings,
    out: Path | None,
    restart: bool,
    memo: Memo | None = None,
    later: Later | None = None,
) -> None:
    """Fit one signal, or resume its fit, and print what came of it.

    Args:
        task, settings, out, restart: As in `fit`.
        memo: What several fits share.
        later: Draws and prints what came of it while the next one is fitted.
    """
    announce(f"fit {' '.join([task, *signal_files(task, settings)])}")
    device = choose_device(settings.device)

    from hypersiren.training.distributed import first_then_others, leave, on_first
    from hypersiren.training.fit import fit as fit_field

    made, settings = first_then_others(partial(open_signal, task, settings, device))
    made.memo, made.later = memo, later
    base = Path("runs") / run_name(task, settings)
    folder = out or on_first(partial(choose_folder, base, settings.model_dump(mode="json"), made.digest()))
    done = on_first(partial(start_folder, folder, restart))
    try:
        result = fit_field(made, settings=settings, run_dir=folder, progress=progress(), on_interrupt="return")
    except (KeyboardInterrupt, SystemExit):
        if (folder / "solve.pt").exists():
            stop_saved()
        raise
    leave()
    if not result.finished:
        stop_saved()
    if not is_first():
        return
    assert settings.training.steps is not None
    report_finished(done, settings.training.steps)
    do_later(made, partial(show_result, made, result, folder))


def show_result(task: "FieldTask", result: "Fit", folder: Path) -> None:
    """Write the pictures of a finished fit, and print its numbers."""
    from hypersiren.fields.render import kind_of
    from hypersiren.tasks.panels import write_panels

    LOG.info("drawing the result at full resolution")
    return_freed_memory()
    for path in [folder / "summary.png", *write_panels(folder, task.panels(result.field))]:
        LOG.info(str(path))
    if task.later is not None:  # one of several
        show(folder)
    print_metrics(result.metrics, task)
    if words_next := NEXT.get(kind_of(task.playback)):
        print_next(*[folder if word == "RUN" else word for word in words_next])


def one_by_one(task: str, words: Sequence[str]) -> list[Sequence[str]]:
    """The words of each fit, where several files are given to a task that takes one.

    Example:
        >>> one_by_one("image", ["a.png", "b.png", "--steps", "3"])
        [['a.png', '--steps', '3'], ['b.png', '--steps', '3']]
        >>> one_by_one("edit", ["a.png", "b.png"])
        [['a.png', 'b.png']]
    """
    files = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    if task not in TASKS or len(TASKS[task].files) > 1 or files < 2:
        return [words]
    return [[file, *words[files:]] for file in words[:files]]


NEXT = {
    "image": ["render", "RUN", "--size", "1024"],
    "sound": ["render", "RUN", "--rate", "48000"],
    "video": ["render", "RUN", "--slow", "2"],
    "volume": ["render", "RUN", "--size", "512"],
    "shape": ["mesh", "RUN", "--size", "512"],
}
"""What a person may do with a fitted field of a kind."""


def signal_files(task: str, settings: FitSettings) -> list[str]:
    """The files of a task, as typed."""
    return [str(getattr(settings.signal, key)) for key in TASKS[task].files]  # type: ignore[attr-defined]


def open_signal(name: str, settings: FitSettings, device: "torch.device") -> tuple["FieldTask", FitSettings]:
    """The task, and the settings with the first omega that it chooses where they have none. Warnings are printed."""
    from hypersiren.fields.render import kind_of
    from hypersiren.training.fit import is_fit, resolve

    LOG.info(f"reading {', '.join(signal_files(name, settings))}")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        task = open_task(name, settings, device)
    for warning in heard:
        LOG.warning(str(warning.message))
    if name == "inpaint" and settings.start is not None and not is_fit(settings.start):
        LOG.info(f"completing the image with {settings.start}")
        complete_first(task, settings.start)
        settings = settings.replace(network=settings.network.replace(kind="windowed"))
    resolved = resolve(settings, task)
    if settings.network.first_omega is None and resolved.network.first_omega is not None:
        source = "size" if kind_of(task.playback) == "image" else "spectrum and duration"
        LOG.info(f"first omega {resolved.network.first_omega:.0f}, chosen from the {source} of the signal")
    return task, resolved


def complete_first(task: Any, start: Path) -> None:
    """Complete a task's image with a model of photographs, so that windows are solved for it."""
    from hypersiren.hypernets.inpainter import Inpainter
    from hypersiren.training.checkpoints import load

    model = load(start, task.device)
    if not isinstance(model, Inpainter):
        fail(f"--start {start}: expected a model of photographs, such as the released photographs")
    completed = model.complete((task.pixels + 1) / 2, task.known, scaled=False)
    task.start(2 * completed.mean - 1)


def run_name(task: str, settings: FitSettings) -> str:
    """The task and the names of its files."""
    signal = [Path(file).stem for file in signal_files(task, settings)]
    # The name of a folder may have 255 bytes, the number and compare- included.
    return "-".join([task, *signal]).encode("utf-8", "surrogateescape")[:200].decode("utf-8", "ignore")


def read_settings(task: str, words: Sequence[str], preset: str, config: Path | None) -> FitSettings:
    """The settings of a fit, from its preset or YAML file, the files named first, and flags."""
    if task not in TASKS:
        hint = did_you_mean(task, TASKS, f"; expected one of {', '.join(TASKS)}")
        if os.path.exists(task):
            hint += f": such as hypersiren fit image {task}"
        fail(f'unknown task "{task}"{hint}')
    files = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    keys = TASKS[task].files
    if mistyped := [word for word in words[:files] if re.fullmatch(r"-[A-Za-z]\w*", word) and not os.path.exists(word)]:
        fail(f"unknown flag {mistyped[0]}; settings are given as --key value")
    if files > len(keys):
        fail(f"{task} takes {len(keys)} file{'s' * (len(keys) > 1)}, got {' '.join(words[:files])}")
    if 0 < files < len(keys) and not any(keys[-1] in word for word in words[files:]):
        fail(f"{task} takes {len(keys)} files, {' and '.join(keys)}, or none for an example; got {words[0]}")
    if config is None and preset == "paper":
        config = Path(preset)
    if config is not None:
        config = find_config(config, [task])
    named = [f"--signal.{key}={word}" for key, word in zip(keys, words[:files], strict=False)]
    return load_settings(TASKS[task].settings, config, [*named, *words[files:]])


def check_signal(task: str, settings: FitSettings) -> None:
    """Refuse files that are not there, and a start that is no run, before PyTorch is loaded."""
    defaults = files_of(TASKS[task].settings())
    check_files(files_of(settings), [*TASKS[task].examples, *map(str, defaults)])
    if settings.start is not None:
        try:
            find(settings.start)
        except UserError as error:
            fail(f"{error}{'; --signal.start is where to begin in the file' * (task in ('audio', 'video'))}")
