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
from collections.abc import Sequence
from typing import get_args

import torch

from hypersiren.errors import UserError
from hypersiren.fields.activations import Activation, Finer
from hypersiren.fields.encodings import FourierFeatures, PositionalEncoding, RadialBasis, nyquist_octaves
from hypersiren.fields.mlp import CoordinateMLP, Encoding
from hypersiren.fields.settings import Kind
from hypersiren.fields.siren import Siren

BASELINES = tuple(kind for kind in get_args(Kind) if kind != "windowed")
"""Names that `baseline` knows."""


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
    if name == "siren":
        return hidden_features

    def weights(name: str, width: int) -> int:
        field = baseline(
            name, in_features, out_features, hidden_features=width, hidden_layers=hidden_layers, samples=samples
        )
        return sum(p.numel() for p in field.parameters())

    with torch.device("meta"):  # weights that are only counted are not drawn
        wanted = weights("siren", hidden_features)
        # No network needs twice a SIREN's width: a complex one is narrower by sqrt(2), the others are not.
        above = bisect.bisect_left(range(2 * hidden_features), wanted, lo=1, key=lambda width: weights(name, width))
        return min((max(1, above - 1), above), key=lambda width: abs(weights(name, width) - wanted))
