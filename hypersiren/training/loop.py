"""The training loop. One function trains, resumes, stops on Ctrl-C and keeps the last good checkpoint.

Everything random in a step comes from a generator seeded by (seed, step), so a run that was interrupted anywhere goes
on exactly as if it had not been: bit for bit on a CPU, and on a GPU but for the rounding of sums whose order varies
there, such as the weight gradients of convolutions (`torch.use_deterministic_algorithms` fixes it). Nothing in the loop
waits for the device between log steps. Several processes run one loop, see `hypersiren.training.distributed`.
"""

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from tqdm import tqdm

from hypersiren.errors import UserError
from hypersiren.fields.savable import describe, rebuild
from hypersiren.hypernets.encoders.precision import convolutions
from hypersiren.tasks.later import do_later
from hypersiren.tasks.settings import Optimisation
from hypersiren.tasks.summary import headline
from hypersiren.tasks.task import digest_of, map_tensors
from hypersiren.training import checkpoints, stages
from hypersiren.training.checkpoints import CheckpointError
from hypersiren.training.display import bar_size, is_first, shows_progress
from hypersiren.training.distributed import agreement, join, mean, on_first
from hypersiren.training.folders import TrainingError, locked
from hypersiren.training.interrupts import check_on_interrupt, stop_requested
from hypersiren.training.memory import RETURN_SECONDS, return_freed_memory
from hypersiren.training.monitor import Monitor
from hypersiren.training.objectives import Objective
from hypersiren.training.run import Run, finite_means, is_finite, tensors_in
from hypersiren.training.seeds import seeded
from hypersiren.training.step import LOGGING, TrainingStep

LOG = logging.getLogger(__name__)

OnLog = Callable[[int, dict[str, float]], object]
"""A function that is told of each row of the history: step and values. If it returns True, the training stops."""

LOOK_SECONDS, LOOK_SHARE = 10.0, 0.05
"""Between validations the bar gets a fresh number after so many seconds, at this share of the time at most."""


def optimise(
    objective: Objective,
    run_dir: Path,
    record: dict[str, Any],
    training: Optimisation,
    *,
    seed: int = 0,
    progress: bool | str = False,
) -> bool:
    """Train until `training.steps`, resuming from `run_dir/last.pt` if there is one.

    Args:
        objective: Gives the loss terms of a batch; holds the model and the task.
        run_dir: Receives config.yaml, last.pt, best.pt (averaged weights of the lowest validation error), metrics.json,
            history.json and TensorBoard events.
        record: Plain description saved in each checkpoint: `settings` and `digest` of the signal (compared on
            resuming) and `model` (to rebuild).
        training: Steps, optimiser, learning rate and so on.
        seed: Fixes the batches.
        progress: Show a progress bar; a text is its name.

    Returns:
        True if the run is finished, False if it was stopped by Ctrl-C (or SIGTERM) and saved.

    Raises:
        TrainingError: If the loss or the gradient is not finite, the folder holds another run or other files, or
            another process trains in it.
        CheckpointError: If a checkpoint cannot be written or read.
        UserError: If several processes cannot train this, see `hypersiren.training.distributed.parallel`.
    """
    join()
    with ExitStack() as held, convolutions(training.tf32):
        on_first(lambda: held.enter_context(locked(run_dir)))
        return _optimise(objective, run_dir, record, training, seed, progress)[0]


def optimise_and_load(
    objective: Objective,
    run_dir: str | os.PathLike[str] | None,
    record: dict[str, Any],
    training: Optimisation,
    *,
    seed: int,
    progress: bool | str,
    on_log: OnLog | None = None,
    on_interrupt: str = "raise",
) -> dict[str, Any]:
    """As `optimise`, from Python: the model, which may be from outside, then has the best averaged weights, no graph.

    Args:
        objective, training, seed, progress: As in `optimise`.
        run_dir: Where the run is kept; None keeps nothing.
        record: Of what is saved, all but `model` and `digest`.
        on_log: Called with each row of the history; see `hypersiren.fit`.
        on_interrupt: Whether to raise or to return after Ctrl-C; see `hypersiren.fit`.

    Returns:
        metrics, history, seconds, run_dir and finished, as `hypersiren.training.fit.Fit` has them.
    """
    check_on_interrupt(on_interrupt)
    join()
    _leave_inference(objective.task)
    model = objective.model
    if training.steps:
        thaw(model)
    try:
        description: dict[str, Any] | None = describe(model)
    except UserError:
        description = None  # whoever made it can make it again
    record = {**record, "model": description}
    if run_dir is not None:
        record["digest"] = digest_of(objective.task)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(run_dir or scratch)
        with ExitStack() as held, convolutions(training.tf32):
            on_first(lambda: held.enter_context(locked(folder)))
            watched = run_dir is not None
            finished, history, error = _optimise(objective, folder, record, training, seed, progress, watched, on_log)
        content, history = on_first(lambda: (checkpoints.read(checkpoints.find(folder)), history))
    model.load_state_dict(content["ema"])
    model.eval()
    if error is not None and on_interrupt == "raise":
        raise error
    model.requires_grad_(False)
    kept = None if run_dir is None else Path(run_dir)
    seconds = history[-1]["seconds"] if history else content["seconds"]  # of the best weights it may be less
    outcome = {"metrics": content["metrics"], "seconds": seconds, "history": history}
    return {**outcome, "run_dir": kept, "finished": finished}


def thaw(model: nn.Module) -> None:
    """Let those weights be trained that a new model trains, if none are: it was loaded, fitted or solved.

    Example:
        >>> fitted = nn.Linear(2, 3).requires_grad_(False)
        >>> thaw(fitted)
        >>> fitted.weight.requires_grad
        True
    """
    if any(weight.requires_grad for weight in model.parameters()):
        return
    trained: dict[str, bool] = {}
    with contextlib.suppress(UserError), seeded(0):  # whoever made it otherwise trains all of it
        trained = {name: weight.requires_grad for name, weight in rebuild(describe(model)).named_parameters()}
    for name, weight in model.named_parameters():
        weight.requires_grad_(trained.get(name, True))


def _leave_inference(task: Any) -> None:
    """Copy the tensors of a task that was made in `torch.inference_mode()`, for gradients may not pass through them."""
    for name, value in list(getattr(task, "__dict__", {}).items()):
        if any(tensor.is_inference() for tensor in tensors_in(value)):
            setattr(task, name, map_tensors(value, Tensor.clone))


def _optimise(
    objective: Objective,
    run_dir: Path,
    record: dict[str, Any],
    training: Optimisation,
    seed: int,
    progress: bool | str,
    watched: bool = True,
    on_log: OnLog | None = None,
) -> tuple[bool, list[dict[str, float]], BaseException | None]:
    """Whether the run is finished, its history, and what an interruption raises. `watched`: write events."""
    steps, accumulate, task = training.steps, training.accumulate, objective.task
    objective.folder = run_dir if watched else None
    make_step = TrainingStep(objective, training, seed, begin=not (run_dir / "last.pt").exists())
    average = make_step.average
    run = Run(run_dir, record, objective.model, average, make_step.optimizers, objective.criterion, task)
    there = (run_dir / "last.pt").exists()
    start = run.resume()
    if stages.ended(task, start, steps) and there and not run.due:
        return True, run.history, None
    if not there:
        run.seconds = objective.seconds
    if start:
        LOG.info("resuming after %d of %d steps", start, steps)
    if training.compile and steps:
        LOG.info("compiling the training step, which takes up to a minute")

    monitor = Monitor(run_dir if watched and is_first() else None, start + 1 if start else 0)
    if start == 0:
        monitor.text("settings", json.dumps(record["settings"], indent=1))
    # In a log file, where every refresh is kept, a line now and then will do.
    live = shows_progress()
    bar = tqdm(
        desc=progress if isinstance(progress, str) else None,
        total=steps,
        initial=start,
        unit="step",
        disable=not progress or not steps,
        **bar_size(),
        mininterval=0.1 if live else 30.0,
        miniters=1,  # by time alone, however steps change their pace
    )
    validate = partial(_validate, objective, average, monitor, run)
    shown: dict[str, str] = {}
    logged, clock = start, time.perf_counter()
    looked, cost, returned = clock, 0.0, clock
    try:
        if start == 0 and objective.validate_first:
            LOG.info("evaluating before the first step" if steps else "evaluating")
            metrics: dict[str, float] | None = on_first(partial(validate, 0, last=not steps))
            if on_first(partial(_says_stop, on_log, run)):
                return False, run.history, None
            shown["headline"] = _headline(task, metrics or {})
            _write_postfix(bar, shown)
            clock = looked = time.perf_counter()
        if start and run.due:
            LOG.info("evaluating after step %d", start)
            on_first(partial(validate, start, last=stages.ended(task, start, steps)))
        with stop_requested() as stop:
            stopped = agreement(stop)
            for step in range(start, steps):
                loss = make_step(step, monitor)
                if time.perf_counter() - returned > RETURN_SECONDS:
                    return_freed_memory()
                    returned = time.perf_counter()

                done = step + 1
                bar.update()
                validating = stages.advance(task, done, steps) or done % training.validate_every == 0
                stopping = stopped()
                if done % training.log_every == 0 or validating or stopping:
                    series = mean(monitor.collect())  # the one wait for the device
                    with record_function(LOGGING):
                        values = finite_means(series, logged, done, run_dir, make_step.batches)
                    now = time.perf_counter()
                    speed = (done - logged) * accumulate * task.batch_size / (now - clock)
                    run.seconds += now - clock
                    values["learning_rate"] = make_step.rate(step)
                    run.log(done, values)
                    values[f"{task.unit}_per_second"] = speed
                    with record_function(LOGGING):
                        monitor.scalars(done, values)
                        shown |= {"loss": f"loss {values['loss/total']:.4g}", "speed": f"{speed:.0f} {task.unit}/s"}
                        _write_postfix(bar, shown)
                    logged, metrics = done, None
                    if stopping:  # a validation that is due is made on resuming
                        on_first(partial(run.save, done, due=validating))
                    elif validating:
                        LOG.debug("evaluating after step %d", done)
                        _write_postfix(bar, {**shown, "speed": "evaluating"})
                        if live:
                            bar.refresh()
                        last = stages.ended(task, done, steps)
                        metrics = stop.unless_set(partial(on_first, partial(validate, done, last=last)))
                        shown["headline"] = _headline(task, metrics or {})
                        _write_postfix(bar, shown)
                    if on_first(partial(_says_stop, on_log, run)) and done < steps:
                        if not validating:  # a deliberate end has its metrics, unlike Ctrl-C
                            on_first(partial(validate, done, last=True))
                        return False, run.history, None
                    over = stages.ended(task, done, steps)
                    if stopping or (validating and stopped()):
                        return over and metrics is not None, run.history, stop.error()
                    if over:
                        return True, run.history, None
                    clock = time.perf_counter()
                    looked = clock if validating else looked
                elif progress and time.perf_counter() - looked > max(LOOK_SECONDS, cost / LOOK_SHARE):
                    # For the bar and TensorBoard alone: nothing that is saved depends on the clock.
                    if is_finite([loss, make_step.averaged]):
                        looked = time.perf_counter()
                        with _keeping(run, done):
                            metrics = stop.unless_set(partial(_look, objective, average)) or {}
                        shown |= {"loss": f"loss {loss.item():.4g}", "headline": _headline(task, metrics)}
                        _write_postfix(bar, shown)
                        monitor.scalars(done, {f"validation/{k}": v for k, v in metrics.items()})
                        cost = time.perf_counter() - looked
                        clock += cost
                    looked = time.perf_counter()
    finally:
        bar.close()
        do_later(task, monitor.close)
    return True, run.history, None


def _says_stop(on_log: OnLog | None, run: Run) -> bool:
    """Call `on_log` with the last row of the history. Only True itself stops: many functions return something."""
    if on_log is None:
        return False
    row = {name: float(value) for name, value in run.history[-1].items()}
    step = int(row.pop("step"))
    with _keeping(run, step):
        return on_log(step, row) is True


def _write_postfix(bar: Any, shown: dict[str, str]) -> None:
    bar.set_postfix_str(", ".join(shown[key] for key in ("loss", "headline", "speed") if shown.get(key)), refresh=False)


def _headline(task: Any, metrics: dict[str, float]) -> str:
    """The task's number in a few words, such as "psnr 31.2 dB"; nothing if it has none."""
    measure = headline(task, metrics)
    return f"{measure.key} {measure.number(metrics[measure.key])}" if measure else ""


@torch.no_grad()
def _look(objective: Objective, model: nn.Module) -> dict[str, float]:
    """What the task says of a model, as it is: without calibration, which would change it."""
    with _evaluating(model, objective.task):
        return objective.judge(model)


@contextmanager
def _evaluating(model: nn.Module, task: Any, last: bool = False) -> Iterator[None]:
    """A model in evaluation mode, and then as it was; unless it is the last time, what the task has rendered goes."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        if not last and getattr(task, "renderings", None) is not None:
            task.renderings = None


@torch.no_grad()
def _validate(
    objective: Objective, model: nn.Module, monitor: Monitor, run: Run, step: int, *, last: bool
) -> dict[str, float]:
    """What the task says of a model, for the history too; all of it is saved. And its pictures for TensorBoard."""
    return_freed_memory()
    task = objective.task
    with _evaluating(model, task, last):
        predict = objective.predictor(model)
        with _keeping(run, step, due=True):
            objective.calibrate(model)
            found = {**objective.judge(model), **objective.facts}
            metrics = {name: float(value) for name, value in found.items()}  # not NumPy's, to be saved
        run.log(step, {f"validation/{k}": v for k, v in metrics.items()})
        run.save(step, metrics)
        monitor.scalars(step, {f"validation/{k}": v for k, v in metrics.items()})
        if monitor.writes:
            figure = monitor.wants_figure() or last
            draw = partial(_draw, objective, predict, monitor, step, metrics if figure else None, run.history)
            do_later(task, draw) if last else draw()
    return metrics


@torch.no_grad()
def _draw(
    objective: Objective,
    predict: Any,
    monitor: Monitor,
    step: int,
    metrics: dict[str, float] | None,
    history: list[dict[str, float]],
) -> None:
    """Pictures for TensorBoard; with the metrics of a validation the summary too."""
    name = objective.task.name
    return_freed_memory()
    monitor.panels(step, {f"{name}/{k}": p for k, p in objective.task.panels(predict).items()})
    if metrics is not None:
        return_freed_memory()
        pictures = objective.pictures(predict, metrics, history)
        monitor.panels(step, {f"{name}/{k}": p for k, p in pictures.items()})


@contextmanager
def _keeping(run: Run, step: int, *, due: bool = False) -> Iterator[None]:
    """Save the steps that are done if what follows them fails; `due`: whether that is their validation."""
    try:
        yield
    except (TrainingError, CheckpointError):  # they say themselves what is kept
        raise
    except BaseException as error:
        if step:
            run.save(step, due=due)
            if isinstance(error, Exception):
                LOG.warning("step %d is saved; what follows it failed", step)
        raise
