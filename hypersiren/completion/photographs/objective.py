"""The loss of an `Inpainter` on photographs."""

from typing import Any

import torch
from torch import Tensor, nn

from hypersiren.completion.photographs.settings import PhotographSettings
from hypersiren.completion.photographs.task import Photographs
from hypersiren.hypernets.inpainter import Inpainter
from hypersiren.training.objectives import Objective, named_terms
from hypersiren.training.seeds import seeded


class PhotographObjective(Objective):
    """The task's terms on the means and deviations that a model predicts.

    Args:
        model: Predicts them.
        task: Gives the terms.
        autocast: bfloat16 in the network.
    """

    task: Photographs

    def __init__(self, model: nn.Module, task: Photographs, autocast: bool = False):
        super().__init__()
        self.model, self.task, self.autocast = model, task, autocast

    @classmethod
    def of(cls, task: Photographs, settings: PhotographSettings, device: torch.device | str) -> "PhotographObjective":
        """The objective that settings describe, with a new model."""
        with seeded(settings.seed):
            model = Inpainter(settings.network.widths, settings.network.blocks)
        model = model.to(device).to(memory_format=torch.channels_last)
        return cls(model, task, settings.training.autocast)

    def forward(self, batch: Any) -> dict[str, Tensor]:
        with torch.autocast(batch.y.device.type, torch.bfloat16, enabled=self.autocast):
            return named_terms(self.task, self.task.loss(self.model, batch))

    def calibrate(self, model: nn.Module) -> None:
        self.task.calibrate(model)

    def predictor(self, model: nn.Module) -> nn.Module:
        return model
