"""The tasks by name: one row each, with its settings, its class and the files that it takes. Imports no torch.

A task from outside the package needs no row: it is given to `hypersiren.fit` as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hypersiren.errors import UserError, did_you_mean
from hypersiren.settings.section import Section
from hypersiren.signals.examples import PHOTOGRAPHS
from hypersiren.tasks.images.settings import EditSettings, ImageSettings, InpaintSettings, PoissonSettings
from hypersiren.tasks.recordings.settings import AudioSettings, VideoSettings
from hypersiren.tasks.settings import FitSettings
from hypersiren.tasks.shapes.settings import SDFSettings
from hypersiren.tasks.volumes.settings import VolumeSettings
from hypersiren.tasks.waves.settings import HelmholtzSettings, InversionSettings, WaveSettings

if TYPE_CHECKING:
    import torch

    from hypersiren.tasks.task import FieldTask


@dataclass(frozen=True)
class Row:
    """One task.

    Attributes:
        settings: What a YAML file or flags may say of it.
        home: Where its class is, as "module:class".
        files: The keys of its section `signal` that the files on the command line stand for.
        examples: What they may be called without being files.
    """

    settings: type[FitSettings]
    home: str
    files: tuple[str, ...] = ("path",)
    examples: tuple[str, ...] = ()

    def load(self) -> Any:
        """The class of the task. Imports torch."""
        module, _, name = self.home.partition(":")
        return getattr(import_module(f"hypersiren.tasks.{module}"), name)


MEDIA = ("uniform", "square", "circle")

TASKS: dict[str, Row] = {
    "image": Row(ImageSettings, "images.image:Image", examples=PHOTOGRAPHS),
    "inpaint": Row(InpaintSettings, "images.inpaint:Inpaint", examples=PHOTOGRAPHS),
    "poisson": Row(PoissonSettings, "images.poisson:Poisson", examples=PHOTOGRAPHS),
    "edit": Row(EditSettings, "images.edit:Edit", ("source", "target"), PHOTOGRAPHS),
    "audio": Row(AudioSettings, "recordings.audio:Audio", examples=("chime",)),
    "video": Row(VideoSettings, "recordings.video:Video", examples=PHOTOGRAPHS),
    "volume": Row(VolumeSettings, "volumes.volume:Volume", examples=("phantom",)),
    "sdf": Row(SDFSettings, "shapes.sdf:SDF", examples=("knot",)),
    "helmholtz": Row(HelmholtzSettings, "waves.helmholtz:Helmholtz", examples=MEDIA),
    "wave": Row(WaveSettings, "waves.wave:Wave", examples=MEDIA),
    "inversion": Row(InversionSettings, "waves.inversion:Inversion", examples=MEDIA),
}
"""The tasks of `hypersiren fit`: one field for one signal."""


def open_task(
    name: str, settings: FitSettings | Mapping[str, Any] | None = None, device: "torch.device | str" = "cpu"
) -> "FieldTask":
    """The task that settings describe, its signal read.

    Args:
        name: One of `TASKS`.
        settings: The task's settings, or those that differ from its defaults, by section.
        device: Where to compute.

    Raises:
        UserError: If the task or a setting is unknown, or the signal cannot be read or does not fit the settings.

    Example:
        >>> open_task("helmholtz", {"signal": {"wavenumber": 8.0, "cells": 64}}).equation.wavenumber
        8.0
    """
    if name not in TASKS:
        raise UserError(f"expected a task of {', '.join(TASKS)}, got {name!r}{did_you_mean(str(name), TASKS)}")
    row = TASKS[name]
    if not isinstance(settings, FitSettings):
        defaults = row.settings()
        sections = list(row.settings.model_fields)
        for key, value in (settings or {}).items():
            if key not in sections:
                hint = did_you_mean(key, sections, f"; expected one of {', '.join(sections)}")
                raise UserError(f'{name}: unknown section "{key}"{hint}')
            if isinstance(getattr(defaults, key), Section) and not isinstance(value, Mapping):
                raise UserError(f'{name}: expected the settings of "{key}" by name, got {value!r}')
        parts = {
            key: getattr(defaults, key).replace(**value) if isinstance(value, Mapping) else value
            for key, value in (settings or {}).items()
        }
        settings = defaults.replace(**parts)
    return row.load().open(settings, device)
