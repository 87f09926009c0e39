"""SIREN, a coordinate network with sine activations (paper, section 3), whose weights may be arguments.

A layer is sin(omega (W x + b)): omega multiplies the bias too, as in the authors' code and unlike the paper's text.
The initialisation (section 3.2 and the authors' code) keeps every pre-activation omega (W x + b) near N(0, 1) and every
output arcsine distributed, at any depth:

    first layer        W ~ U(-1/n, 1/n)
    all other layers   W ~ U(-sqrt(6/n)/omega, sqrt(6/n)/omega), the linear last one with hidden_omega too
    biases             b ~ U(-1/sqrt(n), 1/sqrt(n))

with n the layer's inputs. Symbols: B signals, N points, D coordinate dimensions, C channels, H hidden features.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.jets import Jet, Second, block_of, jet
from hypersiren.fields.layers import linear, sine_layer
from hypersiren.fields.savable import savable
from hypersiren.fields.shown import widths

Params = dict[str, Tensor]
"""Weights by `state_dict` name; each leaf has the parameter's own shape, or (B, *shape) for one set per signal."""


@torch.no_grad()
def init_sine_linear_(
    layer: nn.Linear, omega: float, *, first: bool = False, generator: torch.Generator | None = None
) -> nn.Linear:
    """Initialise a linear layer that stands before a sine, or after one (see the module's docstring), in place."""
    n = layer.in_features
    weight = 1 / n if first else math.sqrt(6 / n) / omega
    layer.weight.uniform_(-weight, weight, generator=generator)
    layer.bias.uniform_(-1 / math.sqrt(n), 1 / math.sqrt(n), generator=generator)
    return layer


@savable
class Siren(nn.Module):
    """A field x -> y with sine activations: one first layer, `hidden_layers` hidden ones, and a linear last one.

    Args:
        in_features: Coordinate dimensions D.
        out_features: Channels C.
        hidden_features: Width H, or a width for each sine layer, such as (256, 256, 1024).
        hidden_layers: Sine layers after the first; the paper's networks have 3 (five linear layers in all). Widths for
            each layer count them instead.
        first_omega, hidden_omega: Frequency factors of the first and of the hidden layers; the paper uses 30.
        generator: Source of the random initial weights; the global one if None.

    Example:
        >>> siren = Siren(2, 3, hidden_features=16)
        >>> siren
        Siren(2 -> 16 x 4 -> 3, omega 30/30)
        >>> x = torch.rand(10, 2)
        >>> siren(x).shape
        torch.Size([10, 3])
        >>> params = {name: p.expand(4, *p.shape) for name, p in siren.named_parameters()}  # one set for each of 4
        >>> siren(x, params).shape
        torch.Size([4, 10, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_features: int | Sequence[int] = 256,
        hidden_layers: int = 3,
        first_omega: float = 30.0,
        hidden_omega: float = 30.0,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.first_omega, self.hidden_omega = first_omega, hidden_omega
        one = [hidden_features] * (hidden_layers + 1) if isinstance(hidden_features, int) else None
        hidden = list(hidden_features) if one is None else one  # type: ignore[arg-type]
        sizes = [in_features, *hidden, out_features]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.reset_parameters(generator)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._size()})"

    def _size(self) -> str:
        """Coordinates, widths, channels, and the omegas."""
        hidden = widths(layer.out_features for layer in self._linears()[:-1])
        omegas = f"{self.first_omega:.5g}/{self.hidden_omega:.5g}"
        return f"{self.in_features} -> {hidden} -> {self.out_features}, omega {omegas}"

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new initial weights."""
        for i, layer in enumerate(self._linears()):
            init_sine_linear_(layer, self.hidden_omega, first=i == 0, generator=generator)

    def last(self) -> Params:
        """Weight and bias of the linear last layer, by name."""
        return dict(list(self.named_parameters())[-2:])

    def lr_factors(self, first: float | None = None) -> dict[Tensor, float]:
        """Parameters that learn at a multiple of the learning rate: those of the first layer.

        By default the multiple is hidden_omega / first_omega where that is below 1. An update then moves the phases of
        the first layer as it does those of the hidden ones; with the thousands that a sound needs for first omega, a
        SIREN without this forgets its frequencies.
        """
        factor = min(1.0, self.hidden_omega / self.first_omega) if first is None else first
        return dict.fromkeys(self.layers[0].parameters(), factor)

    def _omegas(self) -> list[float]:
        """The frequency factor of each sine layer."""
        return [self.first_omega] + [self.hidden_omega] * (len(self.layers) - 2)

    def _linears(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter: all that a hypernetwork needs to know of this field."""
        return {name: tuple(p.shape) for name, p in self.named_parameters()}

    def forward(self, x: Float[Tensor, "*batch N D"], params: Params | None = None) -> Float[Tensor, "*out N C"]:
        """Values at x, with this module's weights or with those given.

        Args:
            x: (N, D), or (B, N, D) for other points per signal.
            params: Weights to use instead of the module's own, all or some of them, each with an optional leading
                signal axis B. Names that are missing keep the module's own weights.

        Returns:
            (N, C), or (B, N, C) if x or any weight has a signal axis.

        Raises:
            ValueError: If x has other than D coordinates, or `params` holds a name this network does not have.
        """
        if params is None and (block := block_of(x, self._linears()[0].out_features)):
            return torch.cat([self.forward(part) for part in x.split(block)])
        return linear(self.features(x, params), *self._weights(params)[-1])

    def features(self, x: Float[Tensor, "*batch N D"], params: Params | None = None) -> Float[Tensor, "*out N F"]:
        """What the linear last layer sees: the values of the last sine layer at x.

        Args:
            x, params: As in `forward`.

        Example:
            >>> Siren(2, 3, hidden_features=(16, 64)).features(torch.rand(10, 2)).shape
            torch.Size([10, 64])
        """
        self._check(x)
        sines = self._weights(params)[:-1]
        for (weight, bias), omega in zip(sines, self._omegas(), strict=True):
            x = sine_layer(x, weight, bias, omega)
        return x

    def jet(
        self,
        x: Float[Tensor, "*batch N D"],
        params: Params | None = None,
        *,
        first: bool = True,
        second: Second | None = None,
    ) -> Jet:
        """Values at x with their derivatives, exact and in closed form; one ordinary backward trains on all of them.

        Args:
            x, params: As in `forward`.
            first: Whether the gradient is wanted.
            second: Which second derivatives are wanted: "laplacian", "diagonal", "full", or None of them. The
                Laplacian costs one direction beside the D of the gradient, the diagonal D, the full Hessian
                D (D + 1) / 2; the gradient alone costs the smaller of C and D.

        Returns:
            A Jet; what was not asked for is None in it.

        Raises:
            ValueError: As in `forward`, or if `second` is none of the above.

        Example:
            >>> jet = Siren(2, 3, hidden_features=16).jet(torch.rand(10, 2), second="laplacian")
            >>> jet.value.shape, jet.gradient.shape, jet.laplacian.shape
            (torch.Size([10, 3]), torch.Size([10, 3, 2]), torch.Size([10, 3]))
        """
        self._check(x)
        return jet(x, self.scaled_weights(params), first=first, second=second)

    def scaled_weights(self, params: Params | None = None) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of every layer, first to last, with omega multiplied in: y = W_L sin(... W_1 x + b_1) + b_L.

        Args:
            params: As in `forward`.
        """
        *sines, last = self._weights(params)
        return [*((omega * w, omega * b) for omega, (w, b) in zip(self._omegas(), sines, strict=True)), last]

    def _check(self, x: Tensor) -> None:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"expected coordinates (..., {self.in_features}), got {tuple(x.shape)}")

    def _weights(self, params: Params | None) -> list[tuple[Tensor, Tensor]]:
        own: list[tuple[Tensor, Tensor]] = [(layer.weight, layer.bias) for layer in self._linears()]
        if params is None:
            return own
        known = {f"layers.{i}.{kind}" for i in range(len(own)) for kind in ("weight", "bias")}.union(self._parameters)
        if unknown := params.keys() - known:
            raise ValueError(f"expected parameters named {sorted(known)}, got also {sorted(unknown)}")
        return [
            (params.get(f"layers.{i}.weight", weight), params.get(f"layers.{i}.bias", bias))
            for i, (weight, bias) in enumerate(own)
        ]

    def bind(self, params: Params) -> "BoundSiren":
        """The field that this network is with the given weights."""
        return BoundSiren(self, params)


@dataclass(frozen=True, eq=False)  # torch.compile asks for a hash, which tensors in a mapping have not
class BoundSiren:
    """A Siren, or a WindowedSiren, together with weights: a field, x -> siren(x, params).

    Example:
        >>> siren = Siren(2, 3, hidden_features=16)
        >>> siren.bind({"layers.4.bias": torch.zeros(5, 3)})
        BoundSiren(Siren(2 -> 16 x 4 -> 3, omega 30/30), 1 of 10 weights given, for 5 signals)
    """

    siren: Any
    params: Params

    def __repr__(self) -> str:
        shapes = self.siren.shapes
        signals = {len(p) for name, p in self.params.items() if p.ndim > len(shapes.get(name, p.shape))}
        many = f", for {max(signals)} signals" if signals else ""
        return f"BoundSiren({self.siren}, {len(self.params)} of {len(shapes)} weights given{many})"

    def __call__(self, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*out N C"]:
        return self.siren(x, self.params)

    def module(self) -> nn.Module:
        """A module like it of its own with these weights, which must be those of one signal.

        Raises:
            ValueError: If the weights are those of several signals.
        """
        siren = copy.deepcopy(self.siren).requires_grad_(True)
        for name, parameter in siren.named_parameters():
            value = self.params.get(name, parameter)
            if value.shape != parameter.shape:
                raise ValueError(f"expected the weights of one signal, got {name} of shape {tuple(value.shape)}")
            parameter.data = value.detach().clone()
        return siren

    def signal(self, index: int) -> "BoundSiren":
        """The field of one of B signals, (N, D) -> (N, C)."""
        shapes = self.siren.shapes
        own = {name: p[index] if p.ndim > len(shapes[name]) else p for name, p in self.params.items()}
        return BoundSiren(self.siren, own)

    def jet(self, x: Float[Tensor, "*batch N D"], *, first: bool = True, second: Second | None = None) -> Jet:
        """Values with derivatives; see `Siren.jet`."""
        return self.siren.jet(x, self.params, first=first, second=second)
