"""Image: fit one field to the pixels of one image, or to part of them (paper, section 3.1).

Values are in [-1, 1]; errors are reported on [0, 1] after clipping, over all pixels, known or not.

Symbols: H x W pixels, N points of a batch, C channels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren import operators
from hypersiren.coords import evaluate, grid
from hypersiren.filters import image_gradient, image_laplacian
from hypersiren.metrics import psnr, ssim
from hypersiren.pictures import draw_gradient, draw_signed, open_mask, open_picture
from hypersiren.signals import SignalError
from hypersiren.tasks import Field, ImagePanel, Panel

CHUNK = 32768
"""Points at which derivatives are evaluated at a time."""


@dataclass(frozen=True)
class Points:
    """N points and what the field shall be there.

    Attributes:
        x: (N, D) coordinates.
        y: (N, C) values, or (N, C, D) gradients.
    """

    x: Float[Tensor, "N D"]
    y: Float[Tensor, "N C *D"]


class Image:
    """The image task.

    Args:
        pixels: (H, W, C) values in [-1, 1], on the device where it shall run.
        points: Random pixels a step, with replacement; None for all known ones in every step, as in the paper.
        known: Which pixels may be learned from; None for all.

    Raises:
        ValueError: If `known` has another size or no known pixel.

    Example:
        >>> task = Image(torch.zeros(8, 6, 3), points=10)
        >>> batch = task.sample(torch.Generator().manual_seed(0))
        >>> batch.x.shape, batch.y.shape
        (torch.Size([10, 2]), torch.Size([10, 3]))
    """

    name = "image"
    unit = "points"
    criterion: str | None = "mse"
    in_features = 2

    def __init__(
        self, pixels: Float[Tensor, "H W C"], *, points: int | None = None, known: Bool[Tensor, "H W"] | None = None
    ):
        self.pixels, self.known = pixels, known
        self.size: tuple[int, int] = (pixels.shape[0], pixels.shape[1])
        self.samples: tuple[int, ...] = self.size
        self.device = pixels.device
        self.out_features = pixels.shape[2]
        self.grid = grid(self.size, device=pixels.device)
        self.all = Points(self.grid, pixels.flatten(0, 1))
        if known is not None:
            if known.shape != self.size or not known.any():
                raise ValueError(
                    f"expected a mask of {self.size} with a known pixel, got {tuple(known.shape)} with {known.sum()}"
                )
            index = known.flatten().nonzero().squeeze(1)
            self.all = Points(self.grid[index], self.all.y[index])
        self.points = points if points and points < len(self.all.x) else None
        self.batch_size = self.points or len(self.all.x)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        size: int | tuple[int, int] | None = None,
        gray: bool | None = None,
        share: float | None = None,
        mask: Path | None = None,
        points: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        **prior: Any,
    ) -> "Image":
        """The task of an image file, see `hypersiren.fit_config`.

        Raises:
            SignalError: If a file cannot be read, or no pixel is known.
        """
        pixels = open_picture(path, size=size, gray=gray).to(device)
        known = None if mask is None else open_mask(mask, path, size).to(device)
        if known is not None and not known.any():
            raise SignalError("no pixel is known: none of the mask is bright", mask)
        if share is not None:
            known = random_share(
                torch.ones_like(pixels[..., 0], dtype=torch.bool) if known is None else known, share, seed
            )
        return cls(pixels, points=points, known=known, **prior)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Points:
        """Random known pixels, or all of them."""
        return draw(self.all, self.points, generator)

    def loss(self, field: Field, batch: Points) -> dict[str, Tensor]:
        """The mean squared error, values in [-1, 1]."""
        return {"mse": (field(batch.x) - batch.y).square().mean()}

    def evaluate(self, field: Field) -> dict[str, float]:
        """PSNR (of the mean squared error over all values) and SSIM of the whole image."""
        fit, truth = self.render(field), self.truth
        error = (fit - truth).square().mean().item()
        return {"mse": error, "psnr": psnr(fit, truth), "ssim": ssim(fit, truth)}

    def evaluate_derivatives(self, field: Field) -> dict[str, float]:
        """PSNR of gradient and Laplacian against the paper's filters, Sobel's and the Laplace stencil."""
        true_derivatives = image_gradient(self.pixels, "sobel"), image_laplacian(self.pixels)
        return derivative_psnr(*derivatives(field, self.size, self.grid), *true_derivatives)

    def panels(self, field: Field) -> dict[str, Panel]:
        """Fit, gradient (direction as hue, strength as brightness) and Laplacian, each beside the truth, and error."""
        fit = self.render(field)
        panels = derivative_panels(fit, *derivatives(field, self.size, self.grid))
        true_derivatives = image_gradient(self.pixels), image_laplacian(self.pixels)
        panels |= {f"true_{name}": p for name, p in derivative_panels(self.truth, *true_derivatives).items()}
        panels["error"] = ImagePanel(0.5 + 0.5 * (fit - self.truth))  # 0 is mid gray
        if self.known is not None:
            panels["known"] = ImagePanel(torch.where(self.known[..., None], self.truth, 0.5))
        return panels

    @property
    def truth(self) -> Float[Tensor, "H W C"]:
        """The image on [0, 1]."""
        return (self.pixels + 1) / 2

    def render(self, field: Field) -> Float[Tensor, "H W C"]:
        """The fitted image on [0, 1], clipped."""
        return ((evaluate(field, self.grid) + 1) / 2).clamp(0, 1).view_as(self.pixels)


def derivative_panels(
    fit: Float[Tensor, "H W C"], gradient: Float[Tensor, "H W C D"], laplacian: Float[Tensor, "H W C"]
) -> dict[str, Panel]:
    """An image with its gradient and its Laplacian, as in the paper's figure 1."""
    return {
        "fit": ImagePanel(fit),
        "gradient": ImagePanel(draw_gradient(gradient)),
        "laplacian": ImagePanel(draw_signed(laplacian)),
    }


def derivative_psnr(
    gradient: Float[Tensor, "H W C D"],
    laplacian: Float[Tensor, "H W C"],
    true_gradient: Float[Tensor, "H W C D"],
    true_laplacian: Float[Tensor, "H W C"],
) -> dict[str, float]:
    """PSNR of a gradient and a Laplacian, relative to the range of the true one's values."""
    pairs = {"gradient_psnr": (gradient, true_gradient), "laplacian_psnr": (laplacian, true_laplacian)}
    return {
        name: psnr(found, truth, max((truth.max() - truth.min()).item(), 1e-12))
        for name, (found, truth) in pairs.items()
    }


def random_share(known: Bool[Tensor, "H W"], share: float, seed: int) -> Bool[Tensor, "H W"]:
    """A random share of what is known, at least one pixel of it."""
    index = known.flatten().nonzero().squeeze(1).cpu()
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))
    chosen = torch.zeros(known.numel(), dtype=torch.bool)
    chosen[index[order[: max(1, round(share * len(index)))]]] = True
    return chosen.view(known.shape).to(known.device)


def draw(points: Points, count: int | None, generator: torch.Generator) -> Points:
    """So many of the points: one at random from each of so many equal runs of their order; all of them if None.

    Such a batch covers the signal evenly, and its gradient varies less than that of independent points.
    """
    if count is None:
        return points
    index = stratified(len(points.x), count, generator, points.x.device)
    return Points(points.x[index], points.y[index])


def stratified(n: int, count: int, generator: torch.Generator, device: torch.device) -> Int[Tensor, " N"]:
    """So many indices below n: one at random from each of so many equal runs."""
    # In float64: a float32 cannot count the samples of a minute of sound.
    place = torch.arange(count, device=device, dtype=torch.float64)
    place += torch.rand(count, generator=generator, device=device, dtype=torch.float64)
    return (place * (n / max(count, 1))).long().clamp_max(n - 1)


@torch.no_grad()
def derivatives(
    field: Field, size: tuple[int, int], x: Float[Tensor, "N D"]
) -> tuple[Float[Tensor, "H W C D"], Float[Tensor, "H W C"]]:
    """A field's gradient and Laplacian at the pixels of an image, in chunks."""
    parts = x.split(CHUNK)
    gradient = torch.cat([operators.gradient(field, part) for part in parts])
    laplacian = torch.cat([operators.laplacian(field, part) for part in parts])
    return gradient.unflatten(0, size), laplacian.unflatten(0, size)
