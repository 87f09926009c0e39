"""The command `complete`: evaluation of a run on its test set, and completion of a user's files, for all kinds.

What differs from kind to kind stands in the module `study` of each, see `Study`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hypersiren.completion.base import Kind
from hypersiren.completion.correcting import correction_of
from hypersiren.completion.prediction import posterior_for_samples, predict_whole
from hypersiren.completion.train import SetRun
from hypersiren.errors import UserError
from hypersiren.hypernets.model import HyperSiren
from hypersiren.training import checkpoints
from hypersiren.training.folders import check_names, to_json, unused, write_text

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """A file of a completion.

    Attributes:
        name: What follows the name of the user's file: "completed.png".
        write: Writes it.
        told: Whether the command tells of it.
    """

    name: str
    write: Callable[[Path], None]
    told: bool = True


@runtime_checkable
class Study(Protocol):
    """What the module `study` of a kind of signal says.

    Attributes:
        OPTIONS: Options of the command that it has a meaning for, "refine" among them.
    """

    OPTIONS: Sequence[str]

    def table(self, run: SetRun, task: Any, before: HyperSiren | None, *, most: int, refine: int) -> Any:
        """The table over test signals, whose text is printed."""

    def metrics(self, table: Any) -> Mapping[str, Any]:
        """The numbers of a table for `metrics.json`."""

    def draw(self, run: SetRun, task: Any, folder: Path, samples: int | None) -> None:
        """Write pictures of test signals, with samples of the posterior where these are wanted."""

    def complete(
        self, run: SetRun, files: Sequence[Path], *, seed: int, refine: int, **options: Any
    ) -> Iterator[tuple[str, Sequence[Output]]]:
        """For each of a user's files its name, and the files of its completion; all are read before the first.

        Raises:
            UserError: If an option is out of its range, a file cannot be read, or options do not fit together.
        """


def complete_test(
    run: SetRun, folder: Path, *, most: int, refine: int, samples: int | None = None, task: Kind | None = None
) -> tuple[Any, Sequence[str]]:
    """The table over the test signals and pictures of them, in the folder; with the table the signals left out.

    Args:
        run: What `hypersiren train` left.
        folder: Where results go.
        most: Signals that what is slow is evaluated on.
        refine: If not 0, also the prediction refined by that many steps.
        samples: Samples drawn of each test signal that is shown; None for the kind's own number.
        task: The task of the run, if its sets have been read; None to read them.

    Raises:
        UserError: If refinement is wanted of a kind without it, or samples of a model without a posterior.
    """
    study = _study(run, refine)
    if task is None:
        LOG.info("reading %s: %s", run.row.unit, run.settings.data.kind)
        task = run.row.load().open(run.settings, next(run.model.parameters()).device)
    if samples is not None and isinstance(run.model, HyperSiren):
        posterior_for_samples(predict_whole(task, run.model))  # type: ignore[arg-type]
    table = study.table(run, task, read_prior(run), most=most, refine=refine)
    write_text(folder / "table.txt", f"{table}\n")
    write_text(folder / "metrics.json", to_json(study.metrics(table)))
    LOG.info("drawing pictures of test %s", task.unit)
    study.draw(run, task, folder, samples)
    return table, task.skipped


def complete_files(
    run: SetRun, files: Sequence[Path], folder: Path, *, size: int | None, seed: int, refine: int, **options: Any
) -> Iterator[Path]:
    """Complete a user's files; the files that are written, one by one. See `Study.complete`.

    A file that is there already stays: the new one gets a number.

    Args:
        run: What `hypersiren train` left.
        files: Of any kind that the signals are read from.
        folder: Where results go.
        size: Resolution of the results; None for 256, or a photograph's own. Recordings keep their rate.
        seed: Fixes the points that are known, and the samples drawn.
        refine: Steps that fit each prediction to its context.
        options: Those of `Study.OPTIONS` that are given.

    Raises:
        UserError: If an option is out of its range, a file cannot be read, or options do not fit together.
    """
    study = _study(run, refine)
    if size is not None or "size" not in study.OPTIONS:
        options["size"] = 256 if size is None else size
    if "mask" in options and len(files) != 1:
        raise UserError(f"--mask belongs to one file, got {len(files)}")
    if "interpolate" not in options:
        check_names(files)
    for stem, outputs in study.complete(run, files, seed=seed, refine=refine, **options):
        targets = unused(*(folder / f"{stem}_{output.name}" for output in outputs))
        for target, output in zip(targets, outputs, strict=True):
            output.write(target)
        yield from (target for target, output in zip(targets, outputs, strict=True) if output.told)


def _study(run: SetRun, refine: int) -> Study:
    study: Study = run.row.load_study()
    if refine and "refine" not in study.OPTIONS:
        raise UserError(f"--refine is not for {run.row.unit}: there is nothing left to fit")
    return study


def read_prior(run: SetRun) -> HyperSiren | None:
    """The model before its training, of a run that keeps one with a prior from data (`prior.pt`).

    Raises:
        CheckpointError: If the file cannot be read.
    """
    path = run.checkpoint.parent / "prior.pt"
    if not getattr(run.model, "has_prior", False) or not path.exists():
        return None
    model = checkpoints.restore(checkpoints.read(path), next(run.model.parameters()).device)
    if not isinstance(model, HyperSiren):
        return None
    if (correction := correction_of(model)) is not None:
        correction.fixed = 0.0  # untrained, it changes nothing, and need not be computed
    return model
