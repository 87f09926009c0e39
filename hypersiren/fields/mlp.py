"""A coordinate network with any activation and perhaps an encoding before it.

Symbols: N points, D coordinate dimensions, C channels.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.activations import ACTIVATIONS, Activation, ComplexLinear
from hypersiren.fields.encodings import FourierFeatures, PositionalEncoding, RadialBasis
from hypersiren.fields.savable import savable
from hypersiren.fields.shown import widths

Encoding = PositionalEncoding | FourierFeatures | RadialBasis


@savable
class CoordinateMLP(nn.Module):
    """A field x -> y: perhaps an encoding, a first layer, `hidden_layers` hidden ones, and a linear last one.

    Args:
        in_features: Coordinate dimensions D.
        out_features: Channels C.
        hidden_features: Width; a complex network (WIRE) is narrower by sqrt(2), to have as many weights.
        hidden_layers: Layers with an activation after the first, as in a Siren.
        activation: One of `ACTIVATIONS` by name, or with other parameters, such as `Finer(first_omega=60.0)`.
        encoding: What the first layer sees in place of x, or None; see `hypersiren.fields.encodings`.
        generator: Source of the random initial weights; the global one if None. (Encodings take their own.)

    Raises:
        ValueError: If the activation is unknown, or the encoding has other coordinates.

    Example:
        >>> CoordinateMLP(2, 3, activation="tanh")(torch.rand(10, 2)).shape
        torch.Size([10, 3])
        >>> network = CoordinateMLP(2, 3, 64, encoding=PositionalEncoding([5, 5]))
        >>> network
        CoordinateMLP(2 -> PositionalEncoding 22 -> 64 x 4 -> 3, relu)
        >>> network(torch.rand(4, 10, 2)).shape
        torch.Size([4, 10, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_features: int = 256,
        hidden_layers: int = 3,
        *,
        activation: str | Activation = "relu",
        encoding: Encoding | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if isinstance(activation, str):
            if activation not in ACTIVATIONS:
                raise ValueError(f"expected an activation of {list(ACTIVATIONS)}, got {activation!r}")
            activation = ACTIVATIONS[activation]
        if encoding is not None and encoding.in_features != in_features:
            raise ValueError(f"expected an encoding of {in_features} coordinates, got {encoding.in_features}")
        self.in_features, self.out_features = in_features, out_features
        self.activation, self.encoding = activation, encoding
        width = max(1, int(hidden_features / math.sqrt(2))) if activation.is_complex else hidden_features
        inner = ComplexLinear if activation.is_complex else nn.Linear
        self.layers = nn.ModuleList(
            [
                nn.Linear(in_features if encoding is None else encoding.out_features, width),
                *(inner(width, width) for _ in range(hidden_layers)),
                inner(width, out_features),
            ]
        )
        self.reset_parameters(generator)

    def __repr__(self) -> str:
        hidden = widths(layer.out_features for layer in list(self.layers)[:-1])  # type: ignore[misc]
        before = "" if self.encoding is None else f"{type(self.encoding).__name__} {self.encoding.out_features} -> "
        names = [name for name, known in ACTIVATIONS.items() if known == self.activation]
        activation = names[0] if names else repr(self.activation)
        return f"{type(self).__name__}({self.in_features} -> {before}{hidden} -> {self.out_features}, {activation})"

    def lr_factors(self, first: float | None = None) -> dict[Tensor, float]:
        """Parameters that learn at a multiple of the learning rate; see `Siren.lr_factors`."""
        if first is None:
            omegas = [getattr(self.activation, name, 1.0) for name in ("hidden_omega", "first_omega")]
            first = min(1.0, omegas[0] / omegas[1])
        return dict.fromkeys(self.layers[0].parameters(), first)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new initial weights for the layers."""
        for i, layer in enumerate(layer for layer in self.layers if isinstance(layer, nn.Linear)):
            self.activation.init_(layer, first=i == 0, generator=generator)

    def forward(self, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*batch N C"]:
        """Values at x.

        Raises:
            ValueError: If x has other than D coordinates.
        """
        if x.shape[-1] != self.in_features:
            raise ValueError(f"expected coordinates (..., {self.in_features}), got {tuple(x.shape)}")
        h = x if self.encoding is None else self.encoding(x)
        *hidden, last = self.layers
        for i, layer in enumerate(hidden):
            h = self.activation(layer(h), first=i == 0)
        return last(h).real  # of a real network, itself
