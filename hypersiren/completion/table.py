"""The completion table: a model beside the baselines on test signals, for each context, written once for all kinds.

Errors are those of `CaseTask.error`, the mean over signals.
"""

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hypersiren.completion.base import Case, CaseTask
from hypersiren.completion.prediction import completion, predict_whole, refining
from hypersiren.hypernets.gaussian.calibration import NINETY
from hypersiren.hypernets.model import HyperSiren

LOG = logging.getLogger(__name__)

OURS, REFINED = "hypersiren", "refined"

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
        below: Further rows below the model's: label -> context -> text.
        decimals: Of its numbers; None for errors, see `short_number`.
    """

    title: str
    rows: Rows
    best: Mapping[str, Collection[str]]
    first: Mapping[str, float]
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
        return "\n".join([*lines, "", *self.notes])

    def _cell(self, block: Block, method: str, name: str, number: float) -> str:
        if method in self.keeping and name == self.whole:
            return "kept "
        text = short_number(number) if block.decimals is None else f"{number:.{block.decimals}f}"
        return text + ("*" if method in block.best.get(name, ()) else " ")


def short_number(error: float) -> str:
    """Four decimals, or two digits of what is smaller.

    Example:
        >>> short_number(0.03471), short_number(2.84e-5), short_number(0.0)
        ('0.0347', '2.8e-5', '0.0000')
    """
    return f"{error:.4f}" if error >= 1e-3 or error == 0 else f"{error:.1e}".replace("e-0", "e-")


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
        start = 0
        for case in cases:
            rest = max(0, few - start)
            values, deviation = completion(model, case, task.points, deviation=rest > 0 and name != task.whole)
            yield case, values
            if deviation is not None:
                inside = (values - case.truth).abs() <= NINETY * deviation
                within.append(inside[:rest][case.unknown[:rest]])
            start += len(values)
        if within:
            coverage.setdefault(method, {})[name] = 100 * torch.cat(within).float().mean().item()

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
        own = {name: e[:few].mean().item() for name, e in each[OURS].items()}
        below = (
            {} if task.decibels else {"  PSNR, dB": {n: f"{decibel(error):.1f} " for n, error in rows[OURS].items()}}
        )
        if few < len(tested):
            below[f"  first {few}"] = {name: short_number(error) + " " for name, error in own.items()}
        return Block(title, rows, best, own, below, None if change is None else 1)

    blocks = [block(f"all {task.element}", errors)]
    blocks.append(block(f"unknown {task.element} only (known ones put back)", unknown))
    if task.decibels:
        blocks.append(block(f"SNR of all {task.element}, dB", errors, lambda e: -10 * e.clamp(min=1e-12).log10()))
    title = f"unknown {task.inside} in the 90 % interval, % (90 is right)"
    notes = task.notes(len(tested), few, numbers)
    return Table(blocks, coverage, title, keeping, task.whole, len(tested), few, numbers, notes)
