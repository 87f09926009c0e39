"""Poisson: regain an image from its gradient or its Laplacian alone (paper, section 4.1), and edit images through it.

    sum over points of |grad y - g|²      or      |laplacian y - l|²

each divided by the mean square of its target, so that a flat field has a loss of 1. The target leaves a constant free:
an `anchor` asks for the right value at the central pixel, and nothing else of the image is seen. Errors of the image
are reported after the free scale and constant have been removed by least squares, those of derivatives relative to the
range of their target.

Symbols: H x W pixels, N points of a batch, C channels, D = 2 coordinates.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.errors import UserError
from hypersiren.fields import operators
from hypersiren.fields.closed_form import solve_last_layer
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import grid
from hypersiren.fields.operators import Field
from hypersiren.fields.render import render_image, unit
from hypersiren.fields.settings import Network
from hypersiren.fields.siren import Siren
from hypersiren.fields.window_solve import Keep
from hypersiren.signals.image.filters import image_gradient, image_laplacian, integrate
from hypersiren.signals.image.opening import as_pixels, open_picture
from hypersiren.signals.metrics import psnr, ssim
from hypersiren.tasks.images.derivatives import (
    DERIVATIVES,
    SSIM,
    derivative_psnr,
    derivatives,
    gradient_row,
    image_row,
    laplacian_row,
    shown_every,
)
from hypersiren.tasks.images.settings import PoissonLoss, PoissonSettings
from hypersiren.tasks.panels import ImagePanel, Panel
from hypersiren.tasks.settings import FitSettings
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import FieldTask, Points, content_digest, draw
from hypersiren.tasks.windows import solve_windows

OPERATORS: dict[str, Callable[[Field, Tensor], Tensor]] = {
    "gradient": operators.gradient,
    "laplacian": operators.laplacian,
}


class Poisson(FieldTask):
    """The Poisson task.

    Args:
        image: The truth, a file, a PIL image, or an array or tensor (H, W), (H, W, 1) or (H, W, 3), floats in [-1, 1];
            see `hypersiren.signals.image.opening.as_pixels`. Seen only through its derivatives (and the anchor).
        loss: What is supervised: the target, the filter that makes it (see `hypersiren.signals.image.filters`), and the
            weight of the anchor. A spectral target is asked for on a finer grid: between the pixels the field could
            otherwise take any course, and the image drifts.
        points: Random pixels a step; None for all.
        range: What an array's values run over, (low, high), where its type does not tell.

    Raises:
        SignalError: If `image` is no picture.
        ValueError: If the filter does not make this target.

    Example:
        >>> from hypersiren import Siren
        >>> task = Poisson(torch.rand(8, 8, 1), points=20, range=(0, 1))
        >>> sorted(task.loss(Siren(2, 1, 8), task.sample(torch.Generator())))
        ['anchor', 'gradient']
    """

    name = "poisson"
    defaults: FitSettings = PoissonSettings()
    unit = "points"
    criterion: str | None = "error"
    in_features = 2
    playback: Mapping[str, Any] = {"kind": "image"}
    measures: Sequence[Measure] = (
        Measure("psnr", "PSNR of the image", "dB", "higher"),
        SSIM,
        Measure("error", "relative squared error of the derivative that is fitted"),
        *DERIVATIVES,
    )

    def __init__(
        self,
        image: Any,
        loss: PoissonLoss = PoissonLoss(),  # noqa: B008 - frozen
        *,
        points: int | None = None,
        range: tuple[float, float] | None = None,
    ):
        self._pose(as_pixels(image, range=range), loss, points)

    def _pose(self, pixels: Float[Tensor, "H W C"], loss: PoissonLoss, points: int | None) -> None:
        """The task of pixels of any values."""
        self.pixels, self.target, self.anchor = pixels, loss.target, loss.anchor
        self.size: tuple[int, int] = (pixels.shape[0], pixels.shape[1])
        self.samples: tuple[int, ...] = self.size
        self.device = pixels.device
        self.out_features = pixels.shape[2]
        self.grid = grid(self.size, device=pixels.device)
        derive = image_gradient if loss.target == "gradient" else image_laplacian
        self.windowed = loss.target == "gradient"
        self._supervise(derive(pixels, loss.filter, loss.finer if loss.filter == "spectral" else 1))
        self.at_pixels = derive(pixels, loss.filter)
        self.points = points if points and points < len(self.targets.x) else None
        self.batch_size = self.points or len(self.targets.x)
        # Of a Laplacian every harmonic function is free: least squares would take any.
        self.refit_every = loss.refit if loss.target == "gradient" else None
        center = (self.size[0] // 2) * self.size[1] + self.size[1] // 2
        self.center = Points(self.grid[center : center + 1], pixels.flatten(0, 1)[center : center + 1])

    @classmethod
    def open(cls, settings: PoissonSettings, device: torch.device | str = "cpu") -> "Poisson":
        """The task of an image file.

        Args:
            settings: `PoissonSettings`.
            device: Where to compute.

        Raises:
            SignalError: If the file cannot be read.
            UserError: If the filter does not make the target.
        """
        signal = settings.signal
        pixels = open_picture(signal.path, size=signal.size, gray=signal.gray, range=signal.range).to(device)
        try:
            return cls(pixels, settings.loss, points=settings.training.points, range=(-1, 1))
        except ValueError as error:
            raise UserError(f"loss.filter: {error}") from None

    def _supervise(self, target: Float[Tensor, "H W C *D"]) -> None:
        self.target_size = (target.shape[0], target.shape[1])
        self.targets = Points(grid((target.shape[0], target.shape[1]), device=target.device), target.flatten(0, 1))
        # A flat image has a flat target, whose mean square is 0.
        self.scale = target.square().mean().clamp_min(1e-12)

    def windowed_field(self, network: Network, keep: Keep | None = None) -> nn.Module:
        """The windowed field of the image that is integrated from the derivative, on the grid of the targets.

        See `hypersiren.signals.image.filters.integrate`; its constant is that of the central pixel.
        """
        field = self._solved(self._integrated(), network, keep)
        with torch.no_grad():
            field.offset.add_((self.center.y - field(self.center.x)).squeeze(0))
        return field

    def _integrated(self) -> Float[Tensor, "FH FW C"]:
        """The image, but for a constant, on the grid of the targets."""
        return integrate(self.targets.y.unflatten(0, self.target_size), self.size)

    def _solved(self, image: Float[Tensor, "FH FW C"], network: Network, keep: Keep | None) -> CompactWindows:
        """The windowed field of an image on the grid of the targets."""
        return solve_windows(
            self.target_size,
            lambda a, b: image[a:b],
            self.out_features,
            network,
            self.device,
            keep=keep,
            memo=self.memo,
            finer=self.target_size[0] // self.size[0],
        )

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Points:
        """Random pixels, or all of them."""
        return draw(self.targets, self.points, generator)

    def loss(self, field: Field, batch: Points) -> dict[str, Tensor]:
        """The relative squared error of the supervised derivative, and the anchor."""
        error = (OPERATORS[self.target](field, batch.x) - batch.y).square().mean()
        anchor = (field(self.center.x) - self.center.y).square().mean()
        return {self.target: error / self.scale, "anchor": self.anchor * anchor}

    def refit(self, field: Any, batch: Points) -> None:
        """Solve the last layer of a SIREN for the gradient, and its bias for the central pixel.

        Errors of low frequency, which a gradient hardly shows, are gone at once; in gradient steps they go slowly.
        """
        if isinstance(field, Siren):
            solve_last_layer(field, batch.x, batch.y)
            with torch.no_grad():
                list(field.last().values())[1].add_((self.center.y - field(self.center.x)).squeeze(0))

    def digest(self) -> str:
        return content_digest(self.pixels)

    def evaluate(self, field: Field) -> dict[str, float]:
        """PSNR and SSIM of the image, PSNR of its gradient and Laplacian, relative error of what is supervised.

        A derivative that is not supervised is compared to the paper's filter, Sobel's or the Laplace stencil.
        """
        gradient, laplacian = self.once(field, self.derivatives)
        fit, truth = self.once(field, self.render), (self.pixels + 1) / 2
        found = gradient if self.target == "gradient" else laplacian
        return {
            "error": ((found - self.at_pixels).square().mean() / self.scale).item(),
            "psnr": psnr(fit, truth),
            "ssim": ssim(fit, truth),
            **derivative_psnr(gradient, laplacian, *self._true_derivatives()),
        }

    def _true_derivatives(self) -> tuple[Tensor, Tensor]:
        if self.target == "gradient":
            return self.at_pixels, image_laplacian(self.pixels)
        return image_gradient(self.pixels, "sobel"), self.at_pixels

    def panels(self, field: Field) -> dict[str, Panel]:
        """The regained image."""
        return {"fit": ImagePanel(self.once(field, self.render))}

    def summary(self, field: Field) -> Rows:
        """Image, gradient and Laplacian, each beside the truth."""
        every = shown_every(self.size)
        gradient, laplacian = (found[::every, ::every] for found in self.once(field, self.derivatives))
        true_gradient, true_laplacian = (found[::every, ::every] for found in self._true_derivatives())
        titles = "Truth", "Result, best scale and constant", "Error"
        image = image_row((self.pixels + 1) / 2, self.once(field, self.render), titles)
        scores = list(derivative_psnr(gradient, laplacian, true_gradient, true_laplacian).values())
        return [
            image,
            gradient_row(true_gradient, gradient, score=scores[0]),
            laplacian_row(true_laplacian, laplacian, score=scores[1]),
        ]

    def derivatives(self, field: Field) -> tuple[Float[Tensor, "H W C D"], Float[Tensor, "H W C"]]:
        """Gradient and Laplacian at the pixels."""
        return derivatives(field, self.size, self.device)

    def render(self, field: Field) -> Float[Tensor, "H W C"]:
        """The regained image on [0, 1], clipped, with the scale and the constants that fit the truth best."""
        return unit(best_affine(render_image(field, self.size, device=self.device), self.pixels))


def best_affine(y: Float[Tensor, "H W C"], truth: Float[Tensor, "H W C"]) -> Float[Tensor, "H W C"]:
    """a y + b_c nearest to the truth: one scale for all channels, a constant for each.

    Example:
        >>> truth = torch.rand(4, 4, 3)
        >>> torch.allclose(best_affine(3 * truth + torch.tensor([1.0, 2.0, 3.0]), truth), truth, atol=1e-5)
        True
    """
    mean, true_mean = y.mean((0, 1)), truth.mean((0, 1))
    scale = ((y - mean) * (truth - true_mean)).sum() / (y - mean).square().sum().clamp_min(1e-12)
    return scale * (y - mean) + true_mean
