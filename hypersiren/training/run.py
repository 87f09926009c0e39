"""A run folder: what is saved of a training, and how it is resumed."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypersiren.errors import UserError
from hypersiren.settings import MISSING, differing_keys
from hypersiren.training import checkpoints

RESUMABLE = {"training.steps", "training.log_every", "training.validate_every", "training.compile", "device"}
"""Settings that may change between the parts of one run."""


class TrainingError(UserError):
    """A training that cannot go on; the message is one line for a person."""


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
        # A setting that the saved run does not have came later; its default is what that run did.
        changed = {key: pair for key, pair in changed.items() if key not in RESUMABLE and pair[0] is not MISSING}
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
            checkpoints.write(self.folder / "best.pt", common)
        full = {"model": self.model.state_dict(), "optimizers": [each.state_dict() for each in self.optimizers]}
        checkpoints.write(self.folder / "last.pt", {**common, **full, "best": self.best})
        summary = {"step": step, "seconds": self.seconds, "validation": self.metrics}
        if math.isfinite(self.best):
            summary[f"best_validation_{self.criterion}"] = self.best
        (self.folder / "metrics.json").write_text(json.dumps(summary, indent=1) + "\n")


def finite_means(values: dict[str, Tensor], logged: int, done: int, run_dir: Path) -> dict[str, float]:
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
