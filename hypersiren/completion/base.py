"""What a task on a set of signals is: a hypernetwork predicts a field for each of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from torch import Generator, Tensor

from hypersiren.errors import UserError
from hypersiren.fields.operators import Field
from hypersiren.hypernets.context import Context
from hypersiren.tasks.panels import Panel
from hypersiren.tasks.summary import Measure, Rows, panel_rows
from hypersiren.tasks.task import share_of

Predict = Callable[[Context], Field]
"""What a task on a set judges: a function from what is known of signals to the fields predicted from it."""


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

    def likelihood(self, found: Any, batch: Any) -> Tensor:
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


def share_signals(batch: Any, index: int, count: int) -> Any:
    """One of `count` equal parts of a batch of signals; coordinates `x` (P, D), which all signals have, stay whole.

    There may be as many points as signals, so that their number does not tell.

    Raises:
        UserError: If there are no equal parts.
    """
    named = {one.name: getattr(batch, one.name) for one in fields(batch) if one.name != "x"}
    x = batch.x if batch.x.ndim == 2 else share_of(batch.x, index, count)
    return replace(batch, x=x, **share_of(named, index, count, len(batch.y)))
