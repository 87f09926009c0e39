"""Poisson: regain an image from its gradient or its Laplacian alone (paper, section 4.1), and edit images through it.

    sum over points of |grad y - g|²      or      |laplacian y - l|²

each divided by the mean square of its target, so that a flat field has a loss of 1. The target leaves a constant free:
an `anchor` asks for the right value at the central pixel, and nothing else of the image is seen. Errors of the image
are reported after the free scale and constant have been removed by least squares, those of derivatives relative to the
range of their target.

Symbols: H x W pixels, N points of a batch, C channels, D = 2 coordinates.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren import operators
from hypersiren.coords import evaluate, grid
from hypersiren.errors import UserError
from hypersiren.filters import Filter, image_gradient, image_laplacian
from hypersiren.metrics import psnr, ssim
from hypersiren.pictures import open_picture
from hypersiren.tasks import Field, Panel
from hypersiren.tasks.image import Points, derivative_panels, derivative_psnr, derivatives, draw, shown_derivatives

Target = Literal["gradient", "laplacian"]

OPERATORS: dict[Target, Callable[[Field, Tensor], Tensor]] = {
    "gradient": operators.gradient,
    "laplacian": operators.laplacian,
}


class Poisson:
    """The Poisson task.

    Args:
        pixels: (H, W, C) values in [-1, 1], the truth; seen only through their derivatives (and the anchor).
        target: What is supervised.
        filter: The filter that makes the target, see `hypersiren.filters`: "sobel" or "central" (gradient), "stencil"
            (Laplacian), "spectral" (either).
        finer: A spectral target is asked for on a grid so many times as fine as the pixels along each axis: between
            the pixels the field could otherwise take any course, and the image drifts.
        points: Random pixels a step; None for all.
        anchor: Weight of the squared error at the central pixel.

    Raises:
        ValueError: If the filter does not make this target.

    Example:
        >>> from hypersiren import Siren
        >>> task = Poisson(torch.rand(8, 8, 1), points=20)
        >>> sorted(task.loss(Siren(2, 1, 8), task.sample(torch.Generator())))
        ['anchor', 'gradient']
    """

    name = "poisson"
    unit = "points"
    criterion: str | None = "error"
    in_features = 2

    def __init__(
        self,
        pixels: Float[Tensor, "H W C"],
        *,
        target: Target = "gradient",
        filter: Filter = "spectral",
        finer: int = 2,
        points: int | None = None,
        anchor: float = 1.0,
    ):
        self.pixels, self.target, self.anchor = pixels, target, anchor
        self.size: tuple[int, int] = (pixels.shape[0], pixels.shape[1])
        self.samples: tuple[int, ...] = self.size
        self.device = pixels.device
        self.out_features = pixels.shape[2]
        self.grid = grid(self.size, device=pixels.device)
        derive = image_gradient if target == "gradient" else image_laplacian
        self._supervise(derive(pixels, filter, finer if filter == "spectral" else 1))
        self.at_pixels = derive(pixels, filter)
        self.points = points if points and points < len(self.targets.x) else None
        self.batch_size = self.points or len(self.targets.x)
        center = (self.size[0] // 2) * self.size[1] + self.size[1] // 2
        self.center = Points(self.grid[center : center + 1], pixels.flatten(0, 1)[center : center + 1])

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        size: int | tuple[int, int] | None = None,
        gray: bool | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        **arguments: Any,
    ) -> "Poisson":
        """The task of an image file, see `hypersiren.fit_config`.

        Raises:
            SignalError: If the file cannot be read.
            UserError: If the filter does not make the target.
        """
        pixels = open_picture(path, size=size, gray=gray).to(device)
        try:
            return cls(pixels, **arguments)
        except ValueError as error:
            raise UserError(f"loss.filter: {error}") from None

    def _supervise(self, target: Float[Tensor, "H W C *D"]) -> None:
        self.targets = Points(grid((target.shape[0], target.shape[1]), device=target.device), target.flatten(0, 1))
        # A flat image has a flat target, whose mean square is 0.
        self.scale = target.square().mean().clamp_min(1e-12)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Points:
        """Random pixels, or all of them."""
        return draw(self.targets, self.points, generator)

    def loss(self, field: Field, batch: Points) -> dict[str, Tensor]:
        """The relative squared error of the supervised derivative, and the anchor."""
        error = (OPERATORS[self.target](field, batch.x) - batch.y).square().mean()
        anchor = (field(self.center.x) - self.center.y).square().mean()
        return {self.target: error / self.scale, "anchor": self.anchor * anchor}

    def evaluate(self, field: Field) -> dict[str, float]:
        """PSNR and SSIM of the image, PSNR of its gradient and Laplacian, relative error of what is supervised.

        A derivative that is not supervised is compared to the paper's filter, Sobel's or the Laplace stencil.
        """
        gradient, laplacian = derivatives(field, self.size, self.grid)
        fit, truth = self.render(field), (self.pixels + 1) / 2
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
        """Fit, gradient (direction as hue, strength as brightness) and Laplacian, each beside the truth."""
        panels = derivative_panels(self.render(field), *shown_derivatives(field, self.size, self.grid))
        truth = derivative_panels((self.pixels + 1) / 2, *self._true_derivatives())
        return panels | {f"true_{name}": panel for name, panel in truth.items()}

    def render(self, field: Field) -> Float[Tensor, "H W C"]:
        """The regained image on [0, 1], clipped, with the scale and the constants that fit the truth best."""
        y = evaluate(field, self.grid).view_as(self.pixels)
        return ((best_affine(y, self.pixels) + 1) / 2).clamp(0, 1)


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
