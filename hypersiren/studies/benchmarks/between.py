"""What pictures are between their pixels: gradient, Laplacian, and the picture at twice the size.

The truth of the derivatives is spectral: that of the cosine series through all pixels. Interpolation by Lanczos's
kernel and by Keys's cubic is measured beside fields.

Symbols: H x W pixels, C channels, D = 2 axes (down, right).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.interpolation import Interpolation, along, double, taps
from hypersiren.fields.operators import Field
from hypersiren.fields.raster import raster
from hypersiren.fields.render import unit
from hypersiren.signals.image.filters import image_gradient, image_laplacian
from hypersiren.signals.metrics import psnr
from hypersiren.studies.benchmarks.measure import Cell, Column
from hypersiren.tasks.images.derivatives import derivative_psnr, derivatives

COLUMNS = {
    "gradient": Column("dB", "higher"),
    "Laplacian": Column("dB", "higher"),
    "twice the size": Column("dB", "higher"),
}
"""Of what `field_between` and `interpolation_between` give."""


def interpolation_between(
    pixels: Float[Tensor, "H W C"], twice: Float[Tensor, "2*H 2*W C"] | None, kind: Interpolation
) -> dict[str, Cell]:
    """PSNR of an interpolation's gradient and Laplacian at the pixels, and at twice the size.

    Args:
        pixels: The image, values in [-1, 1].
        twice: The true image at twice the size; None if there is none.
        kind: The interpolation.
    """
    wide = pixels.double()
    scale = [n / 2 for n in pixels.shape[:2]]
    first, second = taps(kind, 0.0, 1), taps(kind, 0.0, 2)
    gradient = torch.stack([along(wide, axis, first) * scale[axis] for axis in (0, 1)], -1)
    laplacian = torch.stack([along(wide, axis, second) * scale[axis] ** 2 for axis in (0, 1)]).sum(0)
    return _told(pixels, gradient.to(pixels), laplacian.to(pixels), twice, lambda: unit(double(pixels, kind)))


def field_between(
    pixels: Float[Tensor, "H W C"], twice: Float[Tensor, "2*H 2*W C"] | None, field: Field
) -> dict[str, Cell]:
    """The same of a field, see `interpolation_between`."""
    h, w = pixels.shape[:2]
    found = derivatives(field, (h, w), pixels.device)
    return _told(pixels, *found, twice, lambda: raster(field, (2 * h, 2 * w), then=unit))


def _told(
    pixels: Tensor, gradient: Tensor, laplacian: Tensor, twice: Tensor | None, doubled: Callable[[], Tensor]
) -> dict[str, Cell]:
    truth = image_gradient(pixels), image_laplacian(pixels, "spectral")
    found = derivative_psnr(gradient, laplacian, *truth)
    told: dict[str, Cell] = {"gradient": found["gradient_psnr"], "Laplacian": found["laplacian_psnr"]}
    return told if twice is None else {**told, "twice the size": psnr(doubled(), (twice + 1) / 2)}
