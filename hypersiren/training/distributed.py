"""Training in several processes, as torchrun starts them: one training, whose batches they share.

    torchrun --nproc-per-node 2 -m hypersiren train --config faces

Each process draws the whole batch of a step, from the same generator as a single one would, and takes its share of the
signals (or points). The loss is a mean over these, so the mean of the shares' gradients is the gradient of the whole
batch: the number of processes changes nothing but the rounding. The first process alone reads, decodes and judges,
writes the run folder and prints. Where torchrun has started no others, every function here does nothing.

All but the gradients goes through the CPU, so that no process waits for its device.
"""

import functools
import logging
import math
import os
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hypersiren.errors import UserError
from hypersiren.tasks.settings import Optimisation
from hypersiren.tasks.task import share_of
from hypersiren.training.display import is_first, processes, rank
from hypersiren.training.objectives import Objective

LOG = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE = timedelta(days=1)
"""So long the other processes wait for what the first does alone. If one ends, torchrun ends the others at once."""

TOLERANCE = 1e-3
"""Relative difference of the mean of the shares' losses from the loss of the whole batch that is taken for rounding."""


def join() -> None:
    """Meet the other processes; nothing the second time.

    Raises:
        UserError: If the group that they are in already takes no tensors on the CPU.
    """
    if processes() == 1:
        return
    if dist.is_initialized():
        if dist.get_backend() == "nccl":
            raise UserError('expected a process group for tensors on the CPU, too: "cpu:gloo,cuda:nccl"')
        return
    gpus = torch.cuda.device_count()
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    if gpus and (local := int(os.environ["LOCAL_RANK"])) < gpus:
        torch.cuda.set_device(local)
    LOG.info("training in %d processes", processes())


def leave() -> None:
    """End what `join` began, where all processes are done."""
    if processes() > 1:
        dist.destroy_process_group()


def own_device(name: str) -> str:
    """The device of this process: "auto" and "cuda" are its own GPU, or the CPU where there is none.

    Raises:
        UserError: If another is named, for all processes, or there are more processes on this machine than GPUs.

    Example:
        >>> own_device("auto"), own_device("cuda:1")
        ('auto', 'cuda:1')
    """
    if processes() == 1:
        return name
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f'device "{name}": expected auto, cpu or cuda, as each of several processes has its own')
    gpus = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not gpus):
        return "cpu"
    if (here := int(os.environ["LOCAL_WORLD_SIZE"])) > gpus:
        raise UserError(f"expected at most as many processes as GPUs on a machine, got {here} processes, {gpus} GPUs")
    return f"cuda:{os.environ['LOCAL_RANK']}"


def on_first(function: Callable[[], Result]) -> Result:
    """What a function returns that the first process alone calls while the others wait; what it raises, all raise.

    Example:
        >>> on_first(lambda: 3)
        3
    """
    if processes() == 1:
        return function()
    outcome: list[Any] = [None, None]
    if is_first():
        try:
            outcome[0] = function()
        except Exception as error:
            first_to_fail()
            dist.broadcast_object_list([None, str(error)])
            raise
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise UserError(outcome[1])
    return outcome[0]


def first_then_others(function: Callable[[], Result]) -> Result:
    """What a function returns that the others call when the first process has: it decodes and caches, they read."""
    kept: list[Result] = []
    on_first(lambda: kept.append(function()))
    return kept[0] if kept else function()


@functools.cache
def first_to_fail() -> bool:
    """Whether this is the process that says why the training failed: the others fail with it, or for want of it."""
    if processes() == 1 or not dist.is_initialized():
        return is_first()
    try:
        return dist.distributed_c10d._get_default_store().add("failed", 1) == 1
    except RuntimeError:  # the process that held the store has failed and is gone
        return False


def share(task: Any, batch: Any) -> Any:
    """What this process takes of a step's batch.

    Raises:
        UserError: If it cannot be shared equally.
    """
    return batch if processes() == 1 else part_of(task, batch, rank(), processes())


def part_of(task: Any, batch: Any, index: int, count: int) -> Any:
    """One of `count` equal parts of a batch, see `SetTask.share` and `FieldTask.share`.

    Raises:
        UserError: If there are no equal parts.
    """
    if count == 1:
        return batch
    if hasattr(batch, "share"):
        return batch.share(index, count)
    if hasattr(task, "share"):  # a task from outside need not have it
        return task.share(batch, index, count)
    return share_of(batch, index, count, len(batch.context.y) if hasattr(batch, "context") else None)


def mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Means over the processes of series on the CPU, by name."""
    if processes() == 1 or not values:
        return dict(values)
    total = torch.cat(list(values.values()))
    dist.all_reduce(total)
    parts = (total / processes()).split([len(series) for series in values.values()])
    return dict(zip(values, parts, strict=True))


def check(task: Any, training: Optimisation, draw: Callable[[], Any]) -> None:
    """Refuse what several processes, or parts, cannot train, before anything takes long.

    Args:
        task, training: What is trained, and how.
        draw: Gives a whole batch.

    Raises:
        UserError: If the optimiser is L-BFGS, or the batch cannot be shared equally.
    """
    if processes() > 1 and training.optimizer == "lbfgs":
        raise UserError(
            "training.optimizer: expected adam or muon, got lbfgs, whose line search is that of one process"
        )
    parts = training.parts or 1
    if processes() * parts > 1:
        part_of(task, share(task, draw()), 0, parts)


def parallel(objective: Objective, forward: Any, draw: Callable[[], Any]) -> Callable[[Any], dict[str, Tensor]]:
    """The objective as the loop calls it: of a share, where gradients become the mean of all processes'.

    Weights become those of the first process.

    Args:
        objective: Gives the loss terms.
        forward: It, or what torch compiled of it.
        draw: Gives a whole batch, to see which parameters have a gradient and whether shares can stand for it.

    Raises:
        UserError: If the loss of the whole batch is not the mean of its shares'.
    """
    if processes() == 1:
        return forward
    batch = draw()
    part = share(objective.task, batch)
    with torch.enable_grad():
        loss = torch.stack(list(objective(part).values())).sum()
        trained = [p for p in objective.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    unused = any(gradient is None for gradient in gradients)
    made = nn.parallel.DistributedDataParallel(forward, find_unused_parameters=unused)
    shares = mean({name: term[None] for name, term in _terms(objective, part).items()})
    on_first(lambda: _compare(objective.task, _terms(objective, batch), shares))
    return made


@torch.no_grad()
def _terms(objective: Objective, batch: Any) -> dict[str, Tensor]:
    try:
        terms = objective(batch)
    except RuntimeError:  # a loss from outside may differentiate by itself
        with torch.enable_grad():
            terms = objective(batch)
    return {name: term.detach().float().cpu() for name, term in terms.items()}


def _compare(task: Any, whole: Mapping[str, Tensor], shares: Mapping[str, Tensor]) -> None:
    for name, value in whole.items():
        one, other = value.item(), shares[name].item()
        if math.isfinite(one) and abs(one - other) > TOLERANCE * max(abs(one), abs(other)):
            raise UserError(
                f"the loss of {task.name} cannot be shared by processes: {name} is {one:.6g} of a whole batch, and "
                f"{other:.6g} the mean of its {processes()} shares; a loss must be a mean over signals or points"
            )


def agreement(event: threading.Event) -> Callable[[], bool]:
    """Whether the event is set in any process: a function that all call together and that tells all the same.

    It tells what was so at its call before, whose answer has come in the meantime, so that nobody waits.

    Example:
        >>> event = threading.Event()
        >>> event.set()
        >>> agreement(event)()
        True
    """
    if processes() == 1:
        return event.is_set
    pending: list[tuple[Tensor, Any]] = []

    def asked() -> bool:
        flag = torch.tensor(float(event.is_set()))
        pending.append((flag, dist.all_reduce(flag, async_op=True)))
        if len(pending) == 1:
            return False
        found, work = pending.pop(0)
        work.wait()
        return found.item() > 0

    return asked
