"""Fit one field to one signal: from settings to a task, from a task to a fitted field."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hypersiren import checkpoints, fit_config
from hypersiren.baselines import baseline, equal_width
from hypersiren.errors import UserError
from hypersiren.siren import Params
from hypersiren.tasks import FieldTask
from hypersiren.tasks.audio import Audio
from hypersiren.tasks.edit import Edit
from hypersiren.tasks.helmholtz import Helmholtz
from hypersiren.tasks.image import Image
from hypersiren.tasks.inpaint import Inpaint
from hypersiren.tasks.inversion import Inversion
from hypersiren.tasks.poisson import Poisson
from hypersiren.tasks.sdf import SDF
from hypersiren.tasks.video import Video
from hypersiren.tasks.wave import Wave
from hypersiren.training import FieldObjective, train


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
    task: FieldTask,
    field: nn.Module | None = None,
    *,
    init: Params | None = None,
    run_dir: Path | None = None,
    seed: int = 0,
    network: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = False,
    **training: Any,
) -> Fit:
    """Fit a field to a task.

    Args:
        task: What is asked, e.g. `Image(pixels)`.
        field: What is fitted, in place; None for the network of the task's settings.
        init: Initial weights, all or some, e.g. those that a hypernetwork predicted for one signal.
        run_dir: Folder for checkpoints and TensorBoard events; a run that it holds goes on. None keeps nothing.
        seed: Fixes the initial weights of a network that is made here, and the batches.
        network: Overrides of that network, see `hypersiren.fit_config.Network`.
        settings: What checkpoints shall tell of the run, and what a run that goes on must have in common with it.
        progress: Show a progress bar.
        training: Overrides of the optimisation, see `hypersiren.config.Optimisation`; its defaults are the task's.

    Raises:
        TrainingError: If the loss is not finite, or the folder holds a run with other settings.
        UserError: If the network has no first omega and the task chooses none.
        ValueError: If `init` holds other weights than the field.

    Example:
        >>> fit(Image(torch.zeros(8, 8, 1)), steps=200).metrics["psnr"] > 30
        True
    """
    defaults = fit_config.TASKS[task.name]()
    description: dict[str, Any] = {}
    if field is None:
        made = choose_omega(defaults.network.model_copy(update=dict(network or {})), task)
        description = {"field": describe_field(made, task), "task": task.name, **getattr(task, "playback", {})}
        torch.manual_seed(seed)
        field = baseline(**description["field"]).to(task.device)
    if init is not None:
        set_weights(field, init)
    arguments = {**defaults.training.model_dump(exclude={"points"}), **training}
    first_lr = arguments.pop("first_lr")
    record = {"settings": dict(settings or {}), "model": description}
    with tempfile.TemporaryDirectory() as scratch:
        folder = run_dir or Path(scratch)
        finished = train(
            FieldObjective(field, task, first_lr), folder, record, seed=seed, progress=progress, **arguments
        )
        content = checkpoints.read(checkpoints.find(folder))
    field.load_state_dict(content["ema"])
    return Fit(field.eval().requires_grad_(False), content["metrics"], content["seconds"], run_dir, finished)


def choose_omega(network: fit_config.Network, task: FieldTask) -> fit_config.Network:
    """The network with a first omega: where it has none, the task's.

    Raises:
        UserError: If the task has none either.
    """
    if network.first_omega is not None:
        return network
    omega = getattr(task, "first_omega", None)
    if omega is None:
        raise UserError(f"network.first_omega: expected a number, got null; {task.name} does not choose one")
    return network.model_copy(update={"first_omega": omega})


def describe_field(network: fit_config.Network, task: FieldTask) -> dict[str, Any]:
    """The arguments of `hypersiren.baselines.baseline` for a task: a baseline has as many weights as the SIREN."""
    size: dict[str, Any] = {
        "in_features": task.in_features,
        "out_features": task.out_features,
        "hidden_layers": network.hidden_layers,
        "samples": list(task.samples),
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


def open_task(name: str, settings: fit_config.FitSettings, device: torch.device | str = "cpu") -> FieldTask:
    """The task that settings describe, its signal read.

    Raises:
        UserError: If the signal cannot be read or does not fit the settings.
    """
    sections = [getattr(settings, part).model_dump() for part in ("signal", "loss") if hasattr(settings, part)]
    arguments = {key: value for section in sections for key, value in section.items()}
    return CLASSES[name].open(**arguments, points=settings.training.points, seed=settings.seed, device=device)


CLASSES: dict[str, Any] = {
    "image": Image,
    "inpaint": Inpaint,
    "poisson": Poisson,
    "edit": Edit,
    "audio": Audio,
    "video": Video,
    "sdf": SDF,
    "helmholtz": Helmholtz,
    "wave": Wave,
    "inversion": Inversion,
}
