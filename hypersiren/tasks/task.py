"""What a task is, for one signal and for a set of signals. A task never learns where the field's weights came from."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from hypersiren.errors import UserError
from hypersiren.fields.coords import strata
from hypersiren.fields.memo import Memo
from hypersiren.fields.settings import Network
from hypersiren.fields.shown import by_shape
from hypersiren.fields.window_solve import Keep
from hypersiren.signals.sets.disk import DiskPixels
from hypersiren.tasks.later import Later
from hypersiren.tasks.panels import Panel
from hypersiren.tasks.rendering import Renderings, T
from hypersiren.tasks.settings import FitSettings
from hypersiren.tasks.summary import Measure, Rows, panel_rows


@runtime_checkable
class Task(Protocol):
    """What the training loop asks of a task.

    Attributes:
        name: The task's name, the first word of its panels' names.
        unit: What a batch is counted in: "images", "points".
        batch_size: So many of them.
        criterion: The number of `evaluate` by which the best checkpoint is chosen (smaller is better), or None to keep
            the last one: where the truth is not known, it must not choose.
    """

    name: str
    unit: str
    batch_size: int
    criterion: str | None

    def sample(self, generator: Generator, progress: float, /) -> Any:
        """A batch: a frozen dataclass of tensors on the device. `progress` runs from 0 to 1 over the training."""

    def loss(self, field: Any, batch: Any, /) -> dict[str, Tensor]:
        """Named, weighted terms; the loop only sums them."""

    def evaluate(self, field: Any, /) -> dict[str, float]:
        """What the paper reports."""

    def panels(self, field: Any, /) -> dict[str, Panel]:
        """What a person wants to see."""


class FieldTask:
    """A task on one signal, that one field is fitted to. The base of ours, and of yours.

    A task says what is asked at random points, and how wrong a field is there. That, and the size of the field, is all
    that it must say; the rest has defaults. One training step is

        batch = task.sample(generator, progress)      # the generator is seeded by the step
        terms = task.loss(field, batch)               # {"mse": ..., "prior": ...}, weighted
        sum(terms.values()).backward()
        optimizer.step()

    Attributes:
        in_features, out_features: Coordinate dimensions D and channels C of the field. Must be given.
        name, unit, batch_size, criterion: See `Task`.
        samples: Samples of the signal along each coordinate, that a positional encoding has octaves for; () for 256.
        value_count: Values of the signal; None: one for each of `samples` and channel.
        device: Where its tensors are, and the field that is made for it.
        playback: What a rendering must know beside the field, plain values. `kind` is "image", "sound", "video",
            "volume" or "shape", or another word for what nothing renders; a sound has `rate` and `scale` too, a video
            `fps`, a volume `units`, a shape its place as `shape`. Without a kind, a field of two `samples` is an image.
        refit_every: Steps between calls of `refit`; None: it is not called.
        windowed: Whether `windowed_field` solves it.
        first_omega: The first omega that suits the signal, where settings leave it open.
        trained_steps: The steps that suit it, where settings leave them open; None: those of the task's settings.
        defaults: The settings of its network and its optimisation.
        renderings: What `once` keeps; None: nothing.
        memo: What several tasks of one size share where they have the same one, such as the system of their windows;
            None: nothing.
        later: Is given what draws and writes the pictures of a finished field, so that the fit of the next signal need
            not wait; None: they are drawn at once.
        finished: Whether nothing is left to do, before all steps are done; see `advance`.
        measures: What the numbers of `evaluate` are, with unit and direction; the first of them stands above its
            summary. () for their names alone, and the criterion, or the first, above it.

    Example:
        >>> class Line(FieldTask):
        ...     in_features, out_features = 1, 1
        ...
        ...     def sample(self, generator, progress):
        ...         return torch.rand(64, 1, generator=generator) * 2 - 1
        ...
        ...     def loss(self, field, x):
        ...         return {"mse": (field(x) - 0.5 * x).square().mean()}
        >>> from hypersiren import fit
        >>> fit(Line(), steps=100).field(torch.tensor([[0.5]])).item()
        0.2...
    """

    name: str = "task"
    unit: str = "points"
    batch_size: int = 1
    criterion: str | None = None
    in_features: int
    out_features: int
    device: torch.device = torch.device("cpu")
    playback: Mapping[str, Any] = {}
    samples: Sequence[int] = ()
    value_count: int | None = None
    first_omega: float | None = None
    trained_steps: int | None = None
    defaults: FitSettings = FitSettings()
    measures: Sequence[Measure] = ()
    refit_every: int | None = None
    windowed: bool = False
    renderings: Renderings | None = None
    memo: Memo | None = None
    later: Later | None = None
    finished: bool = False

    def advance(self, done: int, steps: int) -> bool:
        """Called after each of the training's `steps`, `done` being how many are: whether a stage of the task is over.

        Such a step is validated, drawn and saved as the last one is. The training ends where `finished` is True then.
        """
        return False

    def state(self) -> dict[str, Any]:
        """What the task has come to, plain values, for checkpoints: a run that is resumed goes on with it."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state` gave, or begin anew with nothing."""

    def refit(self, field: Any, batch: Any) -> None:
        """Set what can be set of a field in closed form, every `refit_every` steps; nothing by default."""

    def windowed_field(self, network: Network, keep: Keep | None = None) -> nn.Module:
        """The windowed field of the signal, in closed form, where the task says `windowed`.

        Args:
            network: Its numbers, its windows and its prior.
            keep: What is solved already, see `hypersiren.fields.window_solve.solve_raster`.
        """
        raise NotImplementedError

    def sample(self, generator: Generator, progress: float = 0.0) -> Any:
        """A batch: tensors on the device. `progress` runs from 0 to 1 over the training."""
        raise NotImplementedError

    def loss(self, field: Any, batch: Any) -> dict[str, Tensor]:
        """Named, weighted terms; the loop sums them."""
        raise NotImplementedError

    def share(self, batch: Any, index: int, count: int) -> Any:
        """One of `count` equal parts of a batch, for a process of several or to save memory.

        Of every tensor so much of its first axis; numbers, and tensors without axes, are everybody's. The loss must be
        the mean of the parts' losses.

        Raises:
            UserError: If there are no equal parts.
        """
        return share_of(batch, index, count)

    def evaluate(self, field: Any) -> dict[str, float]:
        """Numbers by which a field is judged; none by default."""
        return {}

    def evaluate_result(self, field: Any) -> dict[str, float]:
        """Numbers of the finished field that take too long for every validation; none by default."""
        return {}

    def panels(self, field: Any) -> dict[str, Panel]:
        """Pictures, sounds, clips and surfaces for a person: files of the run folder; none by default."""
        return {}

    def summary(self, field: Any) -> Rows:
        """Rows of pictures and curves with titles and units, for `summary.png`; by default what the panels show."""
        return panel_rows(self.panels(field))

    def once(self, field: Any, compute: Callable[[Any], T]) -> T:
        """`compute(field)`, computed once for `evaluate`, `panels` and `summary` of the same weights.

        Such as `mesh = self.once(field, self.mesh)`; see `hypersiren.tasks.rendering`.
        """
        if self.renderings is None:
            self.renderings = Renderings()
        return self.renderings.once(field, compute)

    def digest(self) -> str | None:
        """What its signal is known by when a run is resumed, see `content_digest`; None: by nothing."""
        return None

    def __repr__(self) -> str:
        """Its size, such as "Image(512 x 512, 3 channels)"."""
        parts = [" x ".join(map(str, self.samples))] if self.samples else []
        channels = getattr(self, "out_features", None)
        parts += [f"{channels} channel{'s' * (channels > 1)}"] if isinstance(channels, int) else []
        return f"{type(self).__name__}({', '.join(parts)})"


def content_digest(*parts: Any) -> str:
    """A digest of values, wherever they are: tensors, arrays, pixels on disk, and anything else by its representation.

    Example:
        >>> content_digest(torch.zeros(2), None) == content_digest(np.zeros(2, np.float32), None)
        True
        >>> content_digest(torch.zeros(2), 1.0) == content_digest(torch.zeros(2), 2.0)
        False
    """
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        array = part.detach().cpu().numpy() if isinstance(part, Tensor) else part
        if isinstance(array, DiskPixels):
            found.update(f"uint8{array.shape}".encode())
            for block in array.blocks():
                found.update(block.data)
        elif isinstance(array, np.ndarray):
            found.update(f"{array.dtype}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
        else:
            found.update(repr(array).encode())
    return found.hexdigest()


def digest_of(task: Any) -> str | None:
    """A task's digest; None if it has none, as a task from outside need not."""
    return task.digest() if hasattr(task, "digest") else None


def share_of(values: Any, index: int, count: int, signals: int | None = None) -> Any:
    """One of `count` equal parts of a batch, along the first axis of its tensors.

    Args:
        values: Tensors, in dataclasses, mappings, lists and tuples; what else is in there, all parts have.
        index: Which part, from 0.
        count: Number of parts.
        signals: Length of the axis that is divided; other tensors all parts have. None to divide every tensor.

    Raises:
        UserError: If an axis has no equal parts.

    Example:
        >>> share_of({"x": torch.arange(6), "weight": torch.tensor(2.0)}, 1, 3)
        {'x': tensor([2, 3]), 'weight': tensor(2.)}
        >>> share_of([torch.zeros(4, 2), torch.zeros(5, 2)], 0, 2, signals=4)[1].shape
        torch.Size([5, 2])
        >>> share_of(torch.zeros(5), 0, 2)
        Traceback (most recent call last):
        ...
        hypersiren.errors.UserError: 5 points have no 2 equal parts: expected a multiple of 2 (training.points)
    """

    def take(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or (signals is not None and len(tensor) != signals):
            return tensor
        if len(tensor) % count:
            what, key = ("points", "points") if signals is None else ("signals", "batch_size")
            raise UserError(
                f"{len(tensor)} {what} have no {count} equal parts: expected a multiple of {count} (training.{key})"
            )
        length = len(tensor) // count
        return tensor[index * length : (index + 1) * length]

    return map_tensors(values, take)


def map_tensors(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A batch with a function of each of its tensors: in dataclasses, mappings, lists and tuples.

    Example:
        >>> map_tensors({"x": [torch.ones(2)], "name": "a"}, torch.neg)
        {'x': [tensor([-1., -1.])], 'name': 'a'}
    """
    if isinstance(values, Tensor):
        return function(values)
    if is_dataclass(values) and not isinstance(values, type):
        return replace(values, **{one.name: map_tensors(getattr(values, one.name), function) for one in fields(values)})
    if isinstance(values, Mapping):
        return {key: map_tensors(value, function) for key, value in values.items()}
    if isinstance(values, list | tuple):
        parts = [map_tensors(value, function) for value in values]
        return type(values)(*parts) if hasattr(values, "_fields") else type(values)(parts)
    return values


LEAST_OMEGA = 30.0
"""First omega where the signal would have a lower one, as small images and low sounds do: the paper's of images."""

OPTIONAL = (
    "digest", "summary", "measures", "held_out", "refit_every", "refit", "share", "once", "renderings", "windowed",
    "trained_steps", "windowed_field", "evaluate_result", "finished", "advance", "state", "set_state",
    "value_count", "memo", "later",
)  # fmt: skip
"""What a task from outside need not have."""


def check_task(task: Any, kind: type = FieldTask) -> None:
    """Say what an object lacks to be a task of this kind.

    Raises:
        UserError: If it lacks anything.

    Example:
        >>> check_task("image")
        Traceback (most recent call last):
        ...
        hypersiren.errors.UserError: expected a task, such as Image("photo.png"), got a str; see hypersiren.FieldTask
    """
    see = f"see hypersiren.{kind.__name__}"
    examples = 'Image("photo.png")' if kind is FieldTask else "Completion(images)"
    if isinstance(task, type):
        raise UserError(f"expected a task, got the class {task.__name__}: make a task of it, {task.__name__}(...)")
    if not hasattr(task, "sample") and not hasattr(task, "loss"):
        raise UserError(f"expected a task, such as {examples}, got a {type(task).__name__}; {see}")
    names = [name for name in {**kind.__annotations__, **vars(kind)} if name[0] != "_" and name not in OPTIONAL]
    missing = [name for name in names if not hasattr(task, name)]
    # A task on our base class has them all, but some say nothing yet.
    missing += [name for name in ("sample", "loss") if getattr(type(task), name, None) is getattr(kind, name)]
    if missing:
        missing.sort(key=lambda name: name not in ("sample", "loss"))
        raise UserError(f"a {type(task).__name__} is no task: it has no {', '.join(missing)}; {see}")


@dataclass(frozen=True)
class Points:
    """N points and what the field shall be there.

    Attributes:
        x: (N, D) coordinates.
        y: (N, C) values, or (N, C, D) gradients.
    """

    x: Float[Tensor, "N D"]
    y: Float[Tensor, "N C *D"]

    __repr__ = by_shape


def draw(points: Points, count: int | None, generator: torch.Generator) -> Points:
    """So many of the points, spread evenly (see `coords.strata`); all of them if None."""
    if count is None:
        return points
    index = strata(len(points.x), count, generator, points.x.device)
    return Points(points.x[index], points.y[index])
