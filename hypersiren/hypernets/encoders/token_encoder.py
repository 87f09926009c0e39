"""Tokens with a place: a small U-Net that gives them for an image, and the hypernetwork that takes them.

Symbols: B signals, C channels, T tokens, Z token features, H height, W width.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hypersiren.fields.savable import savable
from hypersiren.fields.siren import Params
from hypersiren.hypernets.context import Context, rasterise
from hypersiren.hypernets.encoders.conv_encoder import ResidualBlock, fill


@savable
class TokenEncoder(nn.Module):
    """A U-Net (Ronneberger et al. 2015) on the filled context; the cells of its last map are the tokens.

    Its input channels are those of `ConvEncoder`. Images of any height and width have the same number of tokens: the
    last map, of (height / stride, width / stride) cells, is averaged over `token_size` cells. With a token_size of just
    as many cells, as images are in training, nothing is averaged.

    Args:
        channels: C.
        token_size: Tokens along height and width, as the `LocalSiren` has them.
        token_features: Z.
        stride: 2, 4 ...: pixels of the image along a cell of the last map.
        widths: Features at half, quarter ... resolution; multiples of 8.
        sigmas: Scales of the normalised convolution, in pixels.

    Example:
        >>> images, mask = torch.rand(2, 24, 18, 3), torch.rand(2, 24, 18) < 0.1
        >>> TokenEncoder(3, (12, 9), token_features=8, widths=(8, 16))(Context.from_images(images, mask)).shape
        torch.Size([2, 108, 8])
    """

    dimensions = 2
    """Coordinate dimensions that it reads: it works on a raster (H, W)."""

    def __init__(
        self,
        channels: int,
        token_size: Sequence[int],
        token_features: int = 32,
        stride: int = 2,
        widths: Sequence[int] = (64, 96, 128),
        sigmas: Sequence[float] = (0.7, 1.5, 3.0, 6.0, 12.0),
    ):
        super().__init__()
        level = stride.bit_length() - 2  # the index into widths of the last map
        if stride != 2 ** (level + 1) or not 0 <= level < len(widths):
            raise ValueError(f"expected a stride of {[2 ** (i + 1) for i in range(len(widths))]}, got {stride}")
        height, width = token_size
        self.token_size, self.sigmas = (height, width), tuple(sigmas)
        self.tokens, self.latent_features = math.prod(token_size), token_features
        self.stem = nn.Conv2d(2 * channels + 1 + len(self.sigmas), widths[0], 3, stride=2, padding=1)
        self.down = nn.ModuleList(ResidualBlock(n, m) for n, m in pairwise(widths))
        self.up = nn.ModuleList(_Up(m, n) for n, m in reversed(list(pairwise(widths[level:]))))
        self.norm = nn.GroupNorm(8, widths[level])
        self.last = nn.Conv2d(widths[level], token_features, 1)

    def start_at_zero(self) -> None:
        """Give tokens that are zero, at first: the fields are those without tokens."""
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, context: Context) -> Float[Tensor, "B T Z"]:
        image, mask = rasterise(context)
        with torch.autocast(image.device.type, enabled=False):  # densities reach from 1e-4 to 1
            filled, density = fill(image, mask, self.sigmas)
        maps = [self.stem(torch.cat([image, mask, filled, density], dim=1))]
        for down in self.down:
            maps.append(down(maps[-1]))
        x = maps.pop()
        for up in self.up:
            x = up(x, maps.pop())
        x = self.last(F.silu(self.norm(x)))
        return F.adaptive_avg_pool2d(x, self.token_size).flatten(2).mT


class _Up(nn.Module):
    """From a map to the finer one beside it: the sum of both, and two 3x3 convolutions around it."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.skip = nn.Conv2d(width_in, width, 1)
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Float[Tensor, "B M h w"], finer: Float[Tensor, "B N H W"]) -> Float[Tensor, "B N H W"]:
        x = finer + F.interpolate(self.skip(x), finer.shape[-2:], mode="bilinear", align_corners=False)
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


@savable
class TokenHypernet(nn.Module):
    """Hands tokens to a `LocalSiren` as they are; all of its other weights are shared by all signals.

    Args:
        shapes: Of the `LocalSiren`'s parameters: "tokens" (T, Z) among them.

    Example:
        >>> hypernet = TokenHypernet({"tokens": (16, 8), "layers.0.weight": (4, 2)})
        >>> {name: tuple(p.shape) for name, p in hypernet(torch.rand(5, 16, 8)).items()}
        {'tokens': (5, 16, 8)}
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]):
        super().__init__()
        if "tokens" not in shapes:
            raise ValueError(f"expected the shapes of a LocalSiren, with its tokens; got {sorted(shapes)}")
        self.tokens, self.latent_features = shapes["tokens"]
        self.shapes = {"tokens": (self.tokens, self.latent_features)}

    def forward(self, z: Float[Tensor, "B T Z"]) -> Params:
        """The tokens by their name.

        Raises:
            ValueError: If z has another number of tokens or of features.
        """
        if z.shape[1:] != (self.tokens, self.latent_features):
            raise ValueError(f"expected tokens (B, {self.tokens}, {self.latent_features}), got {tuple(z.shape)}")
        return {"tokens": z}
