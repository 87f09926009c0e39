"""From settings to the training of a hypernetwork, and from its run folder back to the model."""

import logging
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError

from hypersiren.completion.base import CaseTask, SetTask
from hypersiren.completion.correcting import correction_of
from hypersiren.completion.objective import HypernetObjective
from hypersiren.completion.registry import SetRow, set_row
from hypersiren.completion.settings import CORRECTING, Loss, PredictiveLoss, SetSettings, Training
from hypersiren.errors import UserError, did_you_mean
from hypersiren.fields.savable import describe
from hypersiren.hypernets.inpainter import Inpainter
from hypersiren.hypernets.model import HyperSiren, build
from hypersiren.hypernets.settings import Prior
from hypersiren.plotting import ZOOM, figure_pixels
from hypersiren.signals.image.files import write_image
from hypersiren.tasks.settings import Optimisation
from hypersiren.tasks.summary import draw_summary, headline
from hypersiren.tasks.task import check_task, digest_of
from hypersiren.training import checkpoints
from hypersiren.training.display import shows_progress
from hypersiren.training.loop import OnLog, optimise_and_load
from hypersiren.training.monitor import Monitor
from hypersiren.training.objectives import Objective
from hypersiren.training.seeds import seeded

LOG = logging.getLogger(__name__)

T = TypeVar("T", bound=Optimisation)


def prepare(row: SetRow, settings: Any, device: torch.device | str = "cpu") -> tuple[Any, dict[str, Any]]:
    """A training objective, a `HypernetObjective` or what a kind makes itself, and its record for checkpoints.

    Raises:
        UserError: If the set of signals cannot be read.
    """
    LOG.info("reading %s: %s", row.unit, settings.data.kind)
    task = row.load().open(settings, device)
    make = getattr(task, "objective", None)  # of a kind whose model is no HyperSiren
    objective = make(settings, device) if make else make_objective(task, settings, device)
    record = {"settings": settings.model_dump(mode="json"), "model": describe(objective.model)}
    return objective, {**record, "digest": digest_of(task)}


def make_objective(task: SetTask, settings: SetSettings, device: torch.device | str = "cpu") -> HypernetObjective:
    """A new model for a task, and its loss, as settings describe them; what the settings say of data is not read."""
    LOG.info("building the model")
    parts = {name: getattr(settings, name).model_dump() for name in ("siren", "encoder", "hypernet", "adapter")}
    if settings.corrects:
        parts["adapter"]["correction"] = settings.correction.model_dump(exclude={"kind"})
    description = {**parts, **task.describe()}
    with seeded(settings.seed):
        model = build(**description).to(device)
    loss = settings.loss
    return HypernetObjective(
        model,
        task,
        **weights_of(loss),
        autocast=settings.training.autocast,
        start=partial(start_at_prior, model, task, settings.prior) if model.has_prior else None,
    )


def optimisation_of(objective: Objective, training: T) -> T:
    """The optimisation that settings describe; no step where nothing of the model is trained."""
    if any(p.requires_grad for p in objective.model.parameters()):
        return training
    LOG.info("nothing is trained: the prior alone")
    return training.model_copy(update={"steps": 0})


def weights_of(loss: Loss) -> dict[str, Any]:
    """The weights of the terms that `HypernetObjective` adds to those of the task."""
    return loss.model_dump(include=set(PredictiveLoss.model_fields))


def start_at_prior(model: HyperSiren, task: Any, prior: Prior = Prior()) -> None:  # noqa: B008 - frozen
    """Take the prior of a model's last layer from the task's training signals."""
    LOG.info("taking the prior of the last layer from the training %s", task.unit)
    signals = task.prior_signals(prior.copies, prior.finer)
    model.set_prior(signals, ridge=prior.ridge, shrinkage=prior.shrinkage)


@dataclass(frozen=True)
class Trained:
    """A trained hypernetwork.

    Attributes:
        model: The model of the best validation, in evaluation mode.
        metrics: What the task's `evaluate` says of it.
        seconds: Time spent in steps.
        history: The course of the training, as that of `hypersiren.training.fit.Fit`.
        run_dir: Its run folder, or None if none was kept.
        finished: Whether all steps are done; False if Ctrl-C or `on_log` stopped it.
    """

    model: HyperSiren = field(repr=False)
    metrics: dict[str, float]
    seconds: float
    history: list[dict[str, float]] = field(repr=False)
    run_dir: Path | None
    finished: bool


@torch.inference_mode(False)
@torch.enable_grad()
def train(
    model: HyperSiren,
    task: Any,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    loss: Loss = Loss(),  # noqa: B008 - frozen
    progress: bool | str | None = None,
    on_log: OnLog | None = None,
    on_interrupt: str = "raise",
    **training: Any,
) -> Trained:
    """Train a hypernetwork on a set of signals, ours or your own.

    Where torchrun has started several processes, they share the signals of each step, see `hypersiren.fit`.

    Args:
        model: What is trained, in place; its parts may be your own modules.
        task: The set and its loss, such as `Completion(images)`: any object with what `hypersiren.SetTask` has.
        run_dir: Folder for checkpoints and TensorBoard events; a run that it holds is resumed. None keeps nothing.
        seed: Fixes the batches.
        loss: Weights of the paper's two priors, or a `CompletionLoss` with that of the likelihood; none by default.
        progress: Show a progress bar; a text is its name; None: if stderr is a terminal, or in a notebook.
        on_log: Called as on_log(step, values) with each row of the history; True from it stops. See `hypersiren.fit`.
        on_interrupt: "raise" or "return" after Ctrl-C or SIGTERM, when the state is saved. See `hypersiren.fit`.
        training: Changes of the optimisation, see `hypersiren.completion.settings.Training`; all but `batch_size` and
            `target_points`, which the task has: `Completion(images, batch_size=16)`.

    Raises:
        TrainingError: If the loss is not finite, or the folder holds a run with other settings.
        UserError: If the task lacks something, a setting does not exist, or belongs to the task.

    Warns:
        UserWarning: If the model solves under a prior that was never set, see `HyperSiren.set_prior`.

    Example:
        >>> from hypersiren import Completion, FullHypernet, HyperSiren, SetEncoder, Siren, train
        >>> siren = Siren(2, 1, hidden_features=16)
        >>> model = HyperSiren(SetEncoder(2 + 1, 8), FullHypernet(siren.shapes, 8, 16), siren)
        >>> images = torch.randint(0, 256, (20, 8, 8), dtype=torch.uint8)
        >>> trained = train(model, Completion(images, batch_size=4), steps=3)
        >>> trained.finished, sorted(trained.metrics)
        (True, ['mse', 'mse_10', 'mse_full', 'mse_half'])
    """
    check_task(task, SetTask)
    check_keywords(type(task).__name__, loss, training)
    used = (CORRECTING if correction_of(model) is not None else Training()).replace(**training)
    if getattr(model, "lacks_prior", False) and not resumes(run_dir):
        warnings.warn(
            "the model's prior is not that of these signals yet, and training hardly finds it: "
            "model.set_prior(task.prior_signals(copies=1, finer=2)) before train",
            stacklevel=4,
        )
    settings = {"training": used.model_dump(mode="json"), "loss": loss.model_dump(mode="json"), "seed": seed}
    objective = HypernetObjective(model, task, **weights_of(loss), autocast=used.autocast)
    outcome = optimise_and_load(
        objective,
        run_dir,
        {"settings": settings},
        used,
        seed=seed,
        progress=shows_progress(progress),
        on_log=on_log,
        on_interrupt=on_interrupt,
    )
    return Trained(model, **outcome)


def resumes(run_dir: str | os.PathLike[str] | None) -> bool:
    """Whether a run folder holds a run already."""
    return run_dir is not None and (Path(run_dir) / "last.pt").exists()


KEYWORDS = ("run_dir", "seed", "loss", "progress", "on_log", "on_interrupt")
"""Of `train`, beside the settings of the optimisation."""

OF_THE_TASK = ("batch_size", "target_points")
"""Settings of the optimisation that a task is made with."""


def check_keywords(task: str, loss: Loss, training: Mapping[str, Any]) -> None:
    """Refuse what `train` would not use, and say where it belongs or what was meant.

    Args:
        task: The name of the task's class.
        loss, training: As of `train`.

    Raises:
        UserError: If there is anything.

    Example:
        >>> check_keywords("Completion", Loss(), {"batch_size": 2})
        Traceback (most recent call last):
        ...
        hypersiren.errors.UserError: train: batch_size belongs to the task: Completion(..., batch_size=2)
        >>> check_keywords("Completion", Loss(), {"step": 2})
        Traceback (most recent call last):
        ...
        hypersiren.errors.UserError: train: unknown setting "step"; did you mean "steps"?
    """
    own = set(type(loss).model_fields) - set(PredictiveLoss.model_fields)
    changed = {name: getattr(loss, name) for name in sorted(own & loss.model_fields_set)}
    if given := {name: training[name] for name in OF_THE_TASK if name in training} | changed:
        name, value = next(iter(given.items()))
        raise UserError(f"train: {name} belongs to the task: {task}(..., {name}={value!r})")
    known = [name for name in Training.model_fields if name not in OF_THE_TASK]
    for name in training:
        if name not in known:
            near = did_you_mean(name, [*known, *KEYWORDS, *OF_THE_TASK])
            raise UserError(f'train: unknown setting "{name}"' + (near or f"; expected one of {', '.join(known)}"))


def draw_run(objective: Objective, run: Path) -> Path:
    """Write `summary.png` of a run of its best model: what the task shows, and the course of the training; the file.

    Raises:
        SignalError: If it cannot be written.
    """
    best, last = checkpoints.read(checkpoints.find(run)), checkpoints.read(run / "last.pt")
    LOG.info("drawing summary.png")
    device = next(objective.model.parameters()).device
    predict = objective.predictor(checkpoints.restore(best, device))
    task, history = objective.task, last.get("history", [])
    levels: dict[str, float] = {}
    measure = headline(task, best["metrics"])
    rows = [row for row in history if measure is not None and f"validation/{measure.key}" in row]
    if isinstance(task, CaseTask) and measure is not None and len(rows) > 1:
        LOG.debug("evaluating baselines on validation %s", task.unit)
        levels = task.levels(measure.key)
        write_levels(run, f"validation/{measure.key}", levels, [int(row["step"]) for row in rows])
    figure = draw_summary(task, predict, best["metrics"], history, levels)
    write_image(run / "summary.png", figure_pixels(figure, zoom=ZOOM))
    return run / "summary.png"


def write_levels(run: Path, name: str, levels: Mapping[str, float], steps: Sequence[int]) -> None:
    """Level lines in TensorBoard's chart of a scalar: runs of their own below a run, from first to last step."""
    for level, value in levels.items():
        folder = run / "baselines" / level.replace("/", " ")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        monitor = Monitor(folder)
        for step in (steps[0], steps[-1]):
            monitor.scalars(step, {name: value})
        monitor.close()


@dataclass(frozen=True)
class SetRun:
    """A run of `hypersiren train`: its task's row, its settings, its model, and the checkpoint that they are from."""

    row: SetRow
    settings: Any
    model: Any
    checkpoint: Path


def open_run(run: Path, device: torch.device | str = "cpu") -> SetRun:
    """The run in a folder, or of a checkpoint, or a released model by its name.

    Raises:
        CheckpointError: If there is none, or it is not one of a hypernetwork.
    """
    path = checkpoints.find(run)
    content = checkpoints.read(path)
    model = checkpoints.restore(content, device)
    if not isinstance(model, HyperSiren | Inpainter):
        raise checkpoints.CheckpointError(
            f"{path}: expected a run of `hypersiren train`, got a fitted field; see `hypersiren render`"
        )
    if "settings" not in content["record"]:
        raise checkpoints.CheckpointError(
            f"{path}: holds a model without the settings of its training; expected {checkpoints.EXPECTED}"
        )
    try:
        record = content["record"]["settings"]
        row = set_row(record["data"]["kind"])
        if "correction" in row.settings.model_fields:
            record = {"correction": {"kind": "none"}, **record}  # earlier runs have none
        return SetRun(row, row.settings.model_validate(record), model, path)
    except (ValidationError, UserError, KeyError, TypeError):
        raise checkpoints.CheckpointError(f"{path}: its settings are not those of this version of hypersiren") from None
