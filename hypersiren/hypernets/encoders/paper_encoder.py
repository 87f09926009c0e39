"""The paper's CNN encoder at full resolution, or its partial-convolution variant (Liu et al. 2018).

Symbols: B signals, N points, C channels, Z latent features, H height, W width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hypersiren.fields.savable import savable
from hypersiren.hypernets.context import Context, rasterise


class PartialConv2d(nn.Conv2d):
    """A convolution over the observed pixels only (Liu et al. 2018, eq. 1 and 2), and the mask that remains.

    Where a window of S pixels holds s > 0 observed ones the output is S/s W x + b, where it holds none 0; the new mask
    is s > 0. Pixels beyond the border count as not observed. Input (B, C, H, W) and mask (B, 1, H, W) of 0 and 1.
    """

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        area = self.kernel_size[0] * self.kernel_size[1]
        with torch.no_grad():
            ones = mask.new_ones(1, 1, *self.kernel_size)
            count = F.conv2d(mask, ones, stride=self.stride, padding=self.padding).round()
            seen = count.clamp(max=1)
        y = F.conv2d(x * mask, self.weight, None, self.stride, self.padding)
        y = y * (area / count.clamp(min=1))
        if self.bias is not None:
            y = y + self.bias[:, None, None]
        return y * seen, seen


@savable
class PaperConvEncoder(nn.Module):
    """The paper's CNN: two 3x3 convolutions, four residual blocks of two 5x5 ones, 1x1, then a sum over positions.

    At 32x32 and 256 features it is the network of the authors' code, 13,474,817 weights and 13.8 GMAC an image with
    `mask_channel=False`; the mask channel, which their code lacks, lets it tell mid grey from unknown. The sum over
    positions has one learned weight for each of `size`; for other sizes these are interpolated.

    Args:
        channels: C.
        latent_features: Z, also the width of the network.
        size: (H, W) of the learned position weights.
        mask_channel: Whether the mask is an input channel too.
        partial: Use partial convolutions instead of zeros for unknown pixels.

    Example:
        >>> encoder = PaperConvEncoder(1, latent_features=16, size=(8, 8))
        >>> images, mask = torch.rand(2, 12, 8, 1), torch.rand(2, 12, 8) < 0.5
        >>> encoder(Context.from_images(images, mask)).shape
        torch.Size([2, 16])
    """

    dimensions = 2
    """Coordinate dimensions that it reads: it works on a raster (H, W)."""

    def __init__(
        self,
        channels: int,
        latent_features: int = 256,
        size: tuple[int, int] = (32, 32),
        *,
        mask_channel: bool = True,
        partial: bool = False,
    ):
        super().__init__()
        z = self.latent_features = latent_features
        self.mask_channel, self.partial = mask_channel, partial
        conv = PartialConv2d if partial else nn.Conv2d
        self.stem = nn.ModuleList([conv(channels + mask_channel, z // 2, 3, padding=1), conv(z // 2, z, 3, padding=1)])
        self.blocks = nn.ModuleList(
            nn.ModuleList([conv(z, z, 5, padding=2), conv(z, z, 5, padding=2)]) for _ in range(4)
        )
        self.last = nn.Conv2d(z, z, 1)
        self.position = nn.Linear(size[0] * size[1], 1)
        self.size = tuple(size)

    def forward(self, context: Context) -> Float[Tensor, "B Z"]:
        image, mask = rasterise(context)
        x, seen = torch.cat([image, mask], dim=1) if self.mask_channel else image, mask
        first, second = self.stem
        x, seen = self._conv(first, x, seen)
        x, seen = self._conv(second, F.relu(x), seen)
        x = F.relu(x)
        for first, second in self.blocks:  # type: ignore[misc]
            y, seen = self._conv(first, x, seen)
            y, seen = self._conv(second, F.relu(y), seen)
            x = F.relu(x + y)
        x = F.relu(self.last(x))
        return (x * self._position_weights(*x.shape[-2:])).sum(dim=(-2, -1)) + self.position.bias

    def _conv(self, conv: nn.Module, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        return conv(x, seen) if self.partial else (conv(x), seen)

    def _position_weights(self, h: int, w: int) -> Tensor:
        weights = self.position.weight.view(1, 1, *self.size)
        if (h, w) == self.size:
            return weights
        # Interpolated and rescaled by the pixels' area, so that the sum keeps its meaning.
        scale = self.size[0] * self.size[1] / (h * w)
        return scale * F.interpolate(weights, (h, w), mode="bilinear", antialias=True)
