"""Image: fit one field to the pixels of one image, or to part of them (paper, section 3.1).

Values are in [-1, 1]; errors are reported on [0, 1] after clipping, over all pixels, known or not.

Symbols: H x W pixels, N points of a batch, C channels.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from hypersiren.fields.coords import grid
from hypersiren.fields.operators import Field
from hypersiren.fields.raster import raster
from hypersiren.fields.render import unit
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep, fill
from hypersiren.plotting import Picture, thinning
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.filters import image_gradient, image_laplacian
from hypersiren.signals.image.opening import Opened, as_mask, as_pixels, open_values
from hypersiren.signals.metrics import mean_square, psnr, ssim
from hypersiren.tasks.images.bands import FalseColour
from hypersiren.tasks.images.derivatives import (
    DERIVATIVES,
    SSIM,
    derivative_psnr,
    derivatives,
    gradient_row,
    image_row,
    laplacian_row,
    shown_derivatives,
    shown_every,
)
from hypersiren.tasks.images.settings import ImageSettings, InpaintSettings
from hypersiren.tasks.panels import ImagePanel, Panel
from hypersiren.tasks.settings import FitSettings
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import LEAST_OMEGA, FieldTask, Points, content_digest, draw
from hypersiren.tasks.windows import solve_windows

COMMON = ((0, 255), (0, 65535), (0, 1))
"""What black and white are in the files of pictures; of others it is kept with a run."""


class Image(FieldTask):
    """The image task.

    Args:
        image: A file, a PIL image, or an array or tensor (H, W) or (H, W, C), floats in [-1, 1]; see
            `hypersiren.signals.image.opening.as_pixels`. A tensor stays on its device: there the task runs. Other than
            1 or 3 channels are bands, which are shown in false colours.
        points: Random pixels a step, evenly spread (see `draw`); None for all known ones, as in the paper.
        known: (H, W) bools, which pixels may be learned from; None for all.
        range: What an array's values run over, (low, high), where its type does not tell.
        valid: (H, W) bools, which pixels have a value at all: no others are known, or counted in errors; None for all.
        units: What -1 and 1 are in the file, which `render` writes again.
        bands: Whether any number of channels is meant; None where an array leaves no doubt.

    Raises:
        SignalError: If `image` is no picture, or `known` has another size or type or no known pixel.

    Example:
        >>> task = Image(torch.zeros(8, 6, 3), points=10)
        >>> batch = task.sample(torch.Generator().manual_seed(0))
        >>> batch.x.shape, batch.y.shape
        (torch.Size([10, 2]), torch.Size([10, 3]))
    """

    name = "image"
    defaults: FitSettings = ImageSettings()
    unit = "points"
    criterion: str | None = "mse"
    in_features = 2
    playback: Mapping[str, Any] = {"kind": "image"}
    windowed = True
    measures = (
        Measure("psnr", "PSNR", "dB", "higher"),
        SSIM,
        Measure("mse", "mean squared error on [0, 1]"),
        *DERIVATIVES,
    )

    pixels: Float[Tensor, "H W C"]
    known: Bool[Tensor, "H W"] | None
    valid: Bool[Tensor, "H W"] | None
    shown: FalseColour | None

    def __init__(
        self,
        image: Any,
        *,
        points: int | None = None,
        known: Any = None,
        range: tuple[float, float] | None = None,
        valid: Any = None,
        units: tuple[float, float] | None = None,
        bands: bool | None = None,
    ):
        pixels = as_pixels(image, range=range, bands=bands)
        self.size: tuple[int, int] = (pixels.shape[0], pixels.shape[1])
        self.samples: tuple[int, ...] = self.size
        self.device = pixels.device
        self.out_features = pixels.shape[2]
        self.known = None if known is None else as_mask(known, self.size).to(self.device)
        self.valid = None if valid is None else as_mask(valid, self.size).to(self.device)
        if self.valid is not None:
            self.known = self.valid if self.known is None else self.known & self.valid
            pixels = fill(pixels, self.valid)  # what pictures show there
        self.pixels = pixels
        self.shown = None if self.out_features in (1, 3) else FalseColour.of(self.truth)
        if self.shown is not None:
            self.playback = {**self.playback, **self.shown.playback, "units": list(units or (-1.0, 1.0))}
        elif units is not None and tuple(units) not in COMMON:
            self.playback = {**self.playback, "units": list(units)}
        if self.known is not None:
            self.criterion = None  # what is unknown must not choose
        # From 128 x 128 pixels on, a cycle of the first layer spans as many pixels in a large image as in a small one.
        self.first_omega = max(LEAST_OMEGA, LEAST_OMEGA / 128 * math.sqrt(math.prod(self.size)))
        count = math.prod(self.size) if self.known is None else int(self.known.sum())
        self.points = points if points and points < count else None
        self.batch_size = self.points or count

    @functools.cached_property
    def grid(self) -> Float[Tensor, "N 2"]:
        """The pixels' coordinates; windows do without."""
        return grid(self.size, device=self.device)

    @functools.cached_property
    def all(self) -> Points:
        """All known pixels."""
        points = Points(self.grid, self.pixels.flatten(0, 1))
        if self.known is None:
            return points
        index = self.known.flatten().nonzero().squeeze(1)
        return Points(points.x[index], points.y[index])

    @classmethod
    def open(cls, settings: ImageSettings, device: torch.device | str = "cpu") -> "Image":
        """The task of an image file.

        Args:
            settings: `ImageSettings`.
            device: Where to compute.

        Raises:
            SignalError: If a file cannot be read, or no pixel is known.
        """
        found = open_known(settings, bands=True)
        pixels, points = found.pixels.to(device), settings.training.points
        return cls(
            pixels, points=points, known=found.known, range=(-1, 1), valid=found.valid, units=found.range, bands=True
        )

    def windowed_field(self, network: Network, keep: Keep | None = None) -> nn.Module:
        """The windowed field of the known pixels."""
        read = lambda a, b: self.pixels[a:b]  # noqa: E731
        return solve_windows(
            self.size, read, self.out_features, network, self.device, known=self.known, keep=keep, memo=self.memo
        )

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Points:
        """Random known pixels, or all of them."""
        return draw(self.all, self.points, generator)

    def loss(self, field: Field, batch: Points) -> dict[str, Tensor]:
        """The mean squared error, values in [-1, 1]."""
        return {"mse": mse_loss(field(batch.x), batch.y)}

    def digest(self) -> str:
        return content_digest(self.pixels, self.known, *(() if self.valid is None else (self.valid,)))

    def evaluate(self, field: Field) -> dict[str, float]:
        """PSNR (of the mean squared error over all values) and SSIM; where some pixels have no value, no SSIM."""
        fit, truth = self.once(field, self.render), self.truth
        if self.valid is not None:
            fit, truth = fit[self.valid], truth[self.valid]
            return {"mse": mean_square(fit, truth), "psnr": psnr(fit, truth)}
        return {"mse": mean_square(fit, truth), "psnr": psnr(fit, truth), "ssim": ssim(fit, truth)}

    def evaluate_derivatives(self, field: Field) -> dict[str, float]:
        """PSNR of gradient and Laplacian against the paper's filters, Sobel's and the Laplace stencil."""
        true_derivatives = image_gradient(self.pixels, "sobel"), image_laplacian(self.pixels)
        return derivative_psnr(*derivatives(field, self.size, self.device), *true_derivatives)

    def evaluate_result(self, field: Field) -> dict[str, float]:
        """As `evaluate_derivatives`, at the pixels that the summary shows."""
        return self.once(field, self._derivative_scores)

    def _derivative_scores(self, field: Field) -> dict[str, float]:
        every = shown_every(self.size)
        truths = image_gradient(self.pixels, "sobel", every=every), image_laplacian(self.pixels, every=every)
        return derivative_psnr(*self.once(field, self.shown_derivatives), *truths)

    def panels(self, field: Field) -> dict[str, Panel]:
        """The fitted image."""
        return self.once(field, self._panels)

    def _panels(self, field: Field) -> dict[str, Panel]:
        fit = self.once(field, self.render)
        return {"fit": ImagePanel(fit if self.shown is None else self.shown(fit))}

    def summary(self, field: Field) -> Rows:
        """Image, gradient and Laplacian, each beside the truth; what is known, where not all is."""
        every = shown_every(self.size)
        gradient, laplacian = self.once(field, self.shown_derivatives)
        scores = self.evaluate_result(field)
        rows = [
            gradient_row(image_gradient(self.pixels, every=every), gradient, score=scores["gradient_psnr"]),
            laplacian_row(image_laplacian(self.pixels, every=every), laplacian, score=scores["laplacian_psnr"]),
        ]
        # The image too at no more pixels than are shown.
        some = slice(None, None, thinning(self.size))
        truth = (self.pixels[some, some] + 1) / 2
        fit = self.once(field, self.render)[some, some]
        image = image_row(truth, fit)
        if self.shown is not None:
            words = f"\n({self.shown.words})"
            colours = {"true_fit": (f"Truth{words}", truth), "fit": (f"Result{words}", fit)}
            image |= {name: Picture(title, self.shown(of).cpu().numpy()) for name, (title, of) in colours.items()}
            truth = self.shown(truth)
        if self.known is not None:
            shown = torch.where(self.known[some, some, None], truth, 0.5).cpu().numpy()
            image = {"known": Picture(f"Known pixels ({100 * self.known.float().mean().item():.3g} %)", shown), **image}
        return [image, *rows]

    def shown_derivatives(self, field: Field) -> tuple[Float[Tensor, "h w C D"], Float[Tensor, "h w C"]]:
        """Gradient and Laplacian at the pixels that a summary shows."""
        return shown_derivatives(field, self.size, self.device, self.memo)

    @property
    def truth(self) -> Float[Tensor, "H W C"]:
        """The image on [0, 1]."""
        return (self.pixels + 1).div_(2)

    def render(self, field: Field) -> Float[Tensor, "H W C"]:
        """The fitted image on [0, 1], clipped."""
        return raster(field, self.size, then=unit)


def open_known(settings: ImageSettings | InpaintSettings, *, bands: bool = False) -> Opened:
    """The picture of settings, and which of its pixels are known, by mask and share; None for all.

    Args:
        settings: Whose picture.
        bands: Whether it may have any number of channels.

    Raises:
        SignalError: If a file cannot be read, or no pixel is known.
    """
    signal = settings.signal
    words: dict[str, Any] = {"gray": signal.gray, "size": signal.size, "range": signal.range}
    found = open_values(signal.path, signal.mask, bands=bands, holes=True, **words)
    if found.known is not None and not found.known.any():
        raise SignalError("no pixel is known: what is bright in the mask is lost in reducing it", signal.mask)
    if signal.share is None:
        return found
    every = torch.ones_like(found.pixels[..., 0], dtype=torch.bool) if found.known is None else found.known
    return replace(found, known=random_share(every, signal.share, settings.seed))


def random_share(known: Bool[Tensor, "H W"], share: float, seed: int) -> Bool[Tensor, "H W"]:
    """A random share of what is known, at least one pixel of it."""
    index = known.flatten().nonzero().squeeze(1).cpu()
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))
    chosen = torch.zeros(known.numel(), dtype=torch.bool)
    chosen[index[order[: max(1, round(share * len(index)))]]] = True
    return chosen.view(known.shape).to(known.device)
