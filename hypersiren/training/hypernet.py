"""From settings to the training of a hypernetwork, and from its run folder back to the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from hypersiren.fields.savable import describe
from hypersiren.hypernets.model import HyperSiren, build
from hypersiren.tasks.registry import SETS, SetRow
from hypersiren.tasks.settings import SetSettings
from hypersiren.training import checkpoints
from hypersiren.training.objectives import HypernetObjective
from hypersiren.training.seeds import seeded


def prepare(
    row: SetRow, settings: SetSettings, device: torch.device | str = "cpu"
) -> tuple[HypernetObjective, dict[str, Any]]:
    """What is trained, and its record for checkpoints.

    Raises:
        UserError: If the set of signals cannot be read.
    """
    task = row.load().open(settings, device)
    parts = {name: getattr(settings, name).model_dump() for name in ("siren", "encoder", "hypernet")}
    description = {**parts, **task.describe()}
    with seeded(settings.seed):
        model = build(**description).to(device)
    loss = settings.loss
    objective = HypernetObjective(
        model, task, latent=loss.latent, weights=loss.weights, autocast=settings.training.autocast
    )
    return objective, {"settings": settings.model_dump(mode="json"), "model": describe(model)}


@dataclass(frozen=True)
class SetRun:
    """A run of `hypersiren train`: its task's row, its settings, its model, and the checkpoint that they are from."""

    row: SetRow
    settings: Any
    model: HyperSiren
    checkpoint: Path


def open_run(run: Path, device: torch.device | str = "cpu") -> SetRun:
    """The run in a folder, or of a checkpoint.

    Raises:
        CheckpointError: If there is none, or it is not one of a hypernetwork.
    """
    path = checkpoints.find(run)
    content = checkpoints.read(path)
    model = checkpoints.restore(content, device)
    if not isinstance(model, HyperSiren):
        raise checkpoints.CheckpointError(
            f"{path}: expected a run of `hypersiren train`, got a fitted field; see `hypersiren render`"
        )
    try:
        record = content["record"]["settings"]
        row = next((row for row in SETS.values() if record["data"]["kind"] in row.kinds), SETS["completion"])
        return SetRun(row, row.settings.model_validate(record), model, path)
    except (ValidationError, KeyError, TypeError):
        raise checkpoints.CheckpointError(f"{path}: its settings are not those of this version of hypersiren") from None
