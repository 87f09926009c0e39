"""What is trained on what: modules whose forward gives the loss terms of a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hypersiren.errors import UserError
from hypersiren.fields.operators import Field
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.plotting import figure_pixels
from hypersiren.tasks.panels import ImagePanel, Panel
from hypersiren.tasks.summary import History, draw_summary
from hypersiren.tasks.task import SetTask, Task


class Objective(nn.Module):
    """What is trained on what: a module whose forward gives the loss terms of a batch, so that all of it compiles."""

    model: nn.Module
    task: Task
    validate_first: bool = False
    """Whether the model is worth validating, and keeping, before the first step."""

    def forward(self, batch: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def begin(self) -> None:
        """Called once before the first step of a new run, to take a prior from data for example."""

    def calibrate(self, model: nn.Module) -> None:
        """Called before each evaluation, to choose on validation data what `model` needs; it may be the average."""

    def refit(self, step: int, batch: Any) -> None:
        """Called before each update with the whole batch, to set in closed form what can be."""

    def lr_factors(self) -> dict[Tensor, float]:
        """Parameters that learn at a multiple of the learning rate."""
        return {}

    def predictor(self, model: nn.Module) -> Any:
        """What the task evaluates of `model`, which is this one's or its average."""
        raise NotImplementedError

    def pictures(self, predict: Any, metrics: Mapping[str, float], history: History) -> dict[str, Panel]:
        """What TensorBoard gets beside the task's panels."""
        return {}


class FieldObjective(Objective):
    """The loss of one field on a task.

    Args:
        field: What is fitted.
        task: Gives the terms.
        first_lr: Times the learning rate, for the first layer; None for the field's own, see `Siren.lr_factors`.
    """

    def __init__(self, field: nn.Module, task: Task, first_lr: float | None = None):
        super().__init__()
        self.model, self.task, self.first_lr = field, task, first_lr

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return named_terms(self.task, self.task.loss(self.model, batch))

    def refit(self, step: int, batch: Any) -> None:
        every = getattr(self.task, "refit_every", None)  # a task from outside need not have it
        if every and step % every == 0:
            self.task.refit(self.model, batch)  # type: ignore[attr-defined]

    def lr_factors(self) -> dict[Tensor, float]:
        # A field from outside need not say.
        return self.model.lr_factors(self.first_lr) if hasattr(self.model, "lr_factors") else {}  # type: ignore[operator]

    def predictor(self, model: nn.Module) -> Field:
        return model

    def pictures(self, predict: Any, metrics: Mapping[str, float], history: History) -> dict[str, Panel]:
        """The summary."""
        figure = draw_summary(self.task, predict, metrics, history)
        return {"summary": ImagePanel.of(figure_pixels(figure))}


def named_terms(task: Task, terms: Any) -> dict[str, Tensor]:
    """What a task's `loss` gave, if it is what it should be.

    Raises:
        UserError: If it is not a dictionary.
    """
    if not isinstance(terms, dict):
        raise UserError(
            f'{type(task).__name__}.loss: expected a dictionary of named terms, such as {{"mse": ...}}, '
            f"got a {type(terms).__name__}"
        )
    return terms


class HypernetObjective(Objective):
    """The loss of a hypernetwork on a task: the task's terms on the predicted field, and the paper's two priors.

    Args:
        model: Predicts a field for each context.
        task: Gives the terms.
        latent: Weight of mean(z^2) (authors' code: 0.1).
        weights: Weight of mean(theta^2) over all predicted weights (authors' code: 100).
        likelihood: Weight of the task's `likelihood`.
        autocast: bfloat16 in encoder and hypernetwork; the field, whose phases are tens of radians, stays in float32.
        start: What a new run begins with, such as taking the prior from data.
    """

    model: HyperSiren
    task: SetTask

    def __init__(
        self,
        model: HyperSiren,
        task: SetTask,
        *,
        latent: float = 0.0,
        weights: float = 0.0,
        likelihood: float = 0.0,
        autocast: bool = False,
        start: Callable[[], None] | None = None,
    ):
        super().__init__()
        self.model, self.task, self.start = model, task, start
        self.latent, self.weights, self.likelihood, self.autocast = latent, weights, likelihood, autocast
        self.validate_first = model.adapter is not None  # it may start at a prior from data

    def forward(self, batch: Any) -> dict[str, Tensor]:
        with torch.autocast(batch.context.y.device.type, torch.bfloat16, enabled=self.autocast):
            found = self.model.predict(batch.context)
        params = found.params
        terms = dict(named_terms(self.task, self.task.loss(found.field, batch)))
        if self.latent and found.z is not None:
            terms["latent_prior"] = self.latent * found.z.float().square().mean()
        if self.weights:
            squares = torch.stack([p.square().sum() for p in params.values()]).sum()
            terms["weight_prior"] = self.weights * squares / sum(p.numel() for p in params.values())
        if self.likelihood:
            terms["likelihood"] = self.likelihood * self.task.likelihood(found, batch)
        return terms

    def begin(self) -> None:
        if self.start is not None:
            self.start()

    def calibrate(self, model: nn.Module) -> None:
        assert isinstance(model, HyperSiren)
        if hasattr(self.task, "held_out"):  # a task from outside need not have it
            model.calibrate(self.task.held_out())

    def lr_factors(self) -> dict[Tensor, float]:
        return self.model.lr_factors()

    def predictor(self, model: nn.Module) -> Callable[[Context], Field]:
        """The field that `model` predicts from a context."""
        assert isinstance(model, HyperSiren)
        return model.field
