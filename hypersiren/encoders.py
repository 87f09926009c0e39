"""Encoders: from what is known of B signals (a Context) to one latent z per signal.

- `SetEncoder`: an MLP on each (coordinate, value) pair, then the mean (paper, section 4.4; Garnelo et al. 2018).
- `PaperConvEncoder`: the paper's CNN at full resolution, or its partial-convolution variant (Liu et al. 2018).

Our default is `ConvEncoder`, in `hypersiren.conv_encoder`. Convolutional encoders see the context rasterised to the
image's pixels and work at any height and width.
Symbols: B signals, N points, D coordinate dimensions, C channels, Z latent features, H height, W width.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from hypersiren.coords import grid, nearest_cell
from hypersiren.siren import init_sine_linear_


@dataclass(frozen=True)
class Context:
    """What is known of B signals: values at coordinates, each of them observed or not.

    Attributes:
        x: (B, N, D) coordinates in [-1, 1].
        y: (B, N, C) values.
        mask: (B, N), True where observed; what stands in x and y elsewhere has no influence.
        size: Pixels (H, W) of the raster that a convolutional encoder shall see; None for point sets.
    """

    x: Float[Tensor, "B N D"]
    y: Float[Tensor, "B N C"]
    mask: Bool[Tensor, "B N"]
    size: tuple[int, int] | None = None

    @classmethod
    def from_images(cls, images: Float[Tensor, "B H W C"], mask: Bool[Tensor, "B H W"]) -> "Context":
        """The pixels of B images where `mask` is True.

        Example:
            >>> mask = torch.zeros(1, 8, 8, dtype=torch.bool)
            >>> mask[0, :4] = True
            >>> Context.from_images(torch.rand(1, 8, 8, 3), mask).x.shape
            torch.Size([1, 64, 2])
        """
        if images.shape[:-1] != mask.shape:
            raise ValueError(f"expected a mask of shape {tuple(images.shape[:-1])}, got {tuple(mask.shape)}")
        b, h, w, _ = images.shape
        x = grid((h, w), device=images.device, dtype=images.dtype).expand(b, -1, -1)
        return cls(x, images.flatten(1, 2), mask.flatten(1), (h, w))

    def compact(self) -> "Context":
        """The same, with no more points than the most that are observed of any signal.

        Example:
            >>> mask = torch.tensor([[[True, False], [False, True]]])
            >>> Context.from_images(torch.rand(1, 2, 2, 3), mask).compact().y.shape
            torch.Size([1, 2, 3])
        """
        most = int(self.mask.sum(1).max())
        order = self.mask.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :most, None]
        x, y = (torch.take_along_dim(values, order, dim=1) for values in (self.x, self.y))
        return Context(x, y, self.mask.gather(1, order.squeeze(-1)), self.size)


def rasterise(context: Context) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B 1 H W"]]:
    """Observed values on the context's raster (0 where nothing is observed) and the mask as 0 or 1.

    Points in the same pixel are averaged.

    Raises:
        ValueError: If the context has no size, or coordinates that are not two-dimensional.
    """
    if context.size is None or context.x.shape[-1] != 2:
        raise ValueError(
            "expected a context with a size (H, W) and coordinates (B, N, 2); "
            f"got size {context.size} and coordinates {tuple(context.x.shape)}"
        )
    (h, w), (b, _, c) = context.size, context.y.shape
    index = nearest_cell(context.x, (h, w)).unsqueeze(-1)
    weight = context.mask.unsqueeze(-1).to(context.y.dtype)
    values = torch.where(context.mask.unsqueeze(-1), context.y, 0)
    total = context.y.new_zeros(b, h * w, c + 1)
    total = total.scatter_add(1, index.expand(-1, -1, c + 1), torch.cat([values, weight], dim=-1))
    count = total[..., c:]
    image = total[..., :c] / count.clamp(min=1)
    return (
        rearrange(image, "b (h w) c -> b c h w", h=h),
        rearrange(count.clamp(max=1), "b (h w) c -> b c h w", h=h),
    )


class _Sine(nn.Module):
    def __init__(self, omega: float):
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * x)


class SetEncoder(nn.Module):
    """The masked mean over the context of an MLP on each (x, y): permutation invariant, any number of points.

    The activation also follows the last layer. The paper's is 5-256-256-256-256 (198,912 weights), `activation` "sine"
    (the better of its two) or "relu".

    Args:
        in_features: D + C, a coordinate and its value.
        latent_features: Z.
        hidden_features: Width of the MLP.
        hidden_layers: Layers between the first and the last.
        activation: "sine" (initialised as in `hypersiren.siren`) or "relu" (Kaiming).
        omega: Frequency factor of the sines.

    Example:
        >>> images, mask = torch.rand(4, 8, 8, 3), torch.rand(4, 8, 8) < 0.5
        >>> SetEncoder(2 + 3)(Context.from_images(images, mask)).shape
        torch.Size([4, 256])
    """

    def __init__(
        self,
        in_features: int,
        latent_features: int = 256,
        hidden_features: int = 256,
        hidden_layers: int = 2,
        activation: Literal["sine", "relu"] = "sine",
        omega: float = 30.0,
    ):
        super().__init__()
        self.latent_features = latent_features
        widths = [in_features, *[hidden_features] * (hidden_layers + 1), latent_features]
        layers: list[nn.Module] = []
        for i, (n, m) in enumerate(pairwise(widths)):
            linear = nn.Linear(n, m)
            if activation == "sine":
                init_sine_linear_(linear, omega, first=i == 0)
            else:
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            layers += [linear, _Sine(omega) if activation == "sine" else nn.ReLU()]
        self.net = nn.Sequential(*layers)

    def forward(self, context: Context) -> Float[Tensor, "B Z"]:
        mask = context.mask.unsqueeze(-1)
        pairs = torch.cat([context.x, context.y], dim=-1)
        features = self.net(torch.where(mask, pairs, 0))
        return torch.where(mask, features, 0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


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
