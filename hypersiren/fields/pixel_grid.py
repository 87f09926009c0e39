"""A plain grid of pixels, bilinear between their centres: the baseline of fields that are searched for."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hypersiren.fields.savable import savable


@savable
class PixelGrid(nn.Module):
    """Pixels over [-extent, extent]², one trained number for each and each channel, 0 at first.

    Args:
        size: Pixels along each axis.
        out_features: C.
        extent: Half of what they span; beyond, the field is as at its border.

    Example:
        >>> field = PixelGrid(4, 1)
        >>> field(torch.rand(10, 2)).shape
        torch.Size([10, 1])
    """

    in_features = 2

    def __init__(self, size: int, out_features: int, extent: float = 1.0):
        super().__init__()
        self.out_features, self.extent = out_features, extent
        self.values = nn.Parameter(torch.zeros(out_features, size, size))

    def forward(self, x: Float[Tensor, "N 2"]) -> Float[Tensor, "N C"]:
        columns_first = (x.flip(-1) / self.extent).view(1, 1, -1, 2)  # grid_sample wants (column, row)
        found = F.grid_sample(self.values[None].to(x), columns_first, "bilinear", "border", align_corners=False)
        return found[0, :, 0].T
