"""Inpainting: fit ONE field to part of one image's pixels, under a prior on its derivatives (paper, section 4.1).

The loss is the mean squared error over known pixels plus k times a prior, the mean over random points of

    total variation    |grad y|        (the norm over coordinates)
    Hessian prior      |H y|_F         (the Frobenius norm of the Hessian)

each averaged over channels, by the coordinates in [-1, 1].
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.operators import prior_energy
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep
from hypersiren.tasks.images.image import Image, open_known
from hypersiren.tasks.images.settings import InpaintLoss, InpaintSettings
from hypersiren.tasks.task import Points, content_digest
from hypersiren.tasks.windows import solve_windows


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
        image, range, valid, units, bands: As of `Image`; pixels that are not known serve for `evaluate` alone.
        loss: The prior, its weight k, and its random points a step, which are drawn anywhere in [-1, 1]^2.
        known: (H, W) bools, True where known; None where all are.
        points: Random known pixels a step; None for all.

    Attributes:
        completed: The image as a model completed it, values on [-1, 1]: windows are solved for it; None for none.

    Example:
        >>> from hypersiren import Siren
        >>> task = Inpaint(torch.zeros(8, 8, 1), InpaintLoss(prior="hessian"), known=torch.rand(8, 8) < 0.5)
        >>> sorted(task.loss(Siren(2, 1, 8), task.sample(torch.Generator())))
        ['hessian', 'mse']
    """

    name = "inpaint"
    windowed = False  # a prior that keeps edges is not linear
    defaults = InpaintSettings()
    completed: Float[Tensor, "H W C"] | None = None

    def __init__(
        self,
        image: Any,
        loss: InpaintLoss = InpaintLoss(),  # noqa: B008 - frozen
        *,
        known: Any,
        points: int | None = None,
        range: tuple[float, float] | None = None,
        valid: Any = None,
        units: tuple[float, float] | None = None,
        bands: bool | None = None,
    ):
        super().__init__(image, points=points, known=known, range=range, valid=valid, units=units, bands=bands)
        self.prior, self.weight, self.prior_points = loss.prior, loss.weight, loss.prior_points

    @classmethod
    def open(  # type: ignore[override]  # of other settings than an Image
        cls, settings: InpaintSettings, device: torch.device | str = "cpu"
    ) -> "Inpaint":
        """As for an image, but where nothing says what is known it is a tenth of the pixels.

        Args:
            settings: `InpaintSettings`.
            device: Where to compute.
        """
        signal = settings.signal
        if signal.share is None and signal.mask is None:
            settings = settings.replace(signal=signal.replace(share=0.1))
        found = open_known(settings, bands=True)
        words: dict[str, Any] = {"known": found.known, "valid": found.valid, "units": found.range, "bands": True}
        return cls(found.pixels.to(device), settings.loss, points=settings.training.points, range=(-1, 1), **words)

    def start(self, completed: Float[Tensor, "H W C"]) -> None:
        """Take the image as a model completed it, values on [-1, 1]: `windowed_field` then solves windows for it."""
        self.completed, self.windowed = completed, True

    def windowed_field(self, network: Network, keep: Keep | None = None) -> nn.Module:
        """The windowed field of the completed image."""
        whole = self.completed
        assert whole is not None
        read = lambda a, b: whole[a:b]  # noqa: E731
        return solve_windows(self.size, read, self.out_features, network, self.device, keep=keep, memo=self.memo)

    def digest(self) -> str:
        return super().digest() if self.completed is None else content_digest(self.pixels, self.known, self.completed)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Any:
        known = super().sample(generator, progress)
        x = torch.rand(self.prior_points, 2, generator=generator, device=known.x.device, dtype=known.x.dtype) * 2 - 1
        return InpaintBatch(known, x)

    def loss(self, field: Any, batch: Any) -> dict[str, Tensor]:
        terms = super().loss(field, batch.known)
        if self.prior != "none":
            terms[self.prior] = self.weight * prior_energy(field, batch.x, self.prior).mean()
        return terms
