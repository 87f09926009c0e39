"""A run folder: what is saved of a training, and how it is resumed."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypersiren.settings.yaml import to_yaml
from hypersiren.training import checkpoints, stages
from hypersiren.training.checkpoints import CheckpointError
from hypersiren.training.distributed import on_first
from hypersiren.training.folders import TrainingError, refuse_others, sign, tell_differences, to_json, write_text


class Run:
    """What is saved of a run, and where."""

    def __init__(
        self,
        folder: Path,
        record: dict[str, Any],
        model: nn.Module,
        average: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        criterion: str | None,
        task: Any,
    ):
        self.folder, self.record, self.criterion, self.task = folder, record, criterion, task
        self.model, self.average, self.optimizers = model, average, optimizers
        self.best: float = math.inf
        self.metrics: dict[str, float] = {}
        self.seconds = 0.0
        self.due = False
        self.trains = bool(optimizers)  # else last.pt is all there is, and may be large
        self.history: list[dict[str, float]] = []

    def resume(self) -> int:
        """Load the last checkpoint, if there is one, and sign the folder; the number of steps that are done.

        Raises:
            CheckpointError: If there is one that cannot be resumed, or what is to be saved could not be read again.
        """
        checkpoints.check_plain({"record": self.record, "optimizers": [each.state_dict() for each in self.optimizers]})
        content = on_first(self._read)
        stages.set_state(self.task, content.get("task", {}))
        step = self._load(content) if content else 0
        on_first(self._sign)
        if self.trains and content and not content["optimizers"]:
            on_first(self._begin_from_solved)
        return step

    def _begin_from_solved(self) -> None:
        """What was solved and is now to be trained is the best so far, and what training is compared with."""
        content = checkpoints.read(self.folder / "last.pt")
        common = {
            key: value for key, value in content.items() if key in ("record", "step", "seconds", "metrics", "ema")
        }
        for name in ("best.pt", "prior.pt"):
            checkpoints.write(self.folder / name, common)

    def _sign(self) -> None:
        sign(self.folder, self.record.get("digest"))
        write_text(self.folder / "config.yaml", to_yaml(self.record["settings"]))

    def _read(self) -> dict[str, Any]:
        path = self.folder / "last.pt"
        if not path.exists():
            return {}
        content = checkpoints.read(path)
        there, here = content["record"], self.record
        if not isinstance(settings := there.get("settings", {}), dict):
            raise CheckpointError(f"{path}: expected the settings of a run in it, got {settings!r}")
        found = tell_differences(settings, here["settings"], there.get("digest"), here.get("digest"))
        refuse_others(self.folder, found)
        if "optimizers" not in content:
            raise CheckpointError(
                f"{path}: holds weights alone, as best.pt does; a training resumes from its own last.pt"
            )
        return content

    def _load(self, content: dict[str, Any]) -> int:
        try:
            self.model.load_state_dict(content["model"])
            self.average.load_state_dict(content["ema"])
            if self.optimizers and content["optimizers"]:  # a run that only solved has none
                for optimizer, state in zip(self.optimizers, content["optimizers"], strict=True):
                    optimizer.load_state_dict(state)
            self.best, self.metrics, self.seconds = float(content["best"]), content["metrics"], content["seconds"]
            self.history = list(content.get("history", []))  # version 0.1 kept none
            self.due = bool(content.get("due"))
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"{self.folder / 'last.pt'}: does not fit what is trained here ({reason})") from None
        return content["step"]

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add values to the history: to the row of this step, or to a new one."""
        if not self.history or self.history[-1]["step"] != step:
            self.history.append({"step": step, "seconds": self.seconds})
        self.history[-1] |= values

    def save(self, step: int, metrics: dict[str, float] | None = None, *, due: bool = False) -> None:
        """Write last.pt, and best.pt if the metrics of a validation are the best so far (or nothing says which are).

        At step 0 prior.pt too: the model before its training. `due`: the validation of this step has failed, so that
        resuming begins with it.

        Raises:
            TrainingError: If anything of it is not finite: the losses told of the weights before the last update only.
            CheckpointError: If it cannot be written.
        """
        weights = [*self.model.parameters(), *self.average.parameters()]
        optimizers = [each.state_dict() for each in self.optimizers]
        bad = None if is_finite(weights) and is_finite([each["state"] for each in optimizers]) else "weights"
        if metrics and self.criterion and math.isnan(metrics[self.criterion]):
            bad = f"validation {self.criterion}"
        if bad:
            raise TrainingError(f"not finite after step {step}: {bad}; {_kept(self.folder)}; {ADVICE}")
        self.folder.mkdir(parents=True, exist_ok=True)  # it may have been deleted since
        self.metrics = metrics or self.metrics
        common = {"record": self.record, "step": step, "metrics": self.metrics, "seconds": self.seconds}
        common["ema"] = self.average.state_dict()
        if metrics and (self.criterion is None or metrics[self.criterion] < self.best):
            self.best = metrics[self.criterion] if self.criterion else math.inf
            if self.trains:
                checkpoints.write(self.folder / "best.pt", common)
        if step == 0 and self.trains:  # so that what training earns can be shown
            checkpoints.write(self.folder / "prior.pt", common)
        full: dict[str, Any] = {"model": self.model.state_dict(), "optimizers": optimizers}
        full |= {"best": self.best, "history": self.history, "due": due, "task": stages.state(self.task)}
        checkpoints.write(self.folder / "last.pt", {**common, **full})
        summary = {"step": step, "seconds": self.seconds, "validation": self.metrics}
        if math.isfinite(self.best):
            summary[f"best_validation_{self.criterion}"] = self.best
        write_text(self.folder / "metrics.json", to_json(summary))
        write_text(self.folder / "history.json", to_json(self.history))


def finite_means(
    values: dict[str, Tensor], logged: int, done: int, run_dir: Path, batches: Callable[[int], Iterable[Any]]
) -> dict[str, float]:
    """Means over the steps since the last log.

    Args:
        values: A series of each name, over the steps.
        logged, done: Number of steps at the last log and now.
        run_dir: The run folder.
        batches: The batches of a step, counted from 0, to see whether the fault is theirs.

    Raises:
        TrainingError: If any value is not finite; nothing of these steps has been saved.
    """
    for name, series in values.items():
        bad = (~series.isfinite()).nonzero().flatten().tolist()
        if bad:
            step = logged + 1 + bad[0] * (done - logged) // len(series)
            advice = ADVICE
            if not all(is_finite(batch) for batch in batches(step - 1)):
                advice = "the signal has values that are NaN or infinite there"
            elif step == 1:  # the learning rate has not been used yet
                advice = "the weights are still the initial ones: look at the signal, the weights and the loss"
            raise TrainingError(f"{name} is {series[bad[0]].item()} in step {step}; {_kept(run_dir)}; {advice}")
    return {name: series.mean().item() for name, series in values.items()}


ADVICE = "try a lower training.lr, a longer training.warmup or a smaller training.clip"


def _kept(folder: Path) -> str:
    kept = "the last good checkpoint is kept" if (folder / "last.pt").exists() else "nothing was saved yet"
    return f"{kept} in {folder}"


def is_finite(values: Any) -> bool:
    """Whether all tensors of a batch, or of an optimiser's state, are finite.

    Example:
        >>> is_finite({"a": [torch.zeros(2), 3], "b": torch.tensor(float("nan"))})
        False
    """
    flags: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors_in(values):
        flags.setdefault(tensor.device, []).append(tensor.isfinite().all())
    return all(bool(torch.stack(each).all()) for each in flags.values())  # one wait for each device


def tensors_in(values: Any) -> Iterator[Tensor]:
    """All tensors of a batch, or of an optimiser's state."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        values = list(values.values())
    elif is_dataclass(values):
        values = list(vars(values).values())
    if isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)
