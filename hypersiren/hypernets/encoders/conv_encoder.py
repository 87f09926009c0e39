"""Our default encoder: a strided CNN beside a regression on learned basis functions.

Two things predict a latent from sparse pixels. What is linear in them is solved in closed form: the context is
regressed on K learned basis functions under a Gaussian prior (`BasisRegression`), as the conditional mean of a Gaussian
would be, at any number of pixels and any resolution. What is not linear is left to a small CNN, which sees the context
filled by normalised convolution (Knutsson and Westin 1993). The latent is the sum of both.

Symbols: B signals, N pixels, C channels, Z latent features, K basis functions, H height, W width.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hypersiren.fields.coords import grid
from hypersiren.fields.savable import savable
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.context import Context, rasterise


@savable
class ConvEncoder(nn.Module):
    """A strided residual CNN on the filled context, plus a linear map of the regression's coefficients.

    The CNN's input channels are the observed values, the mask, the filled image and the densities of `fill`. Its stem
    and each further width halve the resolution; the last feature map is pooled to `pool` x `pool` cells and flattened.
    With the defaults all of it takes less than a hundredth of the 13.8 GMAC of the paper's CNN at 32x32.

    Args:
        channels: C.
        latent_features: Z.
        widths: Features at half, quarter ... resolution; multiples of 8.
        pool: Cells along each axis of the last feature map.
        sigmas: Scales of the normalised convolution, in pixels.
        basis: K, the basis functions of the regression; 0: none.

    Example:
        >>> images, mask = torch.rand(2, 48, 32, 3), torch.rand(2, 48, 32) < 0.1
        >>> ConvEncoder(3, widths=(8, 16), basis=4)(Context.from_images(images, mask)).shape
        torch.Size([2, 256])
    """

    dimensions = 2
    """Coordinate dimensions that it reads: it works on a raster (H, W)."""

    def __init__(
        self,
        channels: int,
        latent_features: int = 256,
        widths: Sequence[int] = (32, 64, 128),
        pool: int = 4,
        sigmas: Sequence[float] = (0.7, 1.5, 3.0, 6.0, 12.0),
        basis: int = 128,
    ):
        super().__init__()
        self.latent_features, self.sigmas, self.pool = latent_features, tuple(sigmas), pool
        self.stem = nn.Conv2d(2 * channels + 1 + len(self.sigmas), widths[0], 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(n, m) for n, m in pairwise(widths)))
        self.norm = nn.GroupNorm(8, widths[-1])
        self.last = nn.Linear(widths[-1] * pool * pool, latent_features)
        self.regression = BasisRegression(basis) if basis else None
        self.coefficients = nn.Linear(basis * channels, latent_features, bias=False) if basis else None

    def forward(self, context: Context) -> Float[Tensor, "B Z"]:
        image, mask = rasterise(context)
        with torch.autocast(image.device.type, enabled=False):  # densities reach from 1e-4 to 1
            filled, density = fill(image, mask, self.sigmas)
        x = self.stem(torch.cat([image, mask, filled, density], dim=1))
        x = F.silu(self.norm(self.blocks(x)))
        z = self.last(F.adaptive_avg_pool2d(x, self.pool).flatten(1))
        if self.regression is not None and self.coefficients is not None:
            z = z + self.coefficients(self.regression(image, mask).flatten(1))
        return z


class BasisRegression(nn.Module):
    """The regression of known pixels on learned basis functions: a conditional mean in closed form.

    With the values y = mean(x) + sum_k w_k phi_k(x) + noise and the prior w ~ N(0, 1), the coefficients given the known
    pixels o have the mean w = (Phi_o^T Phi_o + s^2 I)^-1 Phi_o^T (y_o - mean_o). Basis, mean and noise s are learned
    through it; basis and mean are one SIREN, so that they have values at any resolution. The channels share the basis.

    Args:
        basis: K.
        hidden_features, hidden_layers, first_omega, hidden_omega: Of the SIREN.

    Example:
        >>> regression = BasisRegression(5)
        >>> regression(torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(
        self,
        basis: int,
        hidden_features: int = 128,
        hidden_layers: int = 1,
        first_omega: float = 10.0,
        hidden_omega: float = 15.0,
    ):
        super().__init__()
        self.siren = Siren(2, basis + 1, hidden_features, hidden_layers, first_omega, hidden_omega)
        self.log_noise = nn.Parameter(torch.tensor(math.log(0.3)))

    def forward(self, image: Float[Tensor, "B C H W"], mask: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B K C"]:
        with torch.autocast(image.device.type, enabled=False):  # a linear system needs its digits
            values = self.siren(grid(image.shape[-2:], device=image.device, dtype=image.dtype))
            phi, mean = values[:, :-1], values[:, -1]
            known = mask.flatten(2)
            noise = 1e-3 + torch.exp(2 * self.log_noise)
            gram = (phi.mT * known) @ phi + noise * torch.eye(phi.shape[1], device=image.device, dtype=image.dtype)
            target = phi.mT @ ((image.flatten(2) - mean) * known).mT
            # Unlike cholesky this does not wait for the device, and lets NaN through to where the loop reports it.
            return torch.cholesky_solve(target, torch.linalg.cholesky_ex(gram).L)


def fill(
    image: Float[Tensor, "B C H W"], mask: Float[Tensor, "B 1 H W"], sigmas: Sequence[float]
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B S H W"]]:
    """Fill the unknown pixels by normalised convolution, from the widest Gaussian to the narrowest.

    At each scale the estimate is (blur(mask image) + w coarser) / (blur(mask) + w): where pixels are dense they decide,
    where they are sparse the coarser estimate does. Blurs are two products with dense Gaussian matrices, so any
    width costs the same.

    Args:
        image: Values, 0 where not observed.
        mask: 0 or 1.
        sigmas: Standard deviations of the Gaussians, in pixels.

    Returns:
        The filled image, and the log10 of the density of observed pixels at each scale, floored at -4.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2, 2] = 1
        >>> filled, _ = fill(5 * mask, mask, (1.0, 8.0))
        >>> torch.allclose(filled, torch.full_like(filled, 5.0), atol=0.1)
        True
    """
    h, w = image.shape[-2:]
    both = torch.cat([image * mask, mask], dim=1)
    # The coarsest estimate is the mean of the known pixels.
    filled = both[:, :-1].sum((-2, -1), keepdim=True) / both[:, -1:].sum((-2, -1), keepdim=True).clamp(min=1)
    densities = []
    for sigma in sorted(sigmas, reverse=True):
        blurred = _gaussian_matrix(h, sigma, image) @ both @ _gaussian_matrix(w, sigma, image).mT
        density = blurred[:, -1:]
        # One observed pixel at the centre of the Gaussian weighs as much as ten times the coarser estimate.
        weight = 0.1 / (1 + 2 * math.pi * sigma**2)
        filled = (blurred[:, :-1] + weight * filled) / (density + weight)
        densities.append(density)
    return filled.expand_as(image), torch.cat(densities, dim=1).clamp(min=1e-4).log10()


def _gaussian_matrix(n: int, sigma: float, like: Tensor) -> Tensor:
    i = torch.arange(n, device=like.device, dtype=like.dtype)
    kernel = torch.exp(-0.5 * ((i - i[:, None]) / sigma) ** 2)
    return kernel / kernel.sum(dim=1, keepdim=True)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the first of stride 2, beside an average of 2x2."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width_in), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(width_in, width, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return self.skip(F.avg_pool2d(x, 2, ceil_mode=True)) + y
