"""Fit one field to one signal."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hypersiren.errors import UserError
from hypersiren.fields.baselines import baseline, equal_width
from hypersiren.fields.settings import Network
from hypersiren.fields.siren import Params
from hypersiren.tasks.settings import FitSettings
from hypersiren.tasks.task import check_task
from hypersiren.training.loop import optimise_and_load
from hypersiren.training.objectives import FieldObjective
from hypersiren.training.seeds import seeded


@dataclass(frozen=True)
class Fit:
    """A fitted field.

    Attributes:
        field: The field, in evaluation mode.
        metrics: What the task's `evaluate` says of it.
        seconds: Time spent in steps.
        run_dir: Its run folder, or None if none was kept.
        finished: False if Ctrl-C stopped it.
    """

    field: nn.Module
    metrics: dict[str, float]
    seconds: float
    run_dir: Path | None
    finished: bool


def fit(
    task: Any,
    field: nn.Module | None = None,
    *,
    settings: FitSettings | None = None,
    init: Params | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    network: Mapping[str, Any] | None = None,
    progress: bool = False,
    **training: Any,
) -> Fit:
    """Fit a field to a task, ours or your own.

    Args:
        task: What is asked, such as `Image(pixels)`: any object with what `hypersiren.FieldTask` has.
        field: The module to fit, in place; None for the network of the settings.
        settings: Network and optimisation; None for the task's own.
        init: Initial weights, all or some, such as those that a hypernetwork predicted for one signal.
        run_dir: Folder for checkpoints and TensorBoard events; a run that it holds is resumed. None keeps nothing.
        seed: Fixes the batches, and the initial weights of a network that is made here; None for the settings' seed.
        network: Changes of the settings' network, see `hypersiren.fields.settings.Network`.
        progress: Show a progress bar.
        training: Changes of the settings' optimisation, see `hypersiren.tasks.settings.FitTraining`.

    Raises:
        TrainingError: If the loss is not finite, or the folder holds a run with other settings.
        UserError: If the task lacks something, a setting does not exist, or the network has no first omega and the task
            chooses none.
        ValueError: If `init` holds other weights than the field.

    Example:
        >>> from hypersiren import Image, fit
        >>> fit(Image(torch.zeros(8, 8, 1)), steps=200).metrics["psnr"] > 30
        True
    """
    check_task(task)
    used = task.defaults if settings is None else settings
    used = used.replace(
        seed=used.seed if seed is None else seed,
        network=used.network.replace(**(network or {})),
        training=used.training.replace(**training),
    )
    if field is None:
        used = used.replace(network=choose_omega(used.network, task))
        with seeded(used.seed):
            field = baseline(**describe_field(used.network, task)).to(task.device)
    if init is not None:
        set_weights(field, init)
    playback = {"task": task.name, "samples": list(task.samples), **task.playback}
    record = {"settings": used.model_dump(mode="json"), "playback": playback}
    objective = FieldObjective(field, task, used.training.first_lr)
    outcome = optimise_and_load(objective, run_dir, record, used.training, seed=used.seed, progress=progress)
    return Fit(field.requires_grad_(False), **outcome)


def choose_omega(network: Network, task: Any) -> Network:
    """The network with a first omega: where it has none, the task's.

    Raises:
        UserError: If the task has none either.
    """
    if network.first_omega is not None:
        return network
    if task.first_omega is None:
        raise UserError(f"network.first_omega: expected a number, got null; {task.name} does not choose one")
    return network.replace(first_omega=task.first_omega)


def describe_field(network: Network, task: Any) -> dict[str, Any]:
    """The arguments of `fields.baselines.baseline` for a task: a baseline has as many weights as the SIREN."""
    size: dict[str, Any] = {
        "in_features": task.in_features,
        "out_features": task.out_features,
        "hidden_layers": network.hidden_layers,
        "samples": list(task.samples) or [256] * task.in_features,
    }
    width = equal_width(network.kind, hidden_features=network.hidden_features, **size)
    omegas = {"first_omega": network.first_omega, "hidden_omega": network.hidden_omega}
    return {"name": network.kind, **size, "hidden_features": width, **omegas}


@torch.no_grad()
def set_weights(field: nn.Module, params: Params) -> None:
    """Give a field these weights, by name; a leading signal axis of one signal is dropped.

    Raises:
        ValueError: If a name or a shape is not the field's.
    """
    own = dict(field.named_parameters())
    for name, value in params.items():
        if name not in own or value.numel() != own[name].numel() or value.shape[-own[name].ndim :] != own[name].shape:
            expected = tuple(own[name].shape) if name in own else f"one of {', '.join(own)}"
            raise ValueError(f"initial weight {name}: expected {expected}, got {tuple(value.shape)}")
        own[name].copy_(value.view_as(own[name]))
