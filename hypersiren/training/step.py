"""One step of a training.

Everything random in it comes from a generator seeded by (seed, step). Nothing in it waits for the device.
"""

import copy
import logging
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from hypersiren.errors import UserError
from hypersiren.tasks.settings import Optimisation
from hypersiren.training.compiled import compile_forward
from hypersiren.training.distributed import check, on_first, parallel, part_of, share
from hypersiren.training.monitor import Monitor
from hypersiren.training.objectives import Objective
from hypersiren.training.optimizers import closure, learning_rate, make_optimizers
from hypersiren.training.parts import choose_parts
from hypersiren.training.seeds import step_seed

LOG = logging.getLogger(__name__)

DATA, UPDATE, LOGGING = "hypersiren/data", "hypersiren/update", "hypersiren/logging"
"""Labels of the parts of the loop in a profiler's trace."""


class TrainingStep:
    """What the loop does in each step: draw a batch, forward, backward, clip, update, average.

    Args:
        objective: Gives the loss terms of a batch; holds the model and the task.
        training: Optimiser, learning rate and so on.
        seed: Fixes the batches.
        begin: Whether the training is new, see `Objective.begin`.

    Attributes:
        average: The averaged model, which is evaluated and saved; without averaging, the model itself.
        averaged: Those of its weights that are trained.
        optimizers: One or two, by `training.optimizer`.
        graphs: Whether CUDA graphs replay forward and backward pass.
        parts: `training.parts`, or what fits into the device's memory.

    Example:
        >>> from hypersiren import Image, Siren
        >>> from hypersiren.training.objectives import FieldObjective
        >>> objective = FieldObjective(Siren(2, 1, 16), Image(torch.zeros(8, 8, 1)))
        >>> step = TrainingStep(objective, Optimisation(steps=20))
        >>> losses = [step(i, Monitor(None)).item() for i in range(20)]
        >>> losses[-1] < losses[0]
        True
    """

    def __init__(self, objective: Objective, training: Optimisation, seed: int = 0, begin: bool = True):
        model = objective.model
        self.objective, self.task, self.training, self.seed = objective, objective.task, training, seed
        self.closing = training.optimizer == "lbfgs"
        self.generator = torch.Generator(next(model.parameters()).device)
        self.trained: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        if training.steps == 0:  # what is solved needs no optimiser, and no copy
            on_first(lambda: objective.begin() if begin else None)
            self.average, self.averaged, self.optimizers = model, self.trained, []
            return
        if any(weight.is_inference() for weight in self.trained):
            raise UserError("the weights were made in torch.inference_mode(), which makes none that can be trained")
        check(self.task, training, partial(self.draw, 0, 0))
        on_first(lambda: objective.begin() if begin else None)
        free = training.parts is None and not self.closing and training.steps > 0
        self.parts = (
            on_first(partial(choose_parts, objective, partial(self.draw, 0, 0))) if free else training.parts or 1
        )
        decided = training.replace(parts=self.parts)
        forward, self.graphs = compile_forward(objective, decided, partial(self.draw, part=0))
        self.forward = parallel(objective, forward, partial(self.draw, 0, 0))
        self.average = copy.deepcopy(model).eval() if training.ema else model
        self.averaged = [p for p in self.average.parameters() if p.requires_grad]
        if training.ema:
            self.average.requires_grad_(False)
        LOG.debug("preparing the optimiser")
        factors = objective.lr_factors()
        arguments = self.trained, training.optimizer, training.lr, training.weight_decay, factors, objective.tables()
        self.optimizers = make_optimizers(*arguments)

    def draw(self, step: int, part: int) -> Any:
        """One of the batches whose gradients are averaged in a step."""
        drawn = step_seed(self.seed, 0 if self.closing else step, part)
        return self.objective.sample(self.generator.manual_seed(drawn), step / max(1, self.training.steps))

    def batches(self, step: int) -> list[Any]:
        """All of them."""
        return [self.draw(step, part) for part in range(self.training.accumulate)]

    def rate(self, step: int) -> float:
        """The learning rate."""
        return 1.0 if self.closing else learning_rate(step, self.training)

    def __call__(self, step: int, monitor: Monitor) -> Tensor:
        """Make step `step`, counted from 0; the loss of its last part, still on the device."""
        closing, accumulate, pieces = self.closing, self.training.accumulate, self.parts
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        for each in self.optimizers:
            for group in each.param_groups:
                group["lr"] = self.rate(step) * group["factor"]
        for part in range(accumulate):
            with record_function(DATA):
                whole = self.draw(step, part)
                batch = share(self.task, whole)
            with record_function(UPDATE):
                if part == 0 and not closing:
                    self.objective.refit(step, whole)
            for piece in range(pieces):
                with record_function(UPDATE):
                    terms = self.forward(part_of(self.task, batch, piece, pieces))
                    loss = total(terms)
                    (loss / count if (count := accumulate * pieces) > 1 else loss).backward()
                with record_function(LOGGING):
                    monitor.record({"loss/total": loss, **{f"loss/{k}": v for k, v in terms.items()}})
        with record_function(UPDATE):
            norm = self._clip()
            for each in self.optimizers:
                each.step(closure(each, self.forward, batch, loss) if closing else None)  # type: ignore[arg-type]
                each.zero_grad()
            if self.training.ema:
                # The average starts short, so that it forgets the initial weights soon.
                weight = 1 - min(self.training.ema, (1 + step) / (10 + step))
                torch._foreach_lerp_(self.averaged, self.trained, weight)
        with record_function(LOGGING):
            monitor.record({"gradient_norm": norm})
        return loss

    @torch.no_grad()
    def _clip(self) -> Tensor:
        """The norm of the gradient before it is clipped. What is not longer than allowed is not touched on a processor,
        where a pass over millions of gradients costs more than a look at one number."""
        gradients = [p.grad for p in self.trained if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        most = math.inf if self.closing else self.training.clip or math.inf
        if most < math.inf and (norm.device.type != "cpu" or norm > most):
            nn.utils.clip_grads_with_norm_(self.trained, most, norm)
        return norm


def total(terms: dict[str, Tensor]) -> Tensor:
    """The sum of the terms; of one it is the term itself, which spares a GPU four launches."""
    values = list(terms.values())
    return values[0] if len(values) == 1 else torch.stack(values).sum()
