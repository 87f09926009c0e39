"""Speed, as ratios within one run."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from hypersiren.training import DATA, LOGGING, UPDATE, HypernetObjective, train


def loop_shares(objective: HypernetObjective, **training: Any) -> dict[str, float]:
    """How the training loop spends its time, by the profiler: shares of data, update and logging.

    Validation and checkpoints are left out. The profiler's own cost falls heaviest on the many small operations of the
    data, so that its share is an upper bound. On a GPU these are the shares of the process that feeds it.

    Args:
        objective: What is trained.
        training: Arguments of `hypersiren.training.train`, without the folder, the record and progress.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        train(objective, Path(folder), {"settings": {}, "model": {}}, progress=False, **training)
    spent = {event.key: event.cpu_time_total for event in profile.key_averages()}
    total = sum(spent[label] for label in (DATA, UPDATE, LOGGING))
    return {label.removeprefix("hypersiren/"): spent[label] / total for label in (DATA, UPDATE, LOGGING)}
