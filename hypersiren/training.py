"""The training loop. One function trains, resumes, stops on Ctrl-C and keeps the last good checkpoint.

Everything random in a step comes from a generator seeded by (seed, step), so a run that was interrupted anywhere goes
on exactly as if it had not been. Nothing in the loop waits for the device between log steps.
"""

import copy
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from tqdm import tqdm

from hypersiren import checkpoints
from hypersiren.config_io import differing_keys, to_yaml
from hypersiren.errors import UserError
from hypersiren.models import HyperSiren
from hypersiren.monitor import Monitor
from hypersiren.optimizers import closure, learning_rate, make_optimizers
from hypersiren.tasks import Field, SetTask, Task
from hypersiren.tasks.completion import Predict

RESUMABLE = {"training.steps", "training.log_every", "training.validate_every", "training.compile", "device"}
"""Settings that may change between the parts of one run."""

DATA, UPDATE, LOGGING = "hypersiren/data", "hypersiren/update", "hypersiren/logging"
"""Labels of the parts of the loop in a profiler's trace."""


class TrainingError(UserError):
    """A training that cannot go on; the message is one line for a person."""


class Objective(nn.Module):
    """What is trained on what: a module whose forward gives the loss terms of a batch, so that all of it compiles."""

    model: nn.Module
    task: Task

    def forward(self, batch: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def lr_factors(self) -> dict[Tensor, float]:
        """Parameters that learn at a multiple of the learning rate."""
        return {}

    def predictor(self, model: nn.Module) -> Any:
        """What the task evaluates of `model`, which is this one's or its average."""
        raise NotImplementedError


class FieldObjective(Objective):
    """The loss of one field on a task.

    Args:
        field: What is fitted.
        task: Gives the terms.
        first_lr: Times the learning rate, for the first layer; None for hidden_omega / first_omega where the field has
            them and that is below 1. An update then moves the phases of the first layer as it does those of the hidden
            ones; with the thousands that a sound needs for first omega, a SIREN without this forgets its frequencies.
    """

    def __init__(self, field: nn.Module, task: Task, first_lr: float | None = None):
        super().__init__()
        self.model, self.task, self.first_lr = field, task, first_lr

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self.task.loss(self.model, batch)

    def lr_factors(self) -> dict[Tensor, float]:
        layers = getattr(self.model, "layers", None)
        if not layers:
            return {}
        sines = getattr(self.model, "activation", self.model)  # a Finer holds its omegas in its activation
        omegas = getattr(sines, "hidden_omega", 1.0), getattr(sines, "first_omega", 1.0)
        factor = min(1.0, omegas[0] / omegas[1]) if self.first_lr is None else self.first_lr
        return dict.fromkeys(layers[0].parameters(), factor)

    def predictor(self, model: nn.Module) -> Field:
        return model


class HypernetObjective(Objective):
    """The loss of a hypernetwork on a task: the task's terms on the predicted field, and the paper's two priors.

    Args:
        model: Predicts a field for each context.
        task: Gives the terms.
        latent: Weight of mean(z^2) (authors' code: 0.1).
        weights: Weight of mean(theta^2) over all predicted weights (authors' code: 100).
        autocast: bfloat16 in encoder and hypernetwork; the field, whose phases are tens of radians, stays in float32.
    """

    model: HyperSiren
    task: SetTask

    def __init__(
        self, model: HyperSiren, task: SetTask, *, latent: float = 0.0, weights: float = 0.0, autocast: bool = False
    ):
        super().__init__()
        self.model, self.task = model, task
        self.latent, self.weights, self.autocast = latent, weights, autocast

    def forward(self, batch: Any) -> dict[str, Tensor]:
        with torch.autocast(batch.context.y.device.type, torch.bfloat16, enabled=self.autocast):
            z = self.model.encode(batch.context)
            params = self.model.decode(z)
        terms = dict(self.task.loss(self.model.siren.bind(params), batch))
        if self.latent:
            terms["latent_prior"] = self.latent * z.float().square().mean()
        if self.weights:
            squares = torch.stack([p.square().sum() for p in params.values()]).sum()
            terms["weight_prior"] = self.weights * squares / sum(p.numel() for p in params.values())
        return terms

    def predictor(self, model: nn.Module) -> Predict:
        """The field that `model` predicts from a context."""
        assert isinstance(model, HyperSiren)
        return model.field


def step_seed(seed: int, step: int, part: int = 0) -> int:
    """The seed of all that is random in one part (accumulated batch) of one step."""
    return (seed * 1_000_003 + step) * 1_009 + part


def train(
    objective: Objective,
    run_dir: Path,
    record: dict[str, Any],
    *,
    seed: int,
    steps: int,
    lr: float,
    optimizer: Literal["adam", "muon", "lbfgs"] = "adam",
    warmup: int = 0,
    decay: Literal["constant", "cosine"] = "constant",
    weight_decay: float = 0.0,
    clip: float | None = None,
    ema: float = 0.0,
    accumulate: int = 1,
    compile: bool = False,
    log_every: int = 50,
    validate_every: int = 500,
    progress: bool = True,
) -> bool:
    """Train until `steps`, going on from `run_dir/last.pt` if there is one.

    Args:
        objective: Gives the loss terms of a batch; holds the model and the task.
        run_dir: Receives config.yaml, last.pt, best.pt (averaged weights of the lowest validation error), metrics.json
            and TensorBoard events.
        record: Plain description saved in each checkpoint: `settings` (compared on resuming) and `model` (to rebuild).
        The rest: See `hypersiren.config.Training`.

    Returns:
        True if the run is finished, False if it was stopped by Ctrl-C (or SIGTERM) and saved.

    Raises:
        TrainingError: If the loss or the gradient is not finite, or the folder holds a run with other settings.
        CheckpointError: If a checkpoint cannot be written or read.
    """
    model, task = objective.model, objective.task
    device = next(model.parameters()).device
    trained: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    average = copy.deepcopy(model).eval()
    averaged: list[Tensor] = [p for p in average.parameters() if p.requires_grad]
    average.requires_grad_(False)
    optimizers = make_optimizers(trained, optimizer, lr, weight_decay, objective.lr_factors())
    run = _Run(run_dir, record, model, average, optimizers, task.criterion)
    closing = optimizer == "lbfgs"
    if closing and accumulate > 1:
        raise TrainingError(f"training.accumulate: expected 1 with the optimizer lbfgs, got {accumulate}")
    start = run.resume()
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text(to_yaml(record["settings"]))
    if start >= steps:
        return True

    forward: Callable[[Any], dict[str, Tensor]] = torch.compile(objective) if compile else objective
    generator = torch.Generator(device)
    monitor = Monitor(run_dir, start + 1)
    if start == 0:
        monitor.text("settings", json.dumps(record["settings"], indent=1))
    # In a log file, where every refresh is kept, a line now and then will do.
    interval = 0.1 if sys.stderr.isatty() else 30.0
    bar = tqdm(total=steps, initial=start, unit="step", disable=not progress, dynamic_ncols=True, mininterval=interval)
    logged, clock = start, time.perf_counter()
    try:
        with _stop_requested() as stopped:
            for step in range(start, steps):
                rate = 1.0 if closing else learning_rate(step, steps=steps, lr=lr, warmup=warmup, decay=decay)
                for each in optimizers:
                    for group in each.param_groups:
                        group["lr"] = rate * group["factor"]
                for part in range(accumulate):
                    with record_function(DATA):
                        drawn = step_seed(seed, 0 if closing else step, part)
                        batch = task.sample(generator.manual_seed(drawn), step / steps)
                    with record_function(UPDATE):
                        terms = forward(batch)
                        loss = torch.stack(list(terms.values())).sum()
                        (loss / accumulate).backward()
                    with record_function(LOGGING):
                        monitor.record({"loss/total": loss, **{f"loss/{k}": v for k, v in terms.items()}})
                with record_function(UPDATE):
                    norm = nn.utils.clip_grad_norm_(trained, math.inf if closing else clip or math.inf)
                    for each in optimizers:
                        each.step(closure(each, forward, batch, loss) if closing else None)  # type: ignore[arg-type]
                        each.zero_grad()
                    # The average starts short, so that it forgets the initial weights soon.
                    torch._foreach_lerp_(averaged, trained, 1 - min(ema, (1 + step) / (10 + step)))
                with record_function(LOGGING):
                    monitor.record({"gradient_norm": norm})

                done = step + 1
                validating = done % validate_every == 0 or done == steps
                stopping = stopped.is_set()
                if done % log_every == 0 or validating or stopping:
                    series = monitor.collect()  # the one wait for the device
                    with record_function(LOGGING):
                        values = _finite(series, logged, done, run_dir)
                    now = time.perf_counter()
                    speed = (done - logged) * accumulate * task.batch_size / (now - clock)
                    run.seconds += now - clock
                    values |= {"learning_rate": rate, f"{task.unit}_per_second": speed}
                    with record_function(LOGGING):
                        monitor.scalars(done, values)
                        bar.set_postfix_str(
                            f"loss {values['loss/total']:.4g}, {speed:.0f} {task.unit}/s", refresh=False
                        )
                        bar.update(done - logged)
                    logged = done
                    if validating:
                        predict = objective.predictor(average)
                        with torch.no_grad():
                            metrics = task.evaluate(predict)
                            monitor.panels(done, {f"{task.name}/{k}": p for k, p in task.panels(predict).items()})
                        monitor.scalars(done, {f"validation/{k}": v for k, v in metrics.items()})
                        run.save(done, metrics)
                    elif stopping:
                        run.save(done)
                    if stopping or stopped.is_set():
                        return done == steps
                    clock = time.perf_counter()
    finally:
        bar.close()
        monitor.close()
    return True


class _Run:
    """What is saved of a run, and where."""

    def __init__(
        self,
        folder: Path,
        record: dict[str, Any],
        model: nn.Module,
        average: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        criterion: str | None,
    ):
        self.folder, self.record, self.criterion = folder, record, criterion
        self.model, self.average, self.optimizers = model, average, optimizers
        self.best: float = math.inf
        self.metrics: dict[str, float] = {}
        self.seconds = 0.0

    def resume(self) -> int:
        """Load the last checkpoint, if there is one; the number of steps that are done."""
        for part in self.folder.glob(".*.pt.*.part"):  # of a process that was killed while it wrote
            part.unlink(missing_ok=True)
        path = self.folder / "last.pt"
        if not path.exists():
            return 0
        content = checkpoints.read(path)
        changed = differing_keys(content["record"]["settings"], self.record["settings"])
        changed = {key: pair for key, pair in changed.items() if key not in RESUMABLE}
        if changed:
            listed = ", ".join(f"{key}: {there} there, {here} here" for key, (there, here) in changed.items())
            raise TrainingError(
                f"{self.folder} holds a run with other settings ({listed}); "
                "choose another --run-dir, or delete the folder to start anew"
            )
        self.model.load_state_dict(content["model"])
        self.average.load_state_dict(content["ema"])
        for optimizer, state in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.best, self.metrics, self.seconds = content["best"], content["metrics"], content["seconds"]
        return content["step"]

    def save(self, step: int, metrics: dict[str, float] | None = None) -> None:
        """Write last.pt, and best.pt if the metrics of a validation are the best so far (or nothing says which are)."""
        self.metrics = metrics or self.metrics
        common = {"record": self.record, "step": step, "metrics": self.metrics, "seconds": self.seconds}
        common["ema"] = self.average.state_dict()
        if metrics and (self.criterion is None or metrics[self.criterion] < self.best):
            self.best = metrics[self.criterion] if self.criterion else math.inf
            checkpoints.save(self.folder / "best.pt", common)
        full = {"model": self.model.state_dict(), "optimizers": [each.state_dict() for each in self.optimizers]}
        checkpoints.save(self.folder / "last.pt", {**common, **full, "best": self.best})
        summary = {"step": step, "seconds": self.seconds, "validation": self.metrics}
        if math.isfinite(self.best):
            summary[f"best_validation_{self.criterion}"] = self.best
        (self.folder / "metrics.json").write_text(json.dumps(summary, indent=1) + "\n")


def _finite(values: dict[str, Tensor], logged: int, done: int, run_dir: Path) -> dict[str, float]:
    """Means over the steps since the last log.

    Raises:
        TrainingError: If any value is not finite; nothing of these steps has been saved.
    """
    for name, series in values.items():
        bad = (~series.isfinite()).nonzero().flatten().tolist()
        if bad:
            step = logged + 1 + bad[0] * (done - logged) // len(series)
            kept = "the last good checkpoint is kept" if (run_dir / "last.pt").exists() else "nothing was saved yet"
            raise TrainingError(
                f"{name} is {series[bad[0]].item()} in step {step}; {kept} in {run_dir}; "
                "try a lower training.lr, a longer training.warmup or a smaller training.clip"
            )
    return {name: series.mean().item() for name, series in values.items()}


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets, so that the step ends whole; a second Ctrl-C interrupts."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def request(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
