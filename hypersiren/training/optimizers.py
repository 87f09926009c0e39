"""Optimisers and the course of the learning rate, by the names that settings have for them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from hypersiren.tasks.settings import Optimisation
from hypersiren.training.muon import Muon
from hypersiren.training.plain import LBFGS, AdamW

LEAST = 1 / 150
"""Share of the learning rate with which exponential decay ends."""

THIN = 16
"""Rows or columns below which a matrix is Adam's."""


def learning_rate(step: int, training: Optimisation) -> float:
    """The learning rate of a step: a linear rise over `warmup` steps, then its decay.

    Example:
        >>> training = Optimisation(steps=12, lr=1.0, warmup=2, decay="cosine")
        >>> [round(learning_rate(step, training), 2) for step in (0, 1, 2, 7, 11)]
        [0.5, 1.0, 1.0, 0.5, 0.02]
    """
    lr, warmup = training.lr, training.warmup
    if step < warmup:
        return lr * (step + 1) / warmup
    if training.decay == "constant":
        return lr
    done = (step - warmup) / max(1, training.steps - warmup)
    if training.decay == "exponential":
        return lr * LEAST**done
    return lr * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizers(
    parameters: Sequence[Tensor],
    kind: Literal["adam", "muon", "lbfgs"],
    lr: float,
    weight_decay: float,
    factors: Mapping[Tensor, float] | None = None,
    tables: Sequence[Tensor] = (),
) -> list[torch.optim.Optimizer]:
    """Adam for all parameters, Muon (Jordan et al. 2024) for the matrices and Adam for the others, or L-BFGS.

    Thin matrices, with fewer than `THIN` rows or columns, are left to Adam: a network's first and last as a rule. Muon
    would move all their few directions alike, by as many operations as it takes for all large ones together.

    `tables` have two axes but are no matrices, such as a row of numbers for each window: they are Adam's.

    Muon's updates are scaled to the size of Adam's, so that one learning rate serves both (Liu et al. 2025). A group's
    `factor` multiplies it. L-BFGS finds its own steps: it makes one iteration a step, with a strong Wolfe line search.
    """
    if kind == "lbfgs":
        lbfgs = LBFGS(parameters, max_iter=1, history_size=50, line_search_fn="strong_wolfe")
        lbfgs.param_groups[0]["factor"] = 1.0
        return [lbfgs]

    no_matrix = {id(p) for p in tables}
    could = [p for p in parameters if kind == "muon" and p.ndim == 2 and id(p) not in no_matrix]
    matrices = [p for p in could if min(p.shape) >= THIN]
    taken = {id(p) for p in matrices}
    others = [p for p in parameters if id(p) not in taken]

    def groups(members: list[Tensor]) -> list[dict[str, Any]]:
        found: dict[float, list[Tensor]] = {}
        for p in members:
            found.setdefault((factors or {}).get(p, 1.0), []).append(p)
        return [{"params": params, "factor": factor} for factor, params in found.items()]

    made: list[torch.optim.Optimizer] = []
    if matrices:
        made.append(Muon(groups(matrices), lr, weight_decay))
    if others:
        fused = others[0].device.type in ("cpu", "cuda")
        made.append(AdamW(groups(others), lr, weight_decay=weight_decay, fused=fused))
    return made


def closure(
    optimizer: torch.optim.Optimizer, forward: Callable[[Any], dict[str, Tensor]], batch: Any, loss: Tensor
) -> Callable[[], Tensor]:
    """What L-BFGS asks for the loss and its gradient: the first time they are known already."""
    known = [loss.detach()]

    def evaluate() -> Tensor:
        if known:
            return known.pop()
        with torch.enable_grad():
            optimizer.zero_grad()
            found = torch.stack(list(forward(batch).values())).sum()
            found.backward()
        return found.detach()

    return evaluate
