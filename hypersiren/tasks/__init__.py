"""Tasks: one file per kind of question asked of a field. A task never learns where the field's weights came from."""

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Generator, Tensor, device

from hypersiren.meshes import Mesh

Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ImagePanel:
    """A picture for a person: (H, W, C) values in [0, 1], C = 1 or 3."""

    pixels: Float[Tensor, "H W C"]


@dataclass(frozen=True)
class SoundPanel:
    """A sound for a person: (N, C) amplitudes, 1 being full scale, so many samples a second."""

    wave: Float[Tensor, "N C"]
    rate: int


@dataclass(frozen=True)
class VideoPanel:
    """A clip for a person, at so many frames a second."""

    frames: UInt8[Tensor, "T H W C"]
    fps: float

    def middle(self) -> ImagePanel:
        """The frame in the middle."""
        return ImagePanel(self.frames[len(self.frames) // 2] / 255)


@dataclass(frozen=True)
class MeshPanel:
    """A surface for a person, in the units of the signal."""

    mesh: Mesh


Panel = ImagePanel | SoundPanel | VideoPanel | MeshPanel


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
class SetTask(Task, Protocol):
    """A task on a set of signals, for which a hypernetwork predicts fields: its batches hold the `context` of each.

    Its `evaluate` and `panels` are given a function from a context to the fields predicted from it.

    Attributes:
        train: The signals to learn from.
    """

    @property
    def train(self) -> Sized: ...


@runtime_checkable
class FieldTask(Task, Protocol):
    """A task on one signal, that one field can be fitted to.

    Its class method `open` makes it from what settings say: the keys of `signal` and `loss`, points, seed and device.

    Attributes:
        in_features, out_features: Coordinate dimensions D and channels C of the field that it asks for.
        samples: Samples of the signal along each coordinate.
        device: Where its tensors are.

    A task may also have
        playback: What a rendering must know beside the field: rate and scale of a sound, frames a second of a video,
            scale and place of a shape.
        first_omega: The first omega that suits its signal.
    """

    in_features: int
    out_features: int
    samples: tuple[int, ...]
    device: device
