"""Inpainting: fit ONE field to part of one image's pixels, under a prior on its derivatives (paper, section 4.1).

The loss is the mean squared error over known pixels plus k times a prior, the mean over random points of

    total variation    |grad y|        (the norm over coordinates)
    Hessian prior      |H y|_F         (the Frobenius norm of the Hessian)

each averaged over channels, by the coordinates in [-1, 1].
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren import operators
from hypersiren.tasks.image import Image, Points

Prior = Literal["none", "tv", "hessian"]


@dataclass(frozen=True)
class InpaintBatch:
    """Known pixels, and points for the prior.

    Attributes:
        known: Pixels with their values.
        x: (N, D) points at which the prior is asked.
    """

    known: Points
    x: Float[Tensor, "N D"]


class Inpaint(Image):
    """The inpainting task.

    Args:
        pixels: (H, W, C) values in [-1, 1]; those that are not known serve for `evaluate` alone.
        known: (H, W) True where known; None where all are.
        points: Random known pixels a step; None for all.
        prior: "tv", "hessian" or "none".
        weight: k.
        prior_points: Random points a step for the prior, drawn anywhere in [-1, 1]^2.

    Example:
        >>> from hypersiren import Siren
        >>> task = Inpaint(torch.rand(8, 8, 1), known=torch.rand(8, 8) < 0.5, prior="hessian", weight=1e-3)
        >>> sorted(task.loss(Siren(2, 1, 8), task.sample(torch.Generator())))
        ['hessian', 'mse']
    """

    name = "inpaint"

    def __init__(
        self,
        pixels: Float[Tensor, "H W C"],
        *,
        known: Bool[Tensor, "H W"] | None,
        points: int | None = None,
        prior: Prior = "tv",
        weight: float = 3e-3,
        prior_points: int = 2048,
    ):
        super().__init__(pixels, points=points, known=known)
        self.prior, self.weight, self.prior_points = prior, weight, prior_points

    @classmethod
    def open(
        cls, path: str | Path, *, share: float | None = None, mask: Path | None = None, **arguments: Any
    ) -> "Image":
        """As for an image, but where nothing says what is known it is a tenth of the pixels."""
        share = 0.1 if share is None and mask is None else share
        return super().open(path, share=share, mask=mask, **arguments)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Any:
        known = super().sample(generator, progress)
        x = torch.rand(self.prior_points, 2, generator=generator, device=known.x.device, dtype=known.x.dtype) * 2 - 1
        return InpaintBatch(known, x)

    def loss(self, field: Any, batch: Any) -> dict[str, Tensor]:
        terms = super().loss(field, batch.known)
        if self.prior != "none":
            terms[self.prior] = self.weight * prior_energy(field, batch.x, self.prior).mean()
        return terms


def prior_energy(field: Any, x: Float[Tensor, "*batch N D"], prior: Literal["tv", "hessian"]) -> Float[Tensor, "*out"]:
    """The mean over points and channels of the gradient's norm, or of the Hessian's; one number for each signal."""
    if prior == "tv":
        return operators.gradient(field, x).norm(dim=-1).mean((-1, -2))
    return operators.hessian(field, x).flatten(-2).norm(dim=-1).mean((-1, -2))
