"""Tasks: one file per kind of question asked of a field. A task never learns where the field's weights came from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Generator, Tensor, device

Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ImagePanel:
    """A picture for a person: (H, W, C) values in [0, 1], C = 1 or 3."""

    pixels: Float[Tensor, "H W C"]


@dataclass(frozen=True)
class VideoPanel:
    """A clip for a person, at so many frames a second."""

    frames: UInt8[Tensor, "T H W C"]
    fps: float


Panel = ImagePanel | VideoPanel


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


@runtime_checkable
class FieldTask(Task, Protocol):
    """A task on one signal, that one field can be fitted to.

    Its class method `open` makes it from what settings say: the keys of `signal` and `loss`, points, seed and device.

    Attributes:
        in_features, out_features: Coordinate dimensions D and channels C of the field that it asks for.
        samples: Samples of the signal along each coordinate.
        device: Where its tensors are.
    """

    in_features: int
    out_features: int
    samples: tuple[int, ...]
    device: device
