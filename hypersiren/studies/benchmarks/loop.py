"""The training loop's shares of time."""

import tempfile
from pathlib import Path

import torch

from hypersiren.completion.objective import HypernetObjective
from hypersiren.tasks.settings import Optimisation
from hypersiren.training.loop import optimise
from hypersiren.training.step import DATA, LOGGING, UPDATE


def loop_shares(objective: HypernetObjective, training: Optimisation) -> dict[str, float]:
    """How the training loop spends its time, by the profiler: shares of data, update and logging.

    Validation and checkpoints are left out. The profiler's own cost falls heaviest on the many small operations of the
    data, so that its share is an upper bound. On a GPU these are the shares of the process that feeds it.

    Args:
        objective: What is trained.
        training: Steps, optimiser and so on.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        optimise(objective, Path(folder), {"settings": {}, "model": {}}, training)
    spent = {event.key: event.cpu_time_total for event in profile.key_averages()}
    total = sum(spent[label] for label in (DATA, UPDATE, LOGGING))
    return {label.removeprefix("hypersiren/"): spent[label] / total for label in (DATA, UPDATE, LOGGING)}
