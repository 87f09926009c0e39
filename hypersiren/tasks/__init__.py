"""Tasks: one file per kind of question asked of a field. A task never learns where the field's weights came from.

A task has

    sample(generator) -> batch          a frozen dataclass per task, tensors already on the device
    loss(field, batch) -> terms         named, weighted terms; the training loop only sums them
    evaluate(...) -> numbers            what the paper reports
    panels(...) -> {name: Panel}        what a person wants to see
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ImagePanel:
    """A picture for a person: (H, W, C) values in [0, 1], C = 1 or 3."""

    pixels: Float[Tensor, "H W C"]


Panel = ImagePanel
