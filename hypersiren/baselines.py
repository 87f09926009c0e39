"""Baselines: the other coordinate networks that the paper and its successors compare a SIREN with.

A `CoordinateMLP` is a field like a `Siren`, with another activation and perhaps an encoding before it; it counts its
layers in the same way. The named ones, for side-by-side comparisons at equal numbers of weights:

    relu, tanh, softplus    activations of the paper's comparisons
    relu_pe, relu_fourier   ReLU behind a positional encoding, or behind random Fourier features
    rbf                     ReLU behind 1024 radial basis functions
    wire, finer             successors of SIREN
    siren                   SIREN itself

Symbols: N points, D coordinate dimensions, C channels.
"""

import bisect
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.activations import ACTIVATIONS, Activation, ComplexLinear, Finer
from hypersiren.encodings import FourierFeatures, PositionalEncoding, RadialBasis, nyquist_octaves
from hypersiren.errors import UserError
from hypersiren.siren import Siren

Encoding = PositionalEncoding | FourierFeatures | RadialBasis

BASELINES = ("siren", "relu", "tanh", "softplus", "relu_pe", "relu_fourier", "rbf", "wire", "finer")
"""Names that `baseline` knows."""


class CoordinateMLP(nn.Module):
    """A field x -> y: perhaps an encoding, a first layer, `hidden_layers` hidden ones, and a linear last one.

    Args:
        in_features: Coordinate dimensions D.
        out_features: Channels C.
        hidden_features: Width; a complex network (WIRE) is narrower by sqrt(2), to have as many weights.
        hidden_layers: Layers with an activation after the first, as in a Siren.
        activation: One of `ACTIVATIONS` by name, or with other parameters, such as `Finer(first_omega=60.0)`.
        encoding: What the first layer sees in place of x, or None; see `hypersiren.encodings`.
        generator: Source of the random initial weights; the global one if None. (Encodings take their own.)

    Raises:
        ValueError: If the activation is unknown, or the encoding has other coordinates.

    Example:
        >>> CoordinateMLP(2, 3, activation="tanh")(torch.rand(10, 2)).shape
        torch.Size([10, 3])
        >>> network = CoordinateMLP(2, 3, 64, encoding=PositionalEncoding([5, 5]))
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

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the initial weights of the layers anew."""
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


def baseline(
    name: str,
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 256,
    hidden_layers: int = 3,
    samples: Sequence[int],
    first_omega: float = 30.0,
    hidden_omega: float = 30.0,
    generator: torch.Generator | None = None,
) -> Siren | CoordinateMLP:
    """One of the fields of `BASELINES`, with its authors' settings and initial weights.

    Args:
        name: Which.
        in_features, out_features, hidden_features, hidden_layers, generator: As of a Siren.
        samples: Samples of the signal along each of its D axes: they choose the octaves of the positional encoding.
        first_omega, hidden_omega: Frequency factors of the sines (siren, finer).

    Raises:
        UserError: If there is no baseline of that name.
        ValueError: If `samples` has not D numbers.

    Example:
        >>> baseline("relu_pe", 2, 3, samples=(512, 512))(torch.rand(10, 2)).shape
        torch.Size([10, 3])
    """
    if name not in BASELINES:
        raise UserError(f"expected a baseline of {', '.join(BASELINES)}, got {name!r}")
    if len(samples) != in_features:
        raise ValueError(f"expected samples along {in_features} axes, got {tuple(samples)}")
    size = (in_features, out_features, hidden_features, hidden_layers)
    if name == "siren":
        return Siren(*size, first_omega, hidden_omega, generator=generator)
    encoding: Encoding | None = None
    activation: str | Activation = "relu"
    if name == "relu_pe":
        encoding = PositionalEncoding([nyquist_octaves(n) for n in samples])
    elif name == "relu_fourier":
        encoding = FourierFeatures(in_features, generator=generator)
    elif name == "rbf":
        encoding = RadialBasis(in_features, generator=generator)
    elif name == "finer":
        activation = Finer(first_omega, hidden_omega)
    else:
        activation = name
    return CoordinateMLP(*size, activation=activation, encoding=encoding, generator=generator)


def equal_width(
    name: str,
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 256,
    hidden_layers: int = 3,
    samples: Sequence[int],
) -> int:
    """The `hidden_features` with which a baseline comes nearest to the weights of the SIREN of the size given.

    An encoding's own weights count, and may by themselves exceed those of a tiny SIREN; the width is at least 1.

    Example:
        >>> equal_width("tanh", 2, 3, samples=(512, 512)), equal_width("rbf", 2, 3, samples=(512, 512))
        (256, 136)
    """

    def weights(name: str, width: int) -> int:
        field = baseline(
            name, in_features, out_features, hidden_features=width, hidden_layers=hidden_layers, samples=samples
        )
        return sum(p.numel() for p in field.parameters())

    with torch.random.fork_rng(devices=[]):  # counting must not move the random numbers of the caller
        wanted = weights("siren", hidden_features)
        # No network needs twice a SIREN's width: a complex one is narrower by sqrt(2), the others are not.
        above = bisect.bisect_left(range(2 * hidden_features), wanted, lo=1, key=lambda width: weights(name, width))
        return min((max(1, above - 1), above), key=lambda width: abs(weights(name, width) - wanted))
