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

if TYPE_CHECKING:
    import torch

    from hypersiren.tasks.settings import FitSettings
    from hypersiren.tasks.task import FieldTask


@dataclass(frozen=True)
class Row:
    """One task.

    Attributes:
        home: Where its class is, as "module:class".
        sections: Where its settings are, likewise.
        files: The keys of its section `signal` that the files on the command line stand for.
        examples: What they may be called without being files.
    """

    home: str
    sections: str
    files: tuple[str, ...] = ("path",)
    examples: tuple[str, ...] = ()

    @property
    def settings(self) -> "type[FitSettings]":
        """What a YAML file or flags may say of it. Those of all tasks take a tenth of a second to import."""
        return _named(self.sections)

    def load(self) -> Any:
        """The class of the task. Imports torch."""
        return _named(self.home)


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"hypersiren.tasks.{module}"), name)


MEDIA = ("uniform", "square", "circle")

TASKS: dict[str, Row] = {
    "image": Row("images.image:Image", "images.settings:ImageSettings", examples=PHOTOGRAPHS),
    "inpaint": Row("images.inpaint:Inpaint", "images.settings:InpaintSettings", examples=PHOTOGRAPHS),
    "poisson": Row("images.poisson:Poisson", "images.settings:PoissonSettings", examples=PHOTOGRAPHS),
    "edit": Row("images.edit:Edit", "images.settings:EditSettings", ("source", "target"), PHOTOGRAPHS),
    "audio": Row("recordings.audio:Audio", "recordings.settings:AudioSettings", examples=("chime",)),
    "video": Row("recordings.video:Video", "recordings.settings:VideoSettings", examples=PHOTOGRAPHS),
    "volume": Row("volumes.volume:Volume", "volumes.settings:VolumeSettings", examples=("phantom",)),
    "sdf": Row("shapes.sdf:SDF", "shapes.settings:SDFSettings", examples=("knot",)),
    "helmholtz": Row("waves.helmholtz:Helmholtz", "waves.settings:HelmholtzSettings", examples=MEDIA),
    "wave": Row("waves.wave:Wave", "waves.settings:WaveSettings", examples=MEDIA),
    "inversion": Row("waves.inversion:Inversion", "waves.settings:InversionSettings", examples=MEDIA),
}
"""The tasks of `hypersiren fit`: one field for one signal."""


def open_task(
    name: str, settings: "FitSettings | Mapping[str, Any] | None" = None, device: "torch.device | str" = "cpu"
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
    from hypersiren.tasks.settings import FitSettings

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
