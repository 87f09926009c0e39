"""Hypernetworks: from a latent z to the weights of a field, built from the field's {name: shape} alone.

`FullHypernet` predicts whole tensors. The paper (section 4.4) predicts all of the hypo-SIREN, each tensor by a ReLU MLP
of its own; hidden layers shared by all tensors are the cheaper form. Tensors that it is not asked for stay the field's
own, shared by all signals and trained with the rest: predicting the last layer alone makes an image a combination of
learned functions. At step 0 the predicted weights hardly depend on z: the last layer of
each MLP starts with Kaiming weights / 100 and a bias drawn like the hypo-SIREN's own weights, U(-1/n, 1/n) with n the
inputs of the hypo layer (authors' code).

Symbols: B signals, Z latent features.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.savable import savable
from hypersiren.fields.siren import Params


@savable
class FullHypernet(nn.Module):
    """Predicts all weights of a field from z, or all of some layers.

    With the paper's hypo-SIREN (2-256-256-256-256-3) and the defaults it has 52,436,995 weights.

    Args:
        shapes: Name and shape of each parameter to predict, all of a field's or some: "….weight" (O, I), "….bias" (O,).
        latent_features: Z.
        hidden_features: Width of each MLP.
        hidden_layers: Hidden layers of each MLP; the paper's 256-256-256-out has two, 0 makes it linear in z.
        trunk: "separate", one MLP per tensor (the paper's), or "shared", one set of hidden layers for all.

    Example:
        >>> hypernet = FullHypernet({"layers.0.weight": (8, 2), "layers.0.bias": (8,)}, latent_features=16)
        >>> {name: tuple(p.shape) for name, p in hypernet(torch.rand(5, 16)).items()}
        {'layers.0.weight': (5, 8, 2), 'layers.0.bias': (5, 8)}
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        latent_features: int = 256,
        hidden_features: int = 256,
        hidden_layers: int = 2,
        trunk: Literal["separate", "shared"] = "separate",
    ):
        super().__init__()
        self.latent_features = latent_features
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        widths = [latent_features, *[hidden_features] * hidden_layers]

        def hidden() -> nn.Module:
            layers: list[nn.Module] = []
            for n, m in pairwise(widths):
                linear = nn.Linear(n, m)
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
                layers += [linear, nn.ReLU()]
            return nn.Sequential(*layers)

        def head(name: str, shape: tuple[int, ...]) -> nn.Linear:
            linear = nn.Linear(widths[-1], torch.Size(shape).numel())
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            weight = name if name.endswith("weight") else name.removesuffix("bias") + "weight"
            fan_in = self.shapes[weight][-1]
            with torch.no_grad():
                linear.weight /= 100
                linear.bias.uniform_(-1 / fan_in, 1 / fan_in)
            return linear

        self.trunks = nn.ModuleList(hidden() for _ in range(1 if trunk == "shared" else len(self.shapes)))
        self.heads = nn.ModuleList(head(name, shape) for name, shape in self.shapes.items())

    @torch.no_grad()
    def start_at(self, params: Params) -> None:
        """Predict these weights for every z, at first; of names that are not predicted nothing is taken."""
        for name, head in zip(self.shapes, self.heads, strict=True):
            if name in params and isinstance(head, nn.Linear):
                head.weight.zero_()
                head.bias.copy_(params[name].flatten())

    def forward(self, z: Float[Tensor, "B Z"]) -> Params:
        """The predicted weights.

        Raises:
            ValueError: If z is not one latent for each signal: tokens (B, T, Z) are for other hypernetworks.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_features:
            raise ValueError(f"expected one latent (B, {self.latent_features}) for each signal, got {tuple(z.shape)}")
        features = [trunk(z) for trunk in self.trunks]
        if len(features) == 1:
            features = features * len(self.shapes)
        return {
            name: head(h).unflatten(-1, shape)
            for (name, shape), head, h in zip(self.shapes.items(), self.heads, features, strict=True)
        }
