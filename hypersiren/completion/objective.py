"""The loss of a hypernetwork on a task: a module whose forward gives the loss terms of a batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from hypersiren.completion.base import CaseTask, SetTask
from hypersiren.completion.correcting import CorrectionTraining, judge_of
from hypersiren.fields.operators import Field
from hypersiren.hypernets.adapters.bank import BankBatch
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.training.objectives import Objective, named_terms


class HypernetObjective(Objective):
    """The loss of a hypernetwork on a task: the task's terms on the predicted field, and the paper's two priors.

    Of a correction that a bank of masks can train it is that bank's loss, see `hypersiren.completion.correcting`.

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
        self.banked = CorrectionTraining(model, task) if CorrectionTraining.fits(model, task) else None
        self._judge = judge_of(model, task)

    @property
    def criterion(self) -> str | None:
        return self.task.criterion if self._judge is None else "change"

    def sample(self, generator: Generator, progress: float) -> Any:
        return self.task.sample(generator, progress) if self.banked is None else self.banked.sample(generator)

    def forward(self, batch: Any) -> dict[str, Tensor]:
        if isinstance(batch, BankBatch):
            assert self.banked is not None
            return {"mse": self.banked.loss(batch, self.autocast)}
        # Where it is emulated, too: in float32 the paper's models take twice the memory and more.
        with torch.autocast(batch.context.y.device.type, torch.bfloat16, enabled=self.autocast):
            prediction = self.model.predict(batch.context)
        params = prediction.params
        terms = dict(named_terms(self.task, self.task.loss(prediction.field, batch)))
        if self.latent and prediction.z is not None:
            terms["latent_prior"] = self.latent * prediction.z.float().square().mean()
        if self.weights:
            squares = torch.stack([p.square().sum() for p in params.values()]).sum()
            terms["weight_prior"] = self.weights * squares / sum(p.numel() for p in params.values())
        if self.likelihood:
            terms["likelihood"] = self.likelihood * self.task.likelihood(prediction, batch)
        return terms

    def begin(self) -> None:
        if self.start is not None:
            self.start()
        if self.banked is not None:
            self.banked.begin()

    def judge(self, model: nn.Module) -> dict[str, Any]:
        if self._judge is None:
            return super().judge(model)
        assert isinstance(model, HyperSiren)
        return self._judge(model)

    def calibrate(self, model: nn.Module) -> None:
        assert isinstance(model, HyperSiren)
        if self.banked is not None and isinstance(self.task, CaseTask):
            model.calibrate(self.task.held_out(self.banked.calibrated))
        elif hasattr(self.task, "held_out"):  # a task from outside need not have it
            model.calibrate(self.task.held_out())

    def lr_factors(self) -> dict[Tensor, float]:
        return self.model.lr_factors()

    def predictor(self, model: nn.Module) -> Callable[[Context], Field]:
        """The field that `model` predicts from a context."""
        assert isinstance(model, HyperSiren)
        return model.field
