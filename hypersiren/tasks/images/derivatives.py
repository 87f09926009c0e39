"""Gradient and Laplacian of a fitted image: evaluation and pictures."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from hypersiren.fields import operators
from hypersiren.fields.coords import grid
from hypersiren.fields.memo import Memo
from hypersiren.fields.operators import Field
from hypersiren.fields.raster import is_windowed, jet_strips, thinned_jet
from hypersiren.plotting import Picture
from hypersiren.signals.image.colours import draw_gradient, gradient_strength, gradient_wheel, percentile
from hypersiren.signals.metrics import psnr
from hypersiren.tasks.summary import Measure, error_picture

CHUNK = 32768
"""Points at which derivatives are evaluated at a time."""

SHOWN = 256
"""Pixels of a picture of derivatives along its longer axis, at least: the resolution of large images is not needed."""


def image_row(
    truth: Float[Tensor, "H W C"],
    fit: Float[Tensor, "H W C"],
    titles: tuple[str, str, str] = ("Truth", "Result", "Error"),
) -> dict[str, Picture]:
    """An image on [0, 1] beside the truth, and the size of its error, the root mean square over the channels."""
    error = (fit - truth).square_().mean(-1).sqrt().cpu().numpy()
    return {
        "true_fit": Picture(titles[0], truth.cpu().numpy()),
        "fit": Picture(titles[1], fit.cpu().numpy()),
        "error": error_picture(titles[2], error, "error, values in [0, 1]"),
    }


def gradient_row(
    truth: Float[Tensor, "H W C D"],
    gradient: Float[Tensor, "h w C D"],
    titles: tuple[str, str] = ("Gradient of the truth", "Gradient of the result"),
    score: float | None = None,
) -> dict[str, Picture]:
    """A gradient beside the truth, both on the truth's scale, and the legend of their colours; `score` is its PSNR."""
    full = gradient_strength(truth)
    titles = titles[0], titles[1] + _psnr_title(score)
    return {
        "true_gradient": Picture(titles[0], draw_gradient(truth, full).cpu().numpy()),
        "gradient": Picture(titles[1], draw_gradient(gradient, full).cpu().numpy()),
        "wheel": Picture(
            "Colours of gradients", _legend(truth.shape[0], truth.shape[1]).numpy(),
            x_label=f"hue: where the image gets brighter;\nfull brightness: {full:.3g} per unit of x",
        ),
    }  # fmt: skip


def laplacian_row(
    truth: Float[Tensor, "H W C"], laplacian: Float[Tensor, "h w C"], score: float | None = None
) -> dict[str, Picture]:
    """A Laplacian beside the truth, both on the truth's scale; channels are averaged; `score` is its PSNR."""
    full = percentile(truth.mean(-1).abs(), 0.99)

    def picture(title: str, values: Tensor) -> Picture:
        shown = values.mean(-1).cpu().numpy()
        return Picture(title, shown, "Laplacian, per unit of x squared", (-full, full), "gray")

    return {
        "true_laplacian": picture("Laplacian of the truth", truth),
        "laplacian": picture("Laplacian of the result" + _psnr_title(score), laplacian),
    }


def _legend(h: int, w: int) -> Float[Tensor, "H W 3"]:
    """The wheel of colours on white, in the proportions of the pictures beside it."""
    wheel = gradient_wheel()
    room = round(1.6 * len(wheel) * min(3.0, max(h, w) / min(h, w))) - len(wheel)
    low = len(wheel) * 3 // 10
    across, down = (room // 2, low) if w >= h else (low, room // 2)
    return pad(wheel.movedim(-1, 0), (across, across, down, down), value=1.0).movedim(0, -1)


def _psnr_title(score: float | None) -> str:
    """The end of a title."""
    return "" if score is None or not math.isfinite(score) else f",\nPSNR {score:.3g} dB"


SSIM = Measure("ssim", "SSIM", better="higher")

DERIVATIVES = (
    Measure("gradient_psnr", "PSNR of the gradient", "dB", "higher"),
    Measure("laplacian_psnr", "PSNR of the Laplacian", "dB", "higher"),
)
"""What `derivative_psnr` gives."""


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


def shown_every(size: tuple[int, int]) -> int:
    """Which pixels of an image have their derivatives shown: every one, every second, third ..."""
    return max(1, max(size) // SHOWN)


def shown_derivatives(
    field: Field, size: tuple[int, int], device: torch.device, memo: Memo | None = None
) -> tuple[Float[Tensor, "h w C D"], Float[Tensor, "h w C"]]:
    """As `derivatives`, but of a large image at some of its pixels, see `shown_every`; `memo`: see `thinned_jet`."""
    every = shown_every(size)
    if (jet := thinned_jet(field, size, every, memo)) is not None:
        assert jet.gradient is not None and jet.hessian_diagonal is not None  # noqa: PT018
        return jet.gradient, jet.hessian_diagonal.sum(-1)
    if is_windowed(field):
        return _on_raster(field, size, every)
    return _at(field, grid(size, device=device).unflatten(0, size)[::every, ::every])


@torch.no_grad()
def derivatives(
    field: Field, size: tuple[int, int], device: torch.device
) -> tuple[Float[Tensor, "H W C D"], Float[Tensor, "H W C"]]:
    """A field's gradient and Laplacian at the pixels of an image, in chunks."""
    if is_windowed(field):
        return _on_raster(field, size, 1)
    return _at(field, grid(size, device=device).unflatten(0, size))


@torch.no_grad()
def _at(field: Field, x: Float[Tensor, "h w D"]) -> tuple[Float[Tensor, "h w C D"], Float[Tensor, "h w C"]]:
    parts = x.flatten(0, 1).split(CHUNK)
    found = [operators.gradient_and_laplacian(field, part) for part in parts]
    gradient, laplacian = map(torch.cat, zip(*found, strict=True))
    return gradient.unflatten(0, x.shape[:2]), laplacian.unflatten(0, x.shape[:2])


def _on_raster(
    field: Field, size: tuple[int, int], every: int
) -> tuple[Float[Tensor, "h w C D"], Float[Tensor, "h w C"]]:
    """The same of a windowed field, at every so many-th pixel, from strips of all."""
    gradients, laplacians, done = [], [], 0
    for jet in jet_strips(field, size):
        some = slice(-done % every, None, every), slice(None, None, every)
        assert jet.gradient is not None
        assert jet.hessian_diagonal is not None
        gradients.append(jet.gradient[some])
        laplacians.append(jet.hessian_diagonal[some].sum(-1))
        done += len(jet.value)
    return torch.cat(gradients), torch.cat(laplacians)
