"""Gradient and Laplacian of a fitted image: evaluation and pictures."""

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields import operators
from hypersiren.fields.operators import Field
from hypersiren.signals.image.colours import draw_gradient, draw_signed
from hypersiren.signals.metrics import psnr
from hypersiren.tasks.panels import ImagePanel, Panel

CHUNK = 32768
"""Points at which derivatives are evaluated at a time."""


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


def shown_derivatives(
    field: Field, size: tuple[int, int], x: Float[Tensor, "N D"], most: int = 512
) -> tuple[Float[Tensor, "h w C D"], Float[Tensor, "h w C"]]:
    """As `derivatives`, but of a large image at every second, third ... pixel, for pictures of about `most` pixels."""
    stride = max(1, max(size) // most)
    some = x.unflatten(0, size)[::stride, ::stride]
    return derivatives(field, (some.shape[0], some.shape[1]), some.flatten(0, 1))


@torch.no_grad()
def derivatives(
    field: Field, size: tuple[int, int], x: Float[Tensor, "N D"]
) -> tuple[Float[Tensor, "H W C D"], Float[Tensor, "H W C"]]:
    """A field's gradient and Laplacian at the pixels of an image, in chunks."""
    parts = x.split(CHUNK)
    gradient = torch.cat([operators.gradient(field, part) for part in parts])
    laplacian = torch.cat([operators.laplacian(field, part) for part in parts])
    return gradient.unflatten(0, size), laplacian.unflatten(0, size)
