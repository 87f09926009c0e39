"""A run folder: what is saved of a training, and how it is resumed."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypersiren.settings import to_yaml
from hypersiren.training import checkpoints
from hypersiren.training.folders import TrainingError, refuse_others, sign, tell_differences, write_text


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
        """Load the last checkpoint, if there is one, and sign the folder; the number of steps that are done."""
        step = self._load()
        sign(self.folder, self.record.get("digest"))
        write_text(self.folder / "config.yaml", to_yaml(self.record["settings"]))
        return step

    def _load(self) -> int:
        path = self.folder / "last.pt"
        if not path.exists():
            return 0
        content = checkpoints.read(path)
        there, here = content["record"], self.record
        found = tell_differences(there["settings"], here["settings"], there.get("digest"), here.get("digest"))
        refuse_others(self.folder, found)
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
        write_text(self.folder / "metrics.json", json.dumps(summary, indent=1) + "\n")


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
