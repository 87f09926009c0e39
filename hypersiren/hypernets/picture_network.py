"""The convolutional network that corrects the posterior of a picture, pixel by pixel.

It sees the detail of a posterior's mean, that is what is left of it without the mean over the pixels around, the change
from the first guess that the posterior was taken from, the standard deviations, and which pixels are known; detail and
change in units of the deviation around: the level of a mean is tens of deviations, and tells nothing of the error. It
predicts a change of the mean, in units of the deviation, and the logarithm of a factor of the deviation. Its last layer
begins at zero: untrained it changes nothing.

A U-net of four levels, each of half the resolution of the one before: detail between random pixels is found at full
resolution, scratches and blocks are bridged on the coarse levels.

Symbols: B pictures, H x W pixels, multiples of 8; 3 axes of colour, luminance and two chromas.
"""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

COARSEST = 8
"""Pixels along each axis that the coarsest pixel of the network stands for."""

TYPICAL, SPREAD = -3.5, 1.5
"""Of the logarithms of deviations: what is subtracted and what divides, so that a network sees numbers near 1."""

AROUND, LEAST = 3, 2e-3
"""Pixels to each side over which deviations and details are taken, and the least deviation that divides details."""

FACTOR = 0.5
"""Change of the logarithm of a deviation where the last layer is 1."""


def _around(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """The mean over the pixels around."""
    return F.avg_pool2d(x, 2 * AROUND + 1, stride=1, padding=AROUND, count_include_pad=False)


class _Block(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        with torch.no_grad():
            self.second.weight.mul_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


@torch.no_grad()
def _zero(layer: nn.Conv2d) -> None:
    for parameter in layer.parameters():
        parameter.zero_()


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(count)))


class PictureNetwork(nn.Module):
    """The network; see the module.

    Args:
        widths: Channels at full, half, quarter and eighth resolution.
        blocks: Residual blocks at each of them; of the first three, before and after the coarser ones.

    Attributes:
        reach: Pixels to each side that a pixel depends on.

    Example:
        >>> network = PictureNetwork((4, 8, 8, 8), (1, 1, 1, 1))
        >>> mean, known = torch.rand(1, 3, 16, 24), torch.rand(1, 16, 24) < 0.5
        >>> y, logarithm = network(mean, mean, torch.full_like(mean, -3), known)
        >>> torch.equal(y, mean), logarithm.unique().tolist(), network.reach
        (True, [-3.0], 57)
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]):
        super().__init__()
        if len(widths) != 4 or len(blocks) != 4:
            raise ValueError(f"expected four widths and numbers of blocks, got {len(widths)} and {len(blocks)}")
        self.head = nn.Conv2d(11, widths[0], 3, padding=1)
        self.before = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, blocks, strict=True))
        self.after = nn.ModuleList(_blocks(w, n) for w, n in zip(widths[:3], blocks, strict=False))
        steps = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in steps)
        self.tail = nn.Conv2d(widths[0], 5, 3, padding=1)
        _zero(self.tail)
        each = [2 * n * 2**level for level, n in enumerate(blocks)]
        self.reach = 2 + 2 * sum(each[:3]) + each[3] + COARSEST + AROUND

    def forward(
        self,
        guess: Float[Tensor, "B 3 H W"],
        mean: Float[Tensor, "B 3 H W"],
        logarithm: Float[Tensor, "B 3 H W"],
        known: Bool[Tensor, "B H W"],
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 3 H W"]]:
        """Corrected means and logarithms of deviations, in the axes of colour.

        Args:
            guess: What the posterior was taken from.
            mean, logarithm: The posterior's means, and the logarithms of its deviations.
            known: Which pixels are known.
        """
        return self.applied(self.inputs(guess, mean, logarithm, known), mean, logarithm)

    def inputs(
        self,
        guess: Float[Tensor, "B 3 H W"],
        mean: Float[Tensor, "B 3 H W"],
        logarithm: Float[Tensor, "B 3 H W"],
        known: Bool[Tensor, "B H W"],
    ) -> Float[Tensor, "B 11 H W"]:
        """What the first layer sees."""
        deviation = logarithm.exp()
        around = _around(deviation).clamp(min=LEAST)
        seen = (around[:, :2].log() - TYPICAL) / SPREAD
        detail, changed = (torch.asinh(each / around) for each in (mean - _around(mean), guess - mean))
        relative = deviation[:, :2] / around[:, :2]
        return torch.cat([detail, changed, seen, relative, known.unsqueeze(1).to(mean)], 1)

    def applied(
        self, x: Float[Tensor, "B 11 H W"], mean: Float[Tensor, "B 3 H W"], logarithm: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 3 H W"]]:
        """As `forward`, from what the first layer sees."""
        x = F.relu(self.head(x.contiguous(memory_format=torch.channels_last)))
        levels = []
        for before, down in zip(self.before, self.down, strict=False):
            x = before(x)
            levels.append(x)
            x = down(x)
        x = self.before[3](x)
        for after, up, level in zip(reversed(self.after), reversed(self.up), reversed(levels), strict=True):
            x = after(level + F.pixel_shuffle(up(x), 2))
        out = self.tail(x).to(mean)
        return mean + logarithm.exp() * out[:, :3], logarithm + FACTOR * out[:, [3, 4, 4]]
