"""The training of a correction on a set of signals, and what it earns beside the prior alone.

A bank makes it some fifty times as fast as predictions would, with the same loss but for rounding: one of masks where
the signals lie on one raster and the last layer is solved under one Gaussian, see `hypersiren.hypernets.adapters.bank`;
one of pairs of a signal and its context for mixtures, sounds and shapes, see `hypersiren.hypernets.adapters.pairs`. On
a task from outside that has neither it is trained as any hypernetwork, through `predict` and the task's own loss.
"""

import logging
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from hypersiren.completion.base import CaseTask
from hypersiren.fields.coords import grid
from hypersiren.hypernets.adapters.bank import Bank, BankBatch
from hypersiren.hypernets.adapters.bayesian import BayesianLastLayer
from hypersiren.hypernets.adapters.correction import Correction
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.adapters.masks import draw_mask
from hypersiren.hypernets.adapters.metric import learn_metric
from hypersiren.hypernets.adapters.pairs import PairBank, Pairs
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.training.seeds import host_generator

LOG = logging.getLogger(__name__)

EACH = 16
"""Signals of a batch that are seen through one mask."""

SIGNALS = 64
"""Signals that are solved through one mask of a bank of pairs."""

CENTRES, PAIRS = 2048, 40000
"""Of the regressions that find the metric."""

CALIBRATED, CALIBRATED_MIXED = 256, 64
"""Validation signals that amplitudes and intervals are chosen on, where a system of each is not too large; and under a
mixture, which solves as many systems for each as it has priors."""


@runtime_checkable
class RasterTask(Protocol):
    """A task whose signals all lie on one raster.

    Attributes:
        train: The signals, with a length.
        size: The raster.
        batch_size: B.
        fewest, most: Known points of a signal, where they are random.
        blocks: Share of the contexts that are sides or blocks.
    """

    train: Any
    size: tuple[int, ...]
    batch_size: int
    fewest: int
    most: int
    blocks: float

    def draw(self, generator: Generator, count: int, jitter: float = 0.0) -> Float[Tensor, "B P C"]:
        """Values of training signals on the raster, in the units of the fields.

        Args:
            generator: Draws.
            count: B.
            jitter: How much brightness and contrast change, where signals have them.
        """


def correction_of(model: nn.Module) -> Correction | None:
    """The correction of a model's adapter, if it has one."""
    adapter = getattr(model, "adapter", None)
    return adapter.correction if isinstance(adapter, BayesianLastLayer) else None


@runtime_checkable
class PairTask(Protocol):
    """A task whose signals are seen through contexts of their own kind, or not on one raster.

    Attributes:
        train: The signals, with a length.
        raster: On which the errors of a correction are taken.
        batch_size: B.
    """

    train: Any
    raster: tuple[int, ...]
    batch_size: int

    def pairs(self, generator: Generator, count: int) -> Pairs:
        """Training signals with their contexts: `count` that share one, or as many as are best solved together."""


class CorrectionTraining:
    """Batches and the loss of a correction that a bank trains.

    Args:
        model: Has the adapter with the correction.
        task: Gives the signals.
    """

    def __init__(self, model: HyperSiren, task: Any):
        adapter, correction = model.adapter, correction_of(model)
        assert isinstance(adapter, BayesianLastLayer)
        assert correction is not None
        self.model, self.task, self.solve, self.correction = model, task, adapter, correction
        self._bank: Bank | PairBank | None = None
        self._made_of: tuple[int, ...] = ()

    @staticmethod
    def fits(model: HyperSiren, task: Any) -> bool:
        """Whether a bank can train this model on this task."""
        given = correction_of(model) is not None and model.encoder is None
        return given and isinstance(task, RasterTask | PairTask)

    @property
    def bank(self) -> Bank | PairBank:
        """Of the prior as it is: another process, or a checkpoint, may have brought it."""
        parts = [self.solve.factor, *self.model.siren.parameters()]
        now = tuple(part._version for part in parts)
        if self._bank is None or now != self._made_of:
            self._bank, self._made_of = self._make(), now
        return self._bank

    def _make(self) -> Bank | PairBank:
        task, correction, siren = self.task, self.correction, self.model.siren
        # Else there is no prior yet, and nothing to learn.
        count = correction.masks if correction.length.any() else 1
        LOG.info("solving %d training contexts", count)
        if isinstance(task, PairTask):
            return PairBank(siren, self.solve, task.raster, partial(task.pairs, count=SIGNALS), count=count)
        sizes = {"fewest": task.fewest, "most": min(task.most, max(1, int(0.6 * prod(task.size))))}
        if isinstance(self.solve, LastLayerSolve):
            return Bank(siren, self.solve, tuple(task.size), **sizes, regular=task.blocks, count=count)
        draw = partial(raster_pairs, task, regular=task.blocks, jitter=correction.jitter, **sizes)
        return PairBank(siren, self.solve, tuple(task.size), draw, count=count)

    def begin(self) -> None:
        """Learn the metric of the inputs, from the prior and training signals."""
        correction = self.correction
        if not correction.rounds or not correction.length.any():
            return
        bank = self.bank
        LOG.info("learning which inputs tell what the prior leaves")
        generator = torch.Generator(self.solve.factor.device).manual_seed(0)

        def pairs(count: int) -> tuple[Tensor, Tensor, Tensor]:
            return bank.examples(correction, self._batch(generator, count))

        few = len(self.task.train)
        size = {"centres": min(CENTRES, 8 * few), "pairs": min(PAIRS, 64 * few)}  # few signals tell no more
        correction.metric.copy_(learn_metric(pairs, correction.metric, rounds=correction.rounds, **size))

    @property
    def calibrated(self) -> int:
        """Validation signals that amplitudes and intervals are chosen on at most."""
        return CALIBRATED if isinstance(self.solve, LastLayerSolve) else CALIBRATED_MIXED

    def sample(self, generator: Generator) -> BankBatch:
        """The batch of a step."""
        return self._batch(generator, self.task.batch_size)

    def _batch(self, generator: Generator, count: int) -> BankBatch:
        bank, each = self.bank, EACH
        if isinstance(bank, PairBank):
            host, each = host_generator(generator), min(EACH, bank.each)
            y = torch.randint(bank.each, (count,), generator=host)
        else:
            y = self.task.draw(generator, count, self.correction.jitter)
            host = host_generator(generator)  # after that, so as not to begin as what it drew
        masks = torch.randint(len(bank), (-(-count // each),), generator=host)
        seed = int(torch.randint(2**31, (), generator=host))
        return BankBatch(y, masks.repeat_interleave(each)[:count], seed)

    def loss(self, batch: BankBatch, autocast: bool) -> Tensor:
        """That of the bank."""
        return self.bank.loss(self.correction, batch, autocast)


def raster_pairs(
    task: RasterTask, generator: Generator, *, fewest: int, most: int, regular: float, jitter: float
) -> Pairs:
    """Training signals of a raster that are known at the points of one mask, for a bank of pairs."""
    y = task.draw(generator, SIGNALS, jitter)
    host = host_generator(generator)
    cells = draw_mask(tuple(task.size), fewest, most, regular, host).flatten().nonzero().flatten().to(y.device)
    x = grid(tuple(task.size), device=y.device, dtype=y.dtype)[cells].expand(len(y), -1, -1)
    known = torch.ones(x.shape[:2], dtype=torch.bool, device=y.device)
    places = cells.expand(len(y), -1)
    context = Context(x, y[:, cells], known, tuple(task.size), places, shared_points=True)
    return Pairs(context, y, torch.ones_like(y[:, 0, 0]))


class Judge:
    """The errors of a model with a correction beside those of its prior alone, on the validation signals of a task."""

    criterion = "change"

    def __init__(self, task: CaseTask):
        self.task = task
        self._before: dict[str, float] | None = None

    def __call__(self, model: HyperSiren) -> dict[str, float]:
        """The task's errors; and by how much they differ from the prior's, as a share of these, for each context that
        leaves points unknown, and on average: below 0 the correction earns something."""
        if self._before is None:  # the prior is the same in every validation
            adapter = model.adapter
            assert isinstance(adapter, BayesianLastLayer)
            with adapter.without_correction():
                self._before = self.task.evaluate(model.field)
        errors = self.task.evaluate(model.field)
        changes = {}
        for name in self.task.contexts:
            label, key = self.task.label(name), f"mse_{self.task.label(name)}"
            if name != self.task.whole and self._before[key] > 0:
                changes[f"change_{label}"] = errors[key] / self._before[key] - 1
        mean = sum(changes.values()) / len(changes) if changes else 0.0
        return {self.criterion: mean, **errors, **changes}


def judge_of(model: nn.Module, task: Any) -> Callable[[HyperSiren], dict[str, float]] | None:
    """A `Judge`, where there is a correction and completions are compared with the truth point by point."""
    return Judge(task) if correction_of(model) is not None and isinstance(task, CaseTask) else None
