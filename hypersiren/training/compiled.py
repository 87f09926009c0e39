"""The forward pass as the loop calls it: as it is, compiled, or compiled and replayed as CUDA graphs.

A graph is launched at once, where the host else launches each kernel for itself. What is captured are the loss terms
and their gradients (`training.compile: graphs`, which is torch's mode "reduce-overhead"). The drawing of a batch,
Poisson's refit, clipping, optimiser and averaging stay outside: they change the weights where they lie, and the
learning rate is no part of a graph. What a graph returns is overwritten by its next replay, so `Monitor.record` copies.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch

from hypersiren.tasks.settings import Optimisation
from hypersiren.training.display import processes
from hypersiren.training.objectives import Objective
from hypersiren.training.run import tensors_in

LOG = logging.getLogger(__name__)


def compile_forward(objective: Objective, training: Optimisation, draw: Callable[[int], Any]) -> tuple[Any, bool]:
    """The objective as `training.compile` wants it, and whether CUDA graphs replay it.

    Where they cannot, it is compiled without them, and one line says why.

    Args:
        objective: Gives the loss terms.
        training: Its `compile` is false, true or "graphs".
        draw: Gives the batch of a step.

    Example:
        >>> from hypersiren import Image, Siren
        >>> from hypersiren.training.objectives import FieldObjective
        >>> objective = FieldObjective(Siren(2, 1, 16), Image(torch.zeros(8, 8, 1)))
        >>> forward, graphs = compile_forward(objective, Optimisation(compile=False), lambda step: None)
        >>> forward is objective, graphs
        (True, False)
    """
    if training.compile != "graphs":
        return (torch.compile(objective) if training.compile else objective), False
    if reason := reason_against_graphs(objective, training, draw):
        LOG.info("no CUDA graphs, compiled without them: %s", reason)
        return torch.compile(objective), False
    return torch.compile(objective, mode="reduce-overhead"), True


def reason_against_graphs(
    objective: Objective, training: Optimisation, draw: Callable[[int], Any], device: str | None = None
) -> str:
    """Why a training cannot replay CUDA graphs; nothing if it can.

    Args:
        objective, training, draw: As of `compile_forward`.
        device: Type of the device; None for the model's.
    """
    device = device or next(objective.model.parameters()).device.type
    if device != "cuda":
        return f"they need a CUDA device, got {device}"
    if processes() > 1:
        return f"they need one process, got {processes()}, which exchange gradients during the backward pass"
    if training.optimizer == "lbfgs":
        return "the line search of lbfgs computes the loss a varying number of times in a step"
    if (count := training.accumulate * (training.parts or 1)) > 1:
        return f"they need one backward pass in a step, got {count} (training.accumulate times training.parts)"
    first, last = ([tensor.shape for tensor in tensors_in(draw(step))] for step in (0, training.steps - 1))
    return "" if first == last else "the shapes of the batches vary"
