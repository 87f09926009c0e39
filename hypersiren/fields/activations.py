"""What stands between the layers of a coordinate network, and the initial weights that its authors publish for it.

    relu, softplus   W ~ N(0, 2/n)                         SIREN's reference code (Kaiming, fan in, every layer)
    tanh             W ~ N(0, 2/(n + m))                   SIREN's reference code (Xavier, every layer)
    FINER            as SIREN, but the first b ~ U(-k, k)  Liu et al., CVPR 2024, and its code
    WIRE             W ~ U(-1/sqrt(n), 1/sqrt(n))          Saragadam et al., CVPR 2023, and its code

with n inputs and m outputs of a layer; biases, where nothing else is said, b ~ U(-1/sqrt(n), 1/sqrt(n)), PyTorch's own.

Symbols: a pre-activation W x + b, n and m as above, I inputs and O outputs of a layer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor, nn
from torch.nn import functional as F

from hypersiren.fields.savable import savable
from hypersiren.fields.siren import init_sine_linear_


def uniform_(layer: nn.Linear, generator: torch.Generator | None = None) -> None:
    """W, b ~ U(-1/sqrt(n), 1/sqrt(n)), in place; of complex numbers both parts."""
    bound = 1 / math.sqrt(layer.in_features)
    nn.init.uniform_(layer.weight, -bound, bound, generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator)


def kaiming_(layer: nn.Linear, generator: torch.Generator | None = None) -> None:
    """W ~ N(0, 2/n), in place."""
    uniform_(layer, generator)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)


def xavier_(layer: nn.Linear, generator: torch.Generator | None = None) -> None:
    """W ~ N(0, 2/(n + m)), in place."""
    uniform_(layer, generator)
    nn.init.xavier_normal_(layer.weight, generator=generator)


class ComplexLinear(nn.Linear):
    """W h + b over complex numbers, held as pairs of real ones: weight (2, O, I) and bias (2, O), real parts first.

    Real parameters follow `.double()`, count as what they are, and suit every optimiser and file format.

    Example:
        >>> ComplexLinear(3, 4)(torch.ones(5, 3, dtype=torch.complex64)).shape
        torch.Size([5, 4])
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.weight = nn.Parameter(torch.empty(2, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(2, out_features))
        uniform_(self)

    def forward(self, h: Complex[Tensor, "*batch N I"]) -> Complex[Tensor, "*batch N O"]:
        return F.linear(h, torch.complex(*self.weight.unbind(0)), torch.complex(*self.bias.unbind(0)))


@dataclass(frozen=True)
class Plain:
    """An activation without parameters, the same in every layer.

    Attributes:
        is_complex: Whether the layers after the first are complex, as in every class of activations here.
        function: The activation.
        weights_: Initialises a layer in place.
    """

    is_complex: ClassVar[bool] = False

    function: Callable[[Tensor], Tensor]
    weights_: Callable[[nn.Linear, torch.Generator | None], None]

    def __call__(self, a: Float[Tensor, "*shape"], *, first: bool) -> Float[Tensor, "*shape"]:
        return self.function(a)

    def init_(self, layer: nn.Linear, *, first: bool, generator: torch.Generator | None) -> None:
        self.weights_(layer, generator)


@savable
@dataclass(frozen=True)
class Finer:
    """sin(omega (|a| + 1) a): the further from zero, the faster it swings; the first biases choose where it starts.

    The authors' code treats |a| + 1 as a constant when it differentiates; this is differentiated as it stands, so that
    derivatives by the coordinates are right.

    Attributes:
        first_omega, hidden_omega: Frequency factors; 30 in the authors' scripts.
        first_bias: The first layer's biases are drawn from U(-k, k); k = 1 in the authors' script for shapes. (Their
            script for images leaves PyTorch's range, 0.7 in two dimensions.)
    """

    is_complex: ClassVar[bool] = False

    first_omega: float = 30.0
    hidden_omega: float = 30.0
    first_bias: float = 1.0

    def __call__(self, a: Float[Tensor, "*shape"], *, first: bool) -> Float[Tensor, "*shape"]:
        return torch.sin((self.first_omega if first else self.hidden_omega) * (a.abs() + 1) * a)

    def init_(self, layer: nn.Linear, *, first: bool, generator: torch.Generator | None) -> None:
        init_sine_linear_(layer, self.hidden_omega, first=first, generator=generator)
        if first:
            nn.init.uniform_(layer.bias, -self.first_bias, self.first_bias, generator)


@savable
@dataclass(frozen=True)
class Wire:
    """exp(i omega a - |scale a|²), the complex Gabor wavelet.

    Attributes:
        first_omega, hidden_omega, scale: Frequency and sharpness; 20 and 10 for images (FINER's authors use the same
            in their comparison).
    """

    is_complex: ClassVar[bool] = True

    first_omega: float = 20.0
    hidden_omega: float = 20.0
    scale: float = 10.0

    def __call__(self, a: Inexact[Tensor, "*shape"], *, first: bool) -> Complex[Tensor, "*shape"]:
        omega = self.first_omega if first else self.hidden_omega
        if not a.is_complex():
            return torch.exp(torch.complex(-((self.scale * a).square()), omega * a))
        square = self.scale**2 * (a.real.square() + a.imag.square())
        return torch.exp(torch.complex(-omega * a.imag - square, omega * a.real))

    def init_(self, layer: nn.Linear, *, first: bool, generator: torch.Generator | None) -> None:
        uniform_(layer, generator)


Activation = Plain | Finer | Wire

ACTIVATIONS: dict[str, Activation] = {
    "relu": Plain(F.relu, kaiming_),
    "tanh": Plain(torch.tanh, xavier_),
    "softplus": Plain(F.softplus, kaiming_),
    "finer": Finer(),
    "wire": Wire(),
}
"""Activations by name, with their authors' parameters. A fit knows those whose names `fields.settings.Network.kind` has
too."""
