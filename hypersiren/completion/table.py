"""The completion table: a model beside the baselines on test signals, for each context, written once for all kinds.

Errors are those of `CaseTask.error`, the mean over signals.
"""

import copy
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.completion.base import Case, CaseTask
from hypersiren.completion.prediction import completion, predict_whole, refining
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.gaussian.calibration import NINETY, ROUNDING
from hypersiren.hypernets.model import HyperSiren

LOG = logging.getLogger(__name__)

OURS, REFINED, PRIOR = "hypersiren", "refined", "prior alone"

Rows = Mapping[str, Mapping[str, float]]
"""Method -> context -> number."""


@dataclass(frozen=True)
class Block:
    """One block of the table.

    Attributes:
        title: Its first line.
        rows: Its numbers.
        best: The methods of the best number over the first signals, of those that compete, by context.
        first: The model's numbers over those signals alone.
        changes: By how much the model's mean error differs from the prior's, in percent, and the standard error.
        below: Further rows below the model's: label -> context -> text.
        decimals: Of its numbers; None for errors, see `short_number`.
    """

    title: str
    rows: Rows
    best: Mapping[str, Collection[str]]
    first: Mapping[str, float]
    changes: Mapping[str, tuple[float, float]]
    below: Mapping[str, Mapping[str, str]]
    decimals: int | None


@dataclass(frozen=True)
class Table:
    """Test numbers by method and context.

    Attributes:
        blocks: Errors over all points, over unknown points (known ones put back), and signal to noise ratios where the
            kind of signal has them.
        coverage: Of methods with a posterior, the share of unknown values in its 90 % interval, in percent.
        coverage_title: Of this block.
        likelihood: Of the same methods, the mean log-likelihood of an unknown point under its predicted Gaussian, in
            nats, the sum over channels, of values in the signals' unit.
        keeping: Methods whose known points keep their values; they do not compete where all are known.
        whole: The context in which all points are known.
        signals: Test signals that the model's errors are the mean of.
        few: Test signals (the first of them) that the baselines' errors and the choice of the best are the mean of.
        numbers: Numbers that the model has for each signal.
        notes: Lines below the table.
    """

    blocks: Sequence[Block]
    coverage: Rows
    coverage_title: str
    likelihood: Rows
    keeping: Collection[str]
    whole: str
    signals: int
    few: int
    numbers: int
    notes: Sequence[str]

    @property
    def rows(self) -> Rows:
        """Errors over all points."""
        return self.blocks[0].rows

    @property
    def unknown(self) -> Rows:
        """The same after known points are put back, so that they have no error; none where all are known."""
        return self.blocks[1].rows

    def __str__(self) -> str:
        contexts = list(self.rows[OURS])
        below = [label for block in self.blocks for label in block.below]
        width = max(map(len, [*self.rows, *(block.title for block in self.blocks), *below])) + 2
        lines = ["context".ljust(width) + "".join(f"{name:>9} " for name in contexts).rstrip()]

        def add(label: str, cells: Mapping[str, str]) -> None:
            row = "".join(f"{cells.get(name, ''):>10}" for name in contexts)
            lines.append((label.ljust(width) + row).rstrip())

        for block in self.blocks:
            lines += ["", block.title]
            for method, row in block.rows.items():
                add(method, {name: self._cell(block, method, name, row[name]) for name in row})
                for label, cells in block.below.items() if method == OURS else ():
                    add(label, cells)
        if self.coverage:
            lines += ["", self.coverage_title]
            for method, row in self.coverage.items():
                add(method, {name: f"{share:.1f} " for name, share in row.items()})
            lines += ["", "log-likelihood of an unknown point, nats"]
            for method, row in self.likelihood.items():
                add(method, {name: f"{nats:.2f} " for name, nats in row.items()})
        return "\n".join([*lines, "", *self.notes])

    def _cell(self, block: Block, method: str, name: str, number: float) -> str:
        if method in self.keeping and name == self.whole:
            return "kept "
        text = short_number(number) if block.decimals is None else f"{number:.{block.decimals}f}"
        return text + ("*" if method in block.best.get(name, ()) else " ")


def log_likelihood(
    error: Float[Tensor, "B P C"], deviation: Float[Tensor, "B P C"], scale: Float[Tensor, "*b"] | float = 1.0
) -> Float[Tensor, "B P"]:
    """The logarithm of the density of each point's values under a Gaussian, the sum over channels.

    Args:
        error: Of the mean.
        deviation: Of the field; the variance of rounding to 8 bits is added, as a value that is met exactly would count
            without limit.
        scale: Of the values, see `Case`.

    Example:
        >>> log_likelihood(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.1))
        tensor([[1.3831]])
    """
    variance = deviation.square() + ROUNDING * torch.as_tensor(scale).square()
    variance = variance.clamp(min=torch.finfo(variance.dtype).tiny)
    return -0.5 * (error.square() / variance + (2 * math.pi * variance).log()).sum(-1)


def short_number(error: float) -> str:
    """Four decimals, or two digits of what is smaller.

    Example:
        >>> short_number(0.03471), short_number(2.84e-5), short_number(0.0)
        ('0.0347', '2.8e-5', '0.0000')
    """
    return f"{error:.4f}" if error >= 1e-3 or error == 0 else f"{error:.1e}".replace("e-0", "e-")


def shortened(model: HyperSiren, numbers: int) -> HyperSiren | None:
    """The prior alone of a model, cut to its leading axes so that a signal has so many numbers at most; on the CPU.

    None where it has no single Gaussian prior that could be cut.
    """
    if not isinstance(model.adapter, LastLayerSolve) or model.encoder is not None:
        return None
    cut = copy.deepcopy(model).cpu()
    assert isinstance(cut.adapter, LastLayerSolve)
    cut.adapter.cut(max(1, numbers // model.siren.out_features))
    return cut


def change_against(error: Tensor, prior: Tensor) -> tuple[float, float]:
    """By how much a mean error differs from the prior's, in percent of it, and the standard error of that number.

    Args:
        error, prior: Of each signal.

    Example:
        >>> change, deviation = change_against(torch.tensor([0.9, 0.8]), torch.tensor([1.0, 1.0]))
        >>> round(change), round(deviation)
        (-15, 5)
    """
    difference, mean = error - prior, prior.mean()
    deviation = difference.std() / len(difference) ** 0.5 if len(difference) > 1 else torch.zeros(())
    return (100 * difference.mean() / mean).item(), (100 * deviation / mean).item()


def decibel(error: float) -> float:
    """The peak signal to noise ratio of a mean squared error on [0, 1]."""
    return math.inf if error == 0 else -10 * math.log10(error)


Errors = dict[str, dict[str, list[Tensor]]]
"""Method -> context -> the errors of some signals after others, on the CPU."""


@torch.no_grad()
def completion_table(
    task: CaseTask, models: Mapping[str, HyperSiren], *, most: int = 100, refine_steps: int = 0
) -> Table:
    """Models beside the baselines on the test signals of a task, for each of its contexts.

    Args:
        task: Has the three sets.
        models: Models by name; the first is `OURS`, which the table is about.
        most: Baselines and intervals, which are slow, are evaluated on the first `most` test signals.
        refine_steps: If not 0, a row for the predicted fields refined by that many steps.
    """
    tested, choosing = task.tested(most), task.choosing(most).to("cpu")
    few = min(most, len(tested))
    first = tested.at(torch.arange(few)).to("cpu")
    numbers = task.numbers(predict_whole(task, models[OURS]))
    fitted = task.baselines(numbers)
    errors: Errors = {}
    unknown: Errors = {}
    coverage: dict[str, dict[str, float]] = {}
    likelihood: dict[str, dict[str, float]] = {}
    keeping: set[str] = set()

    def judge(method: str, name: str, completions: Iterable[tuple[Case, Tensor]]) -> None:
        for case, values in completions:
            parts = [(errors, values)]
            if name != task.whole:
                parts.append((unknown, torch.where(case.unknown.unsqueeze(-1), values, case.truth)))
            for rows, completed in parts:
                rows.setdefault(method, {}).setdefault(name, []).append(task.error(case, completed).cpu())

    def complete(model: HyperSiren, method: str, name: str, cases: Iterable[Case]) -> Iterator[tuple[Case, Tensor]]:
        within: list[Tensor] = []
        nats: list[Tensor] = []
        start = 0
        for case in cases:
            rest = max(0, few - start)
            values, deviation = completion(model, case, task.points, deviation=rest > 0 and name != task.whole)
            yield case, values
            if deviation is not None:
                inside = (values - case.truth).abs() <= NINETY * deviation
                within.append(inside[:rest][case.unknown[:rest]])
                each = log_likelihood((values - case.truth), deviation, case.scale)
                nats.append(each[:rest][case.unknown[:rest]])
            start += len(values)
        if within:
            coverage.setdefault(method, {})[name] = 100 * torch.cat(within).float().mean().item()
            likelihood.setdefault(method, {})[name] = torch.cat(nats).mean().item()

    for name in task.contexts:
        mask = task.mask(tested, name)
        baselines = fitted(task.case(choosing, task.mask(choosing, name)))
        methods = [*models, *([REFINED] if refine_steps else []), *(baseline.name for baseline in baselines)]
        if name == task.contexts[0]:
            LOG.info("evaluating %d methods on %d test %s", len(methods), len(tested), task.unit)

        def report(method: str, name: str = name, methods: Sequence[str] = methods) -> None:
            place = methods.index(method) + 1
            LOG.debug("evaluating %s %s: %s (%d of %d)", name, task.element, method, place, len(methods))

        for method, model in models.items():
            report(method)
            judge(method, name, complete(model, method, name, task.split(tested, mask)))
        if refine_steps:
            report(REFINED)
            predict = refining(models[OURS], refine_steps)
            cases = task.split(tested, mask)
            judge(REFINED, name, ((case, case.complete(predict(case.context), task.points)) for case in cases))
        for baseline in baselines:
            report(baseline.name)
            signals = tested.to("cpu") if baseline.fast else first
            cases = task.split(signals, mask[: len(signals)].cpu())
            judge(baseline.name, name, ((case, baseline.complete(case)) for case in cases))
            keeping |= {baseline.name} if baseline.keeps else set()

    shorter: dict[int, float] = {}
    for count in (count for count in task.shorter if count < numbers):
        cut = shortened(models[OURS], count)
        if cut is not None:
            LOG.debug("evaluating %d numbers", count)
            parts = task.split(first, task.mask(tested, task.whole)[:few].cpu())
            each = [task.error(case, case.complete(cut.field(case.context), task.points)) for case in parts]
            shorter[count] = torch.cat(each).mean().item()

    def block(title: str, found: Errors, change: Callable[[Tensor], Tensor] | None = None) -> Block:
        each = {method: {name: torch.cat(parts) for name, parts in row.items()} for method, row in found.items()}
        if change is not None:
            each = {method: {name: change(e) for name, e in row.items()} for method, row in each.items()}
        best = {}
        for name in task.contexts:
            competing = {
                method: row[name][:few].mean().item()
                for method, row in each.items()
                if name in row and not (name == task.whole and method in keeping)
            }
            wanted = (min if change is None else max)(competing.values(), default=None)
            best[name] = [method for method, mean in competing.items() if mean == wanted]
        rows = {method: {name: e.mean().item() for name, e in row.items()} for method, row in each.items()}
        first = {name: e[:few].mean().item() for name, e in each[OURS].items()}
        below: dict[str, dict[str, str]] = {}
        if not task.decibels:
            cells = {name: f"{decibel(error):.1f} " for name, error in rows[OURS].items()}
            below[f"  PSNR, dB, of {numbers:,} numbers"] = cells
        changes: dict[str, tuple[float, float]] = {}
        if change is None and found is errors and not task.decibels:
            for count, error in shorter.items():
                below[f"  PSNR, dB, of {count:,} numbers"] = {task.whole: f"{decibel(error):.1f} "}
        if PRIOR in each and change is None:
            own = each[PRIOR]
            changes = {name: change_against(e, own[name]) for name, e in each[OURS].items() if own[name].any()}
            below["  change to the prior alone, %"] = {name: f"{value:+.1f} " for name, (value, _) in changes.items()}
            below["  its standard error"] = {name: f"{deviation:.1f} " for name, (_, deviation) in changes.items()}
        if few < len(tested):
            below[f"  first {few}"] = {name: short_number(error) + " " for name, error in first.items()}
        return Block(title, rows, best, first, changes, below, None if change is None else 1)

    blocks = [block(f"all {task.element}", errors)]
    blocks.append(block(f"unknown {task.element} only (known ones put back)", unknown))
    if task.decibels:
        named = f"SNR of all {task.element}, dB ({OURS}: {numbers:,} numbers)"
        blocks.append(block(named, errors, lambda e: -10 * e.clamp(min=1e-12).log10()))
    title = f"unknown {task.inside} in the 90 % interval, % (90 is right)"
    notes = task.notes(len(tested), few, numbers)
    return Table(blocks, coverage, title, likelihood, keeping, task.whole, len(tested), few, numbers, notes)
