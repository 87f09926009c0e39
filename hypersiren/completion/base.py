"""What a task on a set of signals is: a hypernetwork predicts a field for each of them.

A kind of signal is a `Kind`, and a `CaseTask` where completions are compared with the truth point by point, as those
of images and sounds are: it says what a `Case` of its signals is, and what is done with cases is written once, here and
in `table` and `complete`. To add one, see `CaseTask` and `complete.Study`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from hypersiren.errors import UserError
from hypersiren.fields.coords import evaluate
from hypersiren.fields.last_layers import last_layer
from hypersiren.fields.operators import Field
from hypersiren.hypernets.adapters.base import Prediction
from hypersiren.hypernets.context import Context
from hypersiren.signals.sets.sources import skipped_files
from hypersiren.tasks.panels import Panel
from hypersiren.tasks.summary import Measure, Rows, panel_rows
from hypersiren.tasks.task import share_of

Predict = Callable[[Context], Field]
"""What a task on a set judges: a function from the contexts of signals to the fields predicted from them."""


LEVELS = 2**16
"""Values of validation signals that baselines complete for the lines beside a curve, in each context."""

HELD_OUT = 2**23
"""Numbers of the linear systems of one context's validation signals that a correction's amplitude is chosen on."""


class SetTask:
    """A task on a set of signals, for which a hypernetwork predicts fields. The base of ours, and of yours.

    Its batches hold the `context` of each signal. Its `evaluate` and `panels` are given a function from a context to
    the fields predicted from it.

    Attributes:
        train: The signals to learn from, with a length.
        skipped: "name: reason" for each signal that was left out.
        measures: As of `FieldTask`.
        The rest: See `Task`.
    """

    name: str = "task"
    unit: str = "signals"
    batch_size: int
    criterion: str | None = None
    train: Any
    skipped: Sequence[str] = ()
    measures: Sequence[Measure] = ()

    def describe(self) -> dict[str, int]:
        """Coordinate dimensions, channels of the context, of the field: `in_features`, `channels`, `out_features`."""
        raise NotImplementedError

    def sample(self, generator: Generator, progress: float = 0.0) -> Any:
        """A batch with the attribute `context`."""
        raise NotImplementedError

    def loss(self, field: Any, batch: Any) -> dict[str, Tensor]:
        """Named, weighted terms of the predicted fields; the loop sums them."""
        raise NotImplementedError

    def likelihood(self, prediction: Any, batch: Any) -> Tensor:
        """The mean negative log likelihood of a batch under a `Prediction`, for `loss.likelihood`; none by default.

        Raises:
            UserError: If the task has none.
        """
        raise UserError(f"{self.name}: expected no loss.likelihood, since the task has none")

    def share(self, batch: Any, index: int, count: int) -> Any:
        """One of `count` equal parts of a batch, for a process of several or to save memory.

        Of every tensor whose first axis is as long as the context's, so much of it; all else is everybody's. The loss
        must be the mean of the parts' losses.

        Raises:
            UserError: If there are no equal parts.
        """
        return share_of(batch, index, count, len(batch.context.y))

    def held_out(self) -> Iterable[Any]:
        """Validation signals with what is not known of them, see `HyperSiren.calibrate`; none by default."""
        return ()

    def evaluate(self, predict: Any) -> dict[str, float]:
        """Numbers by which a model is judged; none by default."""
        return {}

    def panels(self, predict: Any) -> dict[str, Panel]:
        """Pictures for a person; none by default."""
        return {}

    def summary(self, predict: Any) -> Rows:
        """Rows of pictures and curves with titles and units, for `summary.png`; by default what the panels show."""
        return panel_rows({f"{self.name} {name}": panel for name, panel in self.panels(predict).items()})

    def digest(self) -> str | None:
        """What its signals are known by when a run is resumed, see `content_digest`; None: by nothing."""
        return None

    def __repr__(self) -> str:
        """Its sets, such as "Completion(36 for training, 4 for validation; images)"."""
        known = {"train": "training", "validation": "validation", "test": "tests"}
        sets = {word: getattr(self, name, None) for name, word in known.items()}
        counts = ", ".join(f"{len(held)} for {word}" for word, held in sets.items() if isinstance(held, Sized))
        return f"{type(self).__name__}({'; '.join(part for part in (counts, self.unit) if part)})"


class Kind(SetTask):
    """A task of `hypersiren train`: its sets are described by settings, see `registry`.

    Attributes:
        validation, test: Signals that it is judged on, during training and after it.
    """

    validation: Any
    test: Any = None

    @classmethod
    def open(cls, settings: Any, device: torch.device | str = "cpu") -> Any:
        """The task that settings describe, its signals read: those of the test too, so that missing ones are found
        before the training.

        Raises:
            UserError: If a set cannot be read.
        """
        sets = cls.load(settings, device)
        task = cls(*sets[:2], **cls.arguments(settings))
        task.test, task.skipped = sets[2], skipped_files(*sets)
        return task

    @classmethod
    def load(cls, settings: Any, device: torch.device | str = "cpu") -> tuple[Any, ...]:
        """Training, validation and test signals that settings describe, on the device."""
        raise NotImplementedError

    @classmethod
    def arguments(cls, settings: Any) -> dict[str, Any]:
        """What else it is made with, from its settings."""
        return {}


@dataclass(frozen=True)
class Case:
    """B signals to complete: their contexts, and the truth at P points.

    The value of a signal is `offset` + `scale` times that of its field.

    Attributes:
        context: The known points.
        x: (P, D) coordinates.
        truth: (B, P, C) values of the signals.
        known: (B, P), which points are in the context.
        counted: (B, P), which points have a truth.
        scale: (B, 1, 1), or a number for all; 0 where the completion is `offset` whatever is predicted.
        offset: The value of a field that is 0.
    """

    context: Context
    x: Float[Tensor, "P D"]
    truth: Float[Tensor, "B P C"]
    known: Bool[Tensor, "B P"]
    counted: Bool[Tensor, "B P"]
    scale: Float[Tensor, "*b"] | float = 1.0
    offset: float = 0.0

    @property
    def unknown(self) -> Bool[Tensor, "B P"]:
        """The points to complete."""
        return self.counted & ~self.known

    def values(self, y: Float[Tensor, "*b P C"]) -> Float[Tensor, "*b P C"]:
        """The signals' values, from those of their fields."""
        return y * self.scale + self.offset

    def complete(self, field: Field, points: int = 131072) -> Float[Tensor, "B P C"]:
        """The signals that fields stand for, evaluated at most `points` points of all of them at a time."""
        return self.values(evaluate(field, self.x, chunk=max(1, points // len(self.truth))))


@dataclass(frozen=True)
class Baseline:
    """A method without a hypernetwork.

    Attributes:
        name: In tables.
        complete: From a case on the CPU to its signals (B, P, C).
        keeps: Whether known points keep their values.
        fast: Whether it is evaluated on all test signals, not on the first of them only.
    """

    name: str
    complete: Callable[[Case], Float[Tensor, "B P C"]]
    keeps: bool = False
    fast: bool = False


class CaseTask(Kind):
    """A set of signals whose completions are compared with the truth point by point. The base of images and sounds.

    It says what a set, a context and an error are; training, calibration, evaluation, the table and the command
    `complete` follow.

    Attributes:
        contexts: Names of the contexts that it is evaluated from.
        whole: That of them in which all points are known.
        quantity: What an error is, with the signals' unit.
        element: What points are called: "pixels", "samples".
        inside: What intervals hold: "values", "samples".
        points: Points of signals that are completed at a time.
        shorter: Numbers a signal for which the table also has the ratio from all points, of the prior's leading axes.
        decibels: Whether the table has the mean signal to noise ratio of the signals, not the peak one of mean errors.
    """

    criterion: str | None = "mse"
    contexts: Sequence[str]
    whole: str
    quantity: str = "error"
    element: str = "points"
    inside: str = "values"
    points: int = 131072
    decibels: bool = False
    shorter: Sequence[int] = ()

    @property
    def measures(self) -> Sequence[Measure]:  # type: ignore[override]
        """The errors of `evaluate`."""
        each = [Measure(f"mse_{self.label(name)}", f"{self.quantity}, {self.words(name)}") for name in self.contexts]
        change = "change of the error by the correction, mean over contexts"
        return [
            Measure("change", change, "%", factor=100),
            Measure("mse", f"{self.quantity}, mean over contexts"),
            *each,
            *(
                Measure(f"change_{self.label(name)}", f"the same, {self.words(name)}", "%", factor=100)
                for name in self.contexts
            ),
        ]

    def mask(self, signals: Any, context: str, seed: int = 0) -> Bool[Tensor, "M *size"]:
        """Which points of each signal of a set are known in a context; the same on every machine for a seed."""
        raise NotImplementedError

    def source(self, signals: Any) -> Int[Tensor, " M"] | None:
        """Which photograph or recording each signal of a set is from; None: each from its own, or unknown."""
        return None

    def case(self, signals: Any, mask: Bool[Tensor, "M *size"]) -> Case:
        """Signals with their known points."""
        raise NotImplementedError

    def error(self, case: Case, completion: Float[Tensor, "B P C"]) -> Float[Tensor, " B"]:
        """The error of each signal over the points that have a truth."""
        raise NotImplementedError

    def baselines(self, numbers: int) -> Callable[[Case], Sequence[Baseline]]:
        """Methods without a hypernetwork, fitted to the training signals.

        Args:
            numbers: Numbers that the model has for each signal.

        Returns:
            A function that chooses their settings on a case of validation signals, on the CPU: the methods for such a
            context.
        """
        raise NotImplementedError

    def numbers(self, prediction: Prediction) -> int:
        """Numbers that a model has for each signal: of its latent or tokens, or of a last layer that is solved."""
        if prediction.z is None or prediction.posterior is not None:
            return last_layer(prediction.siren, prediction.params)[0].numel()
        return prediction.z[0].numel()

    def notes(self, signals: int, few: int, numbers: int) -> list[str]:
        """The lines below the table: of the mean over test signals, of baselines on a few of them."""
        return [f"{self.quantity}, mean over {signals} test {self.unit}", f"{numbers} numbers for each of them"]

    @staticmethod
    def words(context: str) -> str:
        """A context in words: "from 10 pixels"."""
        return f"from {context}"

    @staticmethod
    def label(context: str) -> str:
        """A context as a part of names."""
        return context

    def some(self, known: int) -> int:
        """Signals that may be completed at a time, where each has a linear system of `known` points."""
        return self.points

    def cases(self, signals: Any, context: str, seed: int = 0) -> Iterator[Case]:
        """All signals of a set in a context, as many at a time as `points` allow."""
        yield from self.split(signals, self.mask(signals, context, seed))

    def split(self, signals: Any, mask: Bool[Tensor, "M *size"], copies: int = 1) -> Iterator[Case]:
        """As `cases`, of known points: as many signals at a time as `points` allow, with `copies` of each."""
        some = max(1, self.points // (copies * mask[0].numel()))
        if not (mask == mask[:1]).all():
            some = max(1, min(some, self.some(int(mask.flatten(1).sum(1).max()))))
        for index in torch.arange(len(mask), device=mask.device).split(some):
            yield self.case(signals.at(index), mask[index])

    def tested(self, most: int) -> Any:
        """The test signals that the table is made of; baselines see the first `most`."""
        return self.test

    def choosing(self, most: int) -> Any:
        """The validation signals that the settings of baselines are chosen on."""
        return self.validation.spread(min(most, 100))

    def judged(self, context: str) -> Any:
        """The validation signals that a model is judged on during training in a context."""
        return self.validation

    def held_out(self, most: int = 32) -> Iterator[tuple[Context, Tensor, Tensor, Tensor]]:
        """Validation signals from each context that leaves points unknown, see `HyperSiren.calibrate`.

        Of more than 32, fewer where each has a large system of its own.
        """
        for name in self.contexts:
            if name != self.whole:
                shown = self.validation.spread(most)
                mask = self.mask(shown, name)
                if most > 32 and not (mask == mask[:1]).all():
                    known = int(mask.flatten(1).sum(1).max())
                    shown = self.validation.spread(min(most, max(32, HELD_OUT // known**2)))
                    mask = self.mask(shown, name)
                case = self.case(shown, mask)
                scale = torch.as_tensor(case.scale)
                y = (case.truth - case.offset) / torch.where(scale == 0, 1, scale)
                context = replace(case.context, source=self.source(shown))
                yield context, case.x, y, case.unknown & (scale != 0).squeeze(-1)

    @torch.no_grad()
    def evaluate(self, predict: Predict) -> dict[str, float]:
        """The validation error for each context, the mean over signals, and the mean of these."""
        errors = {}
        for name in self.contexts:
            judged = self.judged(name)
            each = [
                self.error(case, case.complete(predict(case.context), self.points)) for case in self.cases(judged, name)
            ]
            errors[f"mse_{self.label(name)}"] = torch.cat(each).mean().item()
        return {"mse": sum(errors.values()) / len(errors), **errors}

    @torch.no_grad()
    def levels(self, key: str) -> dict[str, float]:
        """What is reached on the validation signals without training: lines beside the curve of a number of `evaluate`.

        Args:
            key: The number: "mse", or "change", of which the prior alone has 0. Of others nothing is known.
        """
        if key == "change":
            return {"prior alone": 0.0}
        if key != "mse":
            return {}
        # Methods for every context; those that keep so many numbers of a whole signal are none.
        fitted, choosing = self.baselines(1), self.choosing(100).to("cpu")
        errors: dict[str, list[float]] = {}
        for name in self.contexts:
            judged, case = self.judged(name), self.case(choosing, self.mask(choosing, name))
            few = min(len(judged), max(1, LEVELS // case.truth[0].numel()))
            cases = list(self.cases(judged.spread(few).to("cpu"), name))
            for method in fitted(case):
                each = [self.error(case, method.complete(case)) for case in cases]
                label = method.name if few == len(judged) else f"{method.name} ({few} {self.unit})"
                errors.setdefault(label, []).append(torch.cat(each).mean().item())
        return {name: sum(each) / len(each) for name, each in errors.items() if len(each) == len(self.contexts)}

    @torch.no_grad()
    def complete(self, predict: Predict, signals: Any, mask: Bool[Tensor, "M *size"]) -> Float[Tensor, "M P C"]:
        """All signals of a set, completed from their known points."""
        cases = self.split(signals, mask)
        return torch.cat([case.complete(predict(case.context), self.points) for case in cases])


def share_signals(batch: Any, index: int, count: int) -> Any:
    """One of `count` equal parts of a batch of signals; coordinates `x` (P, D), which all signals have, stay whole.

    There may be as many points as signals, so that their number does not tell.

    Raises:
        UserError: If there are no equal parts.
    """
    named = {one.name: getattr(batch, one.name) for one in fields(batch) if one.name != "x"}
    x = batch.x if batch.x.ndim == 2 else share_of(batch.x, index, count)
    return replace(batch, x=x, **share_of(named, index, count, len(batch.y)))
