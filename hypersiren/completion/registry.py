"""The tasks on sets of signals by name: one row each, with its settings, its class and its study. Imports no torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from hypersiren.completion.images.settings import CompletionSettings
from hypersiren.completion.photographs.settings import PhotographSettings
from hypersiren.completion.settings import SetSettings
from hypersiren.completion.shapes.settings import ShapeSettings
from hypersiren.completion.sounds.settings import SoundSettings
from hypersiren.errors import UserError, clear_line, did_you_mean
from hypersiren.shapes.sets.settings import SHAPE_KINDS
from hypersiren.signals.sets.settings import IMAGE_KINDS, SOUND_KINDS, TORCHVISION


@dataclass(frozen=True)
class SetRow:
    """One task on sets of signals.

    Attributes:
        settings: What a YAML file or flags may say of it.
        home: The folder of `hypersiren.completion` that it is in, and its class, as "folder:class".
        unit: What its signals are called.
        kinds: Values of data.kind by which it is chosen.
    """

    settings: type[SetSettings] | type[PhotographSettings]
    home: str
    unit: str
    kinds: tuple[str, ...]

    def load(self) -> Any:
        """The class of the task. Imports torch."""
        folder, _, name = self.home.partition(":")
        return getattr(import_module(f"hypersiren.completion.{folder}.task"), name)

    def load_study(self) -> Any:
        """The module that evaluates and uses its trained models. Imports torch."""
        return import_module(f"hypersiren.completion.{self.home.partition(':')[0]}.study")


SETS: dict[str, SetRow] = {
    "completion": SetRow(CompletionSettings, "images:Completion", "images", (*IMAGE_KINDS, "CelebA")),
    "shapes": SetRow(ShapeSettings, "shapes:Shapes", "shapes", SHAPE_KINDS),
    "sounds": SetRow(SoundSettings, "sounds:SoundCompletion", "sounds", SOUND_KINDS),
    "photographs": SetRow(PhotographSettings, "photographs:Photographs", "photographs", ("photographs",)),
}
"""The tasks of `hypersiren train`: a hypernetwork for a set of signals; data.kind chooses."""


def set_row(kind: object = None) -> SetRow:
    """The task on sets that a value of data.kind chooses; images where there is none.

    Raises:
        UserError: If no task has this kind.

    Example:
        >>> set_row("solids").unit, set_row("faces").unit
        ('shapes', 'images')
        >>> set_row("soldis")
        Traceback (most recent call last):
        ...
        hypersiren.errors.UserError: data.kind: expected one of faces, ... got "soldis"; did you mean "solids"?
    """
    rows = [row for row in SETS.values() if kind is None or kind in row.kinds]
    if not rows:
        kinds = [kind for row in SETS.values() for kind in row.kinds]
        own = ", ".join(kind for kind in kinds if kind not in (*TORCHVISION, "CelebA"))
        near = did_you_mean(str(kind), kinds)
        message = f"data.kind: expected one of {own} or a set of torchvision such as CIFAR10, got"
        raise UserError(f'{message} "{clear_line(str(kind))}"{near}')
    return rows[0]
