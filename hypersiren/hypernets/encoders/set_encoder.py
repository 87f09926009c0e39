"""The paper's set encoder (section 4.4; Garnelo et al. 2018).

Symbols: B signals, N points, D coordinate dimensions, C channels, Z latent features.
"""

from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.savable import savable
from hypersiren.fields.siren import init_sine_linear_
from hypersiren.hypernets.context import Context


class _Sine(nn.Module):
    def __init__(self, omega: float):
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * x)


@savable
class SetEncoder(nn.Module):
    """The masked mean over the context of an MLP on each (x, y): permutation invariant, any number of points.

    The activation also follows the last layer. The paper's is 5-256-256-256-256 (198,912 weights), `activation` "sine"
    (the better of its two) or "relu".

    Args:
        in_features: D + C, a coordinate and its value.
        latent_features: Z.
        hidden_features: Width of the MLP.
        hidden_layers: Layers between the first and the last.
        activation: "sine" (initialised as in `hypersiren.fields.siren`) or "relu" (Kaiming).
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
