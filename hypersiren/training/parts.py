"""In how many parts a batch is computed, where the settings leave that to the memory of the device."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.training.distributed import part_of, share
from hypersiren.training.objectives import Objective

LOG = logging.getLogger(__name__)

SHARE = 0.4
"""Of the free memory, for what a forward pass keeps for the backward pass, which takes some of its own."""

MOST = 256
"""Parts at most."""


def choose_parts(objective: Objective, draw: Callable[[], Any]) -> int:
    """The fewest parts of a batch that fit into the free memory of the GPU; 1 on a CPU.

    A forward pass of the smallest part tells how much memory the whole batch would take.

    Args:
        objective: What is trained.
        draw: Gives a whole batch.
    """
    device = next(objective.model.parameters()).device
    if device.type != "cuda":
        return 1
    batch = share(objective.task, draw())
    counts = [count for count in range(1, MOST + 1) if _divides(objective.task, batch, count)]
    if len(counts) == 1:
        return 1
    need = counts[-1] * _kept(objective, part_of(objective.task, batch, 0, counts[-1]), device)
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    parts = next((count for count in counts if need <= SHARE * free * count), counts[-1])
    LOG.debug("a batch keeps about %.3g GB of %.3g GB: %d parts", need / 1e9, free / 1e9, parts)
    return parts


def _divides(task: Any, batch: Any, count: int) -> bool:
    try:
        part_of(task, batch, 0, count)
    except UserError:
        return False
    return True


def _kept(objective: Objective, part: Any, device: torch.device) -> int:
    """Bytes that a forward pass keeps for the backward pass; in evaluation mode, so that the model stays as it is."""
    training = objective.model.training
    objective.model.eval()
    try:
        objective(part)  # the first pass gets the libraries' own memory, too
        before = torch.cuda.memory_allocated(device)
        terms: dict[str, Tensor] = objective(part)
        return max(0, torch.cuda.memory_allocated(device) - before) if terms else 0
    finally:
        objective.model.train(training)
