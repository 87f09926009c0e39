"""What is trained on what: modules whose forward gives the loss terms of a batch."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Generator, Tensor, nn

from hypersiren.errors import UserError
from hypersiren.fields.operators import Field
from hypersiren.tasks.later import draw as draw_here
from hypersiren.tasks.panels import ImagePanel, Panel
from hypersiren.tasks.summary import History, summary_plots, summary_title
from hypersiren.tasks.task import Task
from hypersiren.training.memory import return_freed_memory

LOG = logging.getLogger(__name__)


class Objective(nn.Module):
    """What is trained on what: a module whose forward gives the loss terms of a batch, so that all of it compiles."""

    model: nn.Module
    task: Task
    validate_first: bool = False
    """Whether the model is worth validating, and keeping, before the first step."""
    seconds: float = 0.0
    """Time that was spent on the model before the first step."""
    folder: Path | None = None
    """The run folder, for what is computed once and kept for a run that is resumed."""
    facts: Mapping[str, float] = {}
    """What stands beside the numbers of each validation, such as how many numbers the field has."""

    def forward(self, batch: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    @property
    def criterion(self) -> str | None:
        """The number of `judge` of which the lowest is the best; None: the last model is."""
        return self.task.criterion

    def sample(self, generator: Generator, progress: float) -> Any:
        """The batch of a step."""
        return self.task.sample(generator, progress)

    def judge(self, model: nn.Module) -> dict[str, Any]:
        """What the task says of `model`, which is this one's or its average."""
        return self.task.evaluate(self.predictor(model))

    def begin(self) -> None:
        """Called once before the first step of a new run, to take a prior from data for example."""

    def calibrate(self, model: nn.Module) -> None:
        """Called before each evaluation, to choose on validation data what `model` needs; it may be the average."""

    def refit(self, step: int, batch: Any) -> None:
        """Called before each update with the whole batch, to set in closed form what can be."""

    def lr_factors(self) -> dict[Tensor, float]:
        """Parameters that learn at a multiple of the learning rate."""
        return {}

    def tables(self) -> list[Tensor]:
        """Parameters of two axes that are no matrices."""
        return []

    def predictor(self, model: nn.Module) -> Any:
        """What the task evaluates of `model`, which is this one's or its average."""
        raise NotImplementedError

    def pictures(self, predict: Any, metrics: Mapping[str, float], history: History) -> dict[str, Panel]:
        """What TensorBoard gets beside the task's panels."""
        return {}


def numbers_per_value(field: nn.Module, task: Any) -> float | None:
    """How many numbers a windowed field has for each value of the signal; None for a field without windows."""
    if (numbers := getattr(field, "numbers", None)) is None:
        return None
    values = getattr(task, "value_count", None) or math.prod(task.samples) * task.out_features
    return numbers / values


class FieldObjective(Objective):
    """The loss of one field on a task.

    Args:
        field: What is fitted.
        task: Gives the terms.
        first_lr: Times the learning rate, for the first layer; None for the field's own, see `Siren.lr_factors`.
        seconds: Time that was spent before the first step, such as on a solve in closed form.
    """

    def __init__(self, field: nn.Module, task: Task, first_lr: float | None = None, seconds: float = 0.0):
        super().__init__()
        self.model, self.task, self.first_lr, self.seconds = field, task, first_lr, seconds
        self.validate_first = seconds > 0
        self._drawn: tuple[tuple[str, int], ImagePanel] | None = None
        if (share := numbers_per_value(field, task)) is not None:
            self.facts = {"numbers_per_value": share}

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return named_terms(self.task, self.task.loss(self.model, batch))

    def refit(self, step: int, batch: Any) -> None:
        every = getattr(self.task, "refit_every", None)  # a task from outside need not have it
        if every and step % every == 0:
            self.task.refit(self.model, batch)  # type: ignore[attr-defined]

    def lr_factors(self) -> dict[Tensor, float]:
        # A field from outside need not say.
        return self.model.lr_factors(self.first_lr) if hasattr(self.model, "lr_factors") else {}  # type: ignore[operator]

    def tables(self) -> list[Tensor]:
        return self.model.tables() if hasattr(self.model, "tables") else []  # type: ignore[operator]

    def predictor(self, model: nn.Module) -> Field:
        return model

    def pictures(self, predict: Any, metrics: Mapping[str, float], history: History) -> dict[str, Panel]:
        """The summary."""
        return {"summary": self.summary(predict, metrics, history)}

    def summary(self, field: Any, metrics: Mapping[str, float], history: History) -> ImagePanel:
        """The picture of a summary; drawing takes half a second, so the last one is kept.

        Args:
            field, metrics, history: As in `hypersiren.tasks.summary.draw_summary`. The title tells fields apart: it has
                the step and the headline number.
        """
        key = summary_title(self.task, metrics, history), len(history)
        if self._drawn is None or self._drawn[0] != key:
            draw = later.draw if (later := getattr(self.task, "later", None)) else draw_here
            self._drawn = key, ImagePanel.of(draw(*summary_plots(self.task, field, metrics, history)))
        return self._drawn[1]

    def write_summary(self, folder: Path, field: Any, metrics: Mapping[str, float], history: History) -> None:
        """Write summary.png into a run folder; the other arguments are those of `summary`."""
        LOG.info("drawing %s", folder / "summary.png")
        return_freed_memory()
        self.summary(field, metrics, history).write(folder, "summary")


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
