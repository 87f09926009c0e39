"""Kinds of observation: what the values of a context say of a field, as equations and as errors.

A known value is one equation that is linear in the last layer theta, phi(x) theta = y with the features phi. A point of
a surface with its normal n is 1 + D of them, for the signed distance is 0 there and its gradient is n:

    phi(x) theta = 0,     l d_d phi(x) theta = l n_d,

with a length l that says how much an error of a normal counts beside one of the distance. A kind of your own, such as
one of slopes, is a class with what `Observation` has.

Symbols: B signals, S linear systems (B, or 1 where all are known at the same points), N points, K equations for each of
them, C channels, D coordinate dimensions, G features and a constant.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from hypersiren.fields.operators import Prior, value_and_gradient
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.gaussian.linear_algebra import append_bias

LENGTH = 0.05
"""The error of a distance that an error of 1 in a normal counts for, where no solver says another."""


@runtime_checkable
class Observation(Protocol):
    """What the values y at the points x of a context say.

    Attributes:
        on_raster: Whether the equations at the points of a raster are the features there, and nothing else.
        prior: That of `hypersiren.hypernets.refine` by default.
    """

    on_raster: ClassVar[bool]
    prior: ClassVar[Prior]

    def equations(
        self, siren: Siren, hidden: Params, x: Float[Tensor, "S N D"], y: Float[Tensor, "B N C"], length: float
    ) -> tuple[Float[Tensor, "S _ G"], Float[Tensor, "B _ C2"]]:
        """K N rows, those of one equation for all points below each other, and what they shall give."""

    def residual(
        self, field: Any, x: Float[Tensor, "B N D"], y: Float[Tensor, "B N C"], length: float = LENGTH
    ) -> Float[Tensor, "B N K2"]:
        """By how much a field misses the equations at each point; trained through."""


@dataclass(frozen=True)
class Values:
    """The field's values."""

    on_raster: ClassVar[bool] = True
    prior: ClassVar[Prior] = "tv"

    def equations(
        self, siren: Siren, hidden: Params, x: Float[Tensor, "S N D"], y: Float[Tensor, "B N C"], length: float
    ) -> tuple[Float[Tensor, "S N G"], Float[Tensor, "B N C"]]:
        """phi(x) theta = y."""
        return append_bias(siren.features(x, hidden)), y

    def residual(
        self, field: Any, x: Float[Tensor, "B N D"], y: Float[Tensor, "B N C"], length: float = LENGTH
    ) -> Float[Tensor, "B N C"]:
        """f(x) - y."""
        return field(x) - y


VALUES = Values()


@dataclass(frozen=True)
class SurfaceNormals:
    """Unit normals y of a surface that the points lie on: a signed distance has the value 0 and the gradient y there.

    Example:
        >>> x = torch.tensor([[[0.5, 0.0]]])  # on a circle of radius 0.5, to which the field is one of radius 0.6
        >>> field = lambda x: x.norm(dim=-1, keepdim=True) - 0.6
        >>> [round(value, 3) for value in SurfaceNormals().residual(field, x, 2 * x).flatten().tolist()]
        [-0.1, 0.0, 0.0]
    """

    on_raster: ClassVar[bool] = False
    prior: ClassVar[Prior] = "none"  # the total variation of a distance is not small

    def equations(
        self, siren: Siren, hidden: Params, x: Float[Tensor, "S N D"], y: Float[Tensor, "B N C"], length: float
    ) -> tuple[Float[Tensor, "S KN G"], Float[Tensor, "B KN 1"]]:
        """phi(x) theta = 0, and l d_d phi(x) theta = l n_d for each axis d.

        Raises:
            ValueError: If there is no normal for each coordinate, or the field has more than one value.
        """
        _check(x, y, siren.out_features)
        targets = torch.cat([torch.zeros_like(y[..., :1]), length * y], -1).mT.flatten(1).unsqueeze(-1)
        return _with_slopes(siren, x, hidden, length), targets

    def residual(
        self, field: Any, x: Float[Tensor, "B N D"], y: Float[Tensor, "B N C"], length: float = LENGTH
    ) -> Float[Tensor, "B N K"]:
        """f(x), and l (grad f(x) - n).

        Raises:
            ValueError: If there is no normal for each coordinate, or the field has more than one value.
        """
        value, gradient = value_and_gradient(field, x)
        _check(x, y, value.shape[-1])
        return torch.cat([value, length * (gradient.squeeze(-2) - y)], -1)


def _check(x: Tensor, y: Tensor, values: int) -> None:
    if y.shape[-1] != x.shape[-1] or values != 1:
        raise ValueError(
            f"expected normals of {x.shape[-1]} numbers and a field of 1 value for a context of surfaces, "
            f"got {y.shape[-1]} and {values}"
        )


def _with_slopes(siren: Siren, x: Float[Tensor, "B N D"], hidden: Params, length: float) -> Float[Tensor, "B KN G"]:
    """Features at N points, and below them their derivatives along each axis: (B, (1 + D) N, G)."""
    weight, bias = siren.last()
    identity = torch.eye(siren.shapes[weight][1]).to(x)
    found = siren.jet(x, {**hidden, weight: identity, bias: torch.zeros_like(identity[0])})
    assert found.gradient is not None
    slopes = length * pad(found.gradient.movedim(-1, -3), (0, 1))  # the constant has none
    return torch.cat([append_bias(found.value).unsqueeze(-3), slopes], -3).flatten(-3, -2)
