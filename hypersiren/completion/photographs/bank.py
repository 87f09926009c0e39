"""A bank of crops with their posteriors, from which the network that corrects these is trained.

The mixture of an `Inpainter` takes far longer than a training step of its network, and does not change while that is
trained. So crops are cut, hidden in part and completed by it once; a batch is made of parts of these, turned, mirrored,
and with the channels in another order, which turns the axes of the two chromas.

Symbols: N crops, B crops of a batch, H x W pixels.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from hypersiren.fields.progress import now_and_then
from hypersiren.hypernets.inpainter import Inpainter, colour_axes
from hypersiren.signals.files import atomic_write
from hypersiren.training.seeds import host_generator

LOG = logging.getLogger(__name__)

EACH = 4
"""Crops that are completed at a time."""

SAY_SECONDS = 20.0
"""Seconds between lines on the progress."""


@dataclass(frozen=True)
class PhotographBatch:
    """Crops in the axes of colour.

    Attributes:
        y: (B, 3, H, W), the truth.
        filled: The same with the unknown pixels filled in.
        known: (B, H, W).
        mean, logarithm: The posterior, where it was computed before, see `Inpainter.posterior`.
    """

    y: Float[Tensor, "B 3 H W"]
    filled: Float[Tensor, "B 3 H W"]
    known: Bool[Tensor, "B H W"]
    mean: Float[Tensor, "B 3 H W"] | None = None
    logarithm: Float[Tensor, "B 3 H W"] | None = None

    def completed_by(self, model: Any, mirrored: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Means before and after the correction, and the logarithms of the deviations.

        Args:
            model: An `Inpainter`.
            mirrored: Whether the correction is the mean over mirror images, as of a completion, or of one: in training.
        """
        before = (self.mean, self.logarithm) if self.mean is not None else model.posterior(self.filled, self.known)
        correct = model.corrected if mirrored else model.network
        return before[0], *correct(self.filled, *before, self.known)


@dataclass(frozen=True)
class PhotographBank:
    """Crops in the axes of colour and their posteriors, in half precision.

    Attributes:
        y: The truth.
        filled: The first guess.
        mean: The posterior's means.
        logarithm: Logarithms of its deviations, of luminance and of both chromas.
        known: Known pixels.
    """

    y: Float[Tensor, "N 3 H W"]
    filled: Float[Tensor, "N 3 H W"]
    mean: Float[Tensor, "N 3 H W"]
    logarithm: Float[Tensor, "N 2 H W"]
    known: Bool[Tensor, "N H W"]

    @classmethod
    @torch.no_grad()
    def make(cls, model: Inpainter, draw: Callable[[int], PhotographBatch], count: int) -> "PhotographBank":
        """Complete crops by a model's mixture.

        Args:
            model: Has the mixture.
            draw: From a number to so many crops.
            count: N.
        """
        parts: list[tuple[Tensor, ...]] = []
        due = now_and_then(SAY_SECONDS)
        for start in range(0, count, EACH):
            batch = draw(min(EACH, count - start))
            mean, logarithm = model.posterior(batch.filled, batch.known)
            halves = [each.half() for each in (batch.y, batch.filled, mean, logarithm[:, :2])]
            parts.append((*halves, batch.known))
            if due():
                LOG.info("completing training crops: %d of %d", start + len(mean), count)
        return cls(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self.y)

    def write(self, path: Path, key: str) -> None:
        """Keep a bank in a file; a disk without room for it costs a warning.

        Args:
            path: The file, 23 bytes for each pixel.
            key: What the bank depends on.
        """
        try:
            with atomic_write(path) as file:
                tensors = {name: each.cpu().contiguous() for name, each in vars(self).items()}
                file.write(safetensors.torch.save(tensors, {"key": key}))
        except OSError as error:
            LOG.warning("%s cannot be written (%s): a run that is resumed computes it again", path, error.strerror)

    @classmethod
    def read(cls, path: Path, key: str, device: torch.device | str = "cpu") -> "PhotographBank | None":
        """The bank of a file, if there is one of this key."""
        try:
            with safetensors.safe_open(path, "pt", str(device)) as file:
                if (file.metadata() or {}).get("key") != key:
                    return None
                return cls(**{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - no mapping
        except (OSError, safetensors.SafetensorError):
            return None

    def sample(self, count: int, pixels: int, generator: Generator) -> PhotographBatch:
        """A batch of parts of crops.

        Args:
            count: B.
            pixels: Of their sides.
            generator: Draws.
        """
        host = host_generator(generator)
        axes = colour_axes()
        low = [n - pixels + 1 for n in self.known.shape[1:]]
        chosen = torch.randint(len(self), (count,), generator=host).tolist()
        places = (torch.rand(count, 2, generator=host) * torch.tensor(low)).long().tolist()
        turns = torch.randint(8, (count,), generator=host).tolist()
        orders = torch.stack([axes.T @ axes[torch.randperm(3, generator=host)] for _ in range(count)])
        found: list[list[Tensor]] = [[], [], [], [], []]
        for index, (i, j), turn in zip(chosen, places, turns, strict=True):
            for whole, parts in zip((self.y, self.filled, self.mean, self.logarithm, self.known), found, strict=True):
                part = whole[index, ..., i : i + pixels, j : j + pixels]
                part = part.flip([axis for axis, bit in ((-1, 1), (-2, 2)) if turn & bit])
                parts.append(part.mT if turn & 4 else part)
        y, filled, mean, logarithm, known = (torch.stack(parts) for parts in found)
        orders = orders.to(y.device)
        y, filled, mean = (torch.einsum("bij,bjhw->bihw", orders, each.float()) for each in (y, filled, mean))
        return PhotographBatch(y, filled, known, mean, logarithm.float()[:, [0, 1, 1]])
