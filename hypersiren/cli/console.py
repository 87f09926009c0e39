"""What every command needs: its files, the device, the folder, results in words. Imports no torch at first."""

import gc
import math
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter

from hypersiren.cli.lines import LOG, show, tell
from hypersiren.errors import clear_line, did_you_mean, nearest
from hypersiren.settings.section import Section, to_path
from hypersiren.training.display import is_first, processes
from hypersiren.training.folders import check_folder, clear, differences, is_run, refuse_others, steps_done

if TYPE_CHECKING:
    import torch


def _typed_path(kind: Any, tokens: Any) -> Path:
    return to_path(tokens[0].value)


File = Annotated[Path, Parameter(converter=_typed_path)]
"""A file or a folder on the command line: as typed, ~ being the home folder."""

Out = Annotated[Path, Parameter(name=("--out", "-o"), converter=_typed_path)]
"""Where results go."""


PACKAGE = Path(__file__).parent.parent


def configurations(task: str) -> list[Path]:
    """Those that come with hypersiren for a task: installed, they are in the package; in a clone beside it."""
    folder = next((path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir()), PACKAGE)
    return sorted((folder / task).glob("*.yaml"))


def find_config(config: Path, tasks: Sequence[str]) -> Path:
    """A YAML file of settings: the file, or the one of this name that comes with hypersiren for one of these tasks."""
    shipped = {path.stem: path for task in tasks for path in configurations(task)}
    name = config.name.removesuffix(".yaml")
    if config.is_file() or len(config.parts) > 1:
        return config
    if name in shipped:
        return shipped[name]
    if config.suffix or config.exists():
        return config
    hint = did_you_mean(name, shipped, f"; expected a file, or one of {', '.join(shipped)}")
    fail(f'--config: no such file or configuration "{config}"{hint}')


DEVICES = ("cpu", "cuda", "mps", "xpu")
"""Devices by the names that PyTorch has for them; others of its names are tried too."""


def choose_device(name: str) -> "torch.device":
    """The device of this name; from here on PyTorch is loaded."""
    import torch

    from hypersiren.training.distributed import own_device

    if not gc.isenabled():  # `main` has a whole process, and loads first
        gc.freeze()
        gc.enable()
    name = own_device(name)
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        if name.split(":")[0] not in DEVICES:
            hint = '; did you mean "cuda"?' if name.lower() in ("gpu", "nvidia") else did_you_mean(name, DEVICES)
            fail(f'--device: expected auto or one of {", ".join(DEVICES)}, got "{name}"{hint}')
        fail(f'device "{name}" cannot be used: {str(error).splitlines()[0]}')
    return torch.device(name)


def check_least(least: int, **numbers: int | None) -> None:
    """Refuse a flag whose number is lower; None, if it is not given, is not."""
    for name, number in numbers.items():
        if number is not None and number < least:
            fail(f"expected --{name.replace('_', '-')} of at least {least}, got {number}")


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{folder}: cannot make this folder ({error.strerror})")


def check_out(out: Path | None) -> None:
    """Refuse, before any work, a file in a folder that does not exist."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        fail(f"{out}: expected a name in a folder that exists")


def check_run_dir(folder: Path | None, settings: Section, restart: bool) -> None:
    """Refuse a named run folder as early as one can: not ours, with an input in it, or with other settings."""
    if folder is None:
        return
    check_folder(folder, files_of(settings))
    if is_run(folder) and not restart:
        refuse_others(folder, differences(folder, settings.model_dump(mode="json")))


def check_files(paths: Iterable[Path], known: Collection[str] = ()) -> None:
    """Refuse files and folders that are not there, before PyTorch is loaded, and say what was meant.

    Args:
        paths: As typed.
        known: Names that are no files.
    """
    for path in paths:
        if str(path) in known or path.exists() or path.is_symlink():
            continue
        others = f"; expected a file, or one of {', '.join(dict.fromkeys(known))}" if known and not path.suffix else ""
        fail(f"{path}: no such file{near_file(path, known) or others}")


def near_file(path: Path, known: Iterable[str] = ()) -> str:
    """The end of a message about a missing file: the one beside it, or the known name, that is nearest."""
    try:
        names = [path.parent / other.name for other in path.parent.iterdir()]
    except OSError:
        names = []
    candidates = [*names, *map(Path, known)]
    stem = nearest(path.stem, {each.stem for each in candidates}, 0.7)  # endings alone make no two names alike
    return did_you_mean(str(path), [str(each) for each in candidates if each.stem == stem], least=0.0)


def files_of(settings: Section) -> list[Path]:
    """Every path that settings name."""
    sections = [value for _, value in settings if isinstance(value, Section)]
    return [value for section in sections for _, value in section if isinstance(value, Path)]


def start_folder(folder: Path, restart: bool) -> int:
    """Name the run folder, and clear it for --restart; the steps that its run has done."""
    if restart:
        clear(folder)
    LOG.info(f"run folder {folder}; watch it with: tensorboard --logdir {folder}")
    return steps_done(folder)


def report_finished(done: int, steps: int) -> None:
    if done >= steps:
        how = f"finished after {done} steps" if steps else "solved"
        LOG.info(f"already {how}; --restart starts again")


def stop_saved() -> NoReturn:
    if is_first():
        tell("stopped and saved; the same command resumes")
    raise SystemExit(130)


def print_next(*words: object) -> None:
    """The command that a person may want next."""
    LOG.info(f"next: {shlex.join(['hypersiren', *map(str, words)])}")


ALWAYS = {"ssim", "si_snr", "snr", "log_spectral_distance"}
"""Numbers that a task which has them always gives where they are defined."""

INFINITE = {math.inf: "inf (no error is left)", -math.inf: "-inf (nothing in common with the truth)"}
"""What a ratio in decibels that is infinite means."""


def print_metrics(metrics: Mapping[str, float], task: Any) -> None:
    """A line for each number with its unit and direction; what is not defined, as the SSIM of few pixels, is named.

    Args:
        metrics: What the task's `evaluate` gives.
        task: Its `measures` say units and directions.
    """
    from hypersiren.tasks.summary import measure_of

    for name, value in metrics.items():
        measure = measure_of(task, name)
        ratio = (measure.unit, measure.better) == ("dB", "higher")
        text = INFINITE[value] if ratio and math.isinf(value) else f"{measure.number(value, 6)} {measure.direction}"
        show(f"{name:16} {text.rstrip()}")
    if undefined := [measure.key for measure in task.measures if measure.key in ALWAYS - set(metrics)]:
        LOG.info(f"not defined for this signal, and left out: {', '.join(undefined)}")


def count(module: "torch.nn.Module") -> str:
    return f"{sum(p.numel() for p in module.parameters()):,}"


def report_skipped(files: Sequence[str]) -> None:
    """Files of a set that were left out, the first twenty by name and reason; nothing if there are none."""
    if files:
        shown = "".join(f"\n  {name}" for name in files[:20]) + ("\n  ..." if len(files) > 20 else "")
        LOG.warning(f"skipped {len(files)} files that cannot be used:{shown}")


def speaks() -> bool:
    """Whether it is for this process to say what went wrong: of several that torchrun started, one does."""
    if processes() == 1:
        return True
    from hypersiren.training.distributed import first_to_fail

    return first_to_fail()


def fail(text: str) -> NoReturn:
    if speaks():
        tell(f"hypersiren: {clear_line(text)}")
    raise SystemExit(2)
