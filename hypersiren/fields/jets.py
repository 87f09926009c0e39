"""Jets: a SIREN's value together with its exact derivatives by the coordinates (paper, section 3 and supplement).

The derivative of a SIREN is a SIREN with phases shifted, so no automatic differentiation is needed to find it: the
derivatives are carried through the layers beside the value, and one ordinary backward then trains on them. With the
phase p = W h + b (omega already in W and b) of a sine layer h' = sin p, and d, e coordinate directions,

    d_d p = W d_d h               d_d h' = cos(p) d_d p
    d_de p = W d_de h             d_de h' = cos(p) d_de p - sin(p) d_d p d_e p

Summed over d = e the last line carries the Laplacian as one direction. In the first layer d_d p is a constant, the
column W[:, d], and d_de p is zero. The gradient alone may also be carried backward, one direction per channel from
the last layer's rows: g -> W^T (cos(p) g). A layer costs one matrix product for the values, with bias, and one each for
all first and all second derivatives, without; joining these three into one is slower, for it copies every value. On a
processor, many points are taken some at a time, or the passes over all values between the products wait for memory.

Symbols: B signals, N points, D coordinate dimensions, C channels, H hidden features, K directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.layers import linear, linear_directions
from hypersiren.fields.shown import by_shape

Second = Literal["laplacian", "diagonal", "full"]
"""Which second derivatives a jet carries: their sum, the Hessian's diagonal, or all of it."""

Weights = Sequence[tuple[Tensor, Tensor]]
"""Weight and bias of every layer, first to last, omega multiplied in; each may have a leading signal axis."""

Shift = tuple[Tensor, Tensor | None, Tensor | None]
"""What is added to a layer's phase and varies with x, omega multiplied in: its values (..., N, H), first derivatives
(..., D, N, H), and the second ones that are carried (..., K, N, H)."""

CACHED = 2**18
"""Numbers of a layer that a processor works on at a time: what is between the matrix products stays in its cache."""


@dataclass(frozen=True)
class Jet:
    """A field's values at N points with derivatives by the coordinates; what was not asked for is None.

    Attributes:
        value: y_c.
        gradient: dy_c / dx_d.
        laplacian: The sum over d of d²y_c / dx_d².
        hessian_diagonal: d²y_c / dx_d².
        hessian: d²y_c / dx_d dx_e.

    Example:
        >>> Jet(torch.zeros(10, 3), torch.zeros(10, 3, 2))
        Jet(value (10, 3), gradient (10, 3, 2))
    """

    value: Float[Tensor, "*batch N C"]
    gradient: Float[Tensor, "*batch N C D"] | None
    laplacian: Float[Tensor, "*batch N C"] | None = None
    hessian_diagonal: Float[Tensor, "*batch N C D"] | None = None
    hessian: Float[Tensor, "*batch N C D D"] | None = None

    __repr__ = by_shape


def jet(x: Float[Tensor, "*batch N D"], weights: Weights, *, first: bool = True, second: Second | None = None) -> Jet:
    """The jet of y = W_L sin(... sin(W_1 x + b_1)) + b_L, by whichever direction is cheaper.

    Args:
        x: (N, D), or (B, N, D) for other points per signal.
        weights: (O, I) and (O,) for each layer, or with a leading B.
        first: Whether the gradient is wanted.
        second: Which second derivatives are wanted, if any.

    Raises:
        ValueError: If `second` is unknown.

    Example:
        >>> weights = [(torch.tensor([[2.0]]), torch.zeros(1)), (torch.tensor([[1.0]]), torch.zeros(1))]
        >>> found = jet(torch.zeros(1, 1), weights, second="laplacian")  # of sin(2x) at 0
        >>> found.value.item(), found.gradient.item(), abs(found.laplacian.item())
        (0.0, 2.0, 0.0)
    """
    check_second(second)
    shared = all(weight.ndim == 2 and bias.ndim == 1 for weight, bias in weights)
    if shared and (block := block_of(x, weights[0][0].shape[-2])):
        return _joined([jet(part, weights, first=first, second=second) for part in x.split(block)])
    channels, dimensions = weights[-1][0].shape[-2], x.shape[-1]
    if first and second is None and channels < dimensions:
        return reverse_jet(x, weights)
    return forward_jet(x, weights, first=first, second=second)


def block_of(x: Float[Tensor, "*batch N D"], width: int) -> int | None:
    """Points that a processor takes at a time, of a field with layers of this width; None: all of them, as elsewhere.

    Example:
        >>> block_of(torch.zeros(10_000, 2), 256), block_of(torch.zeros(1_000, 2), 256)
        (1024, None)
    """
    if x.ndim != 2 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    block = max(64, CACHED // width)
    return block if len(x) > block else None


def check_second(second: str | None) -> None:
    """Refuse what is not the name of a second derivative."""
    if second is not None and second not in get_args(Second):
        raise ValueError(f"expected second to be one of {get_args(Second)} or None, got {second!r}")


def forward_jet(
    x: Float[Tensor, "*batch N D"],
    weights: Weights,
    *,
    first: bool = True,
    second: Second | None = None,
    shifts: Sequence[Shift] | None = None,
) -> Jet:
    """The jet carried from the coordinates to the values: D directions, and those of the second derivatives.

    Args:
        x, weights, first, second: As in `jet`.
        shifts: What is added to the phases of each sine layer; None for nothing.
    """
    *sines, (last_weight, last_bias) = weights
    h, dh, d2h = sine_jet(x, sines, first=first, second=second, shifts=shifts)
    value = linear(h, last_weight, last_bias)
    gradient = _last(dh, last_weight, value) if first and dh is not None else None
    if d2h is None:
        return Jet(value, gradient)
    found = _last(d2h, last_weight, value)
    if second == "laplacian":
        return Jet(value, gradient, laplacian=found.squeeze(-1))
    if second == "diagonal":
        return Jet(value, gradient, hessian_diagonal=found)
    return Jet(value, gradient, hessian=_symmetric(found, x.shape[-1]))


def sine_jet(
    x: Float[Tensor, "*batch N D"],
    sines: Weights,
    *,
    first: bool = True,
    second: Second | None = None,
    shifts: Sequence[Shift] | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The values of the last sine layer, (..., N, H), with their first derivatives (..., D, N, H) and second ones.

    Args:
        x, first, second, shifts: As in `forward_jet`.
        sines: Weight and bias of the sine layers, omega multiplied in.

    Example:
        >>> h, dh, d2h = sine_jet(torch.zeros(5, 2), [(torch.ones(3, 2), torch.zeros(3))], second="diagonal")
        >>> h.shape, dh.shape, d2h.shape
        (torch.Size([5, 3]), torch.Size([2, 5, 3]), torch.Size([2, 5, 3]))
    """
    h, dh, d2h = x, None, None
    for i, (weight, bias) in enumerate(sines):
        shift, dshift, d2shift = shifts[i] if shifts else (None, None, None)
        phase = _plus(linear(h, weight, bias), shift)
        h = torch.sin(phase)
        if not (first or second):
            continue
        cos = torch.cos(phase).unsqueeze(-3)
        dphase = _plus(weight.mT.unsqueeze(-2) if dh is None else linear_directions(dh, weight), dshift)
        if second:
            squares = products(dphase, second)
            d2phase = d2shift if d2h is None else _plus(linear_directions(d2h, weight), d2shift)
            if d2phase is None:
                d2h = -h.unsqueeze(-3) * squares
            else:
                d2h = torch.addcmul(cos * d2phase, h.unsqueeze(-3), squares, value=-1)
        if first or i < len(sines) - 1:  # the last layer's second derivatives need no first ones
            dh = cos * dphase
    return h, dh, d2h


def reverse_jet(x: Float[Tensor, "*batch N D"], weights: Weights) -> Jet:
    """Value and gradient, the gradient carried from the values back to the coordinates: C directions."""
    *sines, (last_weight, last_bias) = weights
    h, cosines = x, []
    for weight, bias in sines:
        phase = linear(h, weight, bias)
        h = torch.sin(phase)
        cosines.append(torch.cos(phase).unsqueeze(-3))
    value = linear(h, last_weight, last_bias)
    rows = last_weight.unsqueeze(-2)  # (..., C, 1, H)
    for (weight, _), cos in zip(reversed(sines), reversed(cosines), strict=True):
        rows = linear_directions(rows * cos, weight.mT)
    return Jet(value, rows.movedim(-3, -2).expand(*value.shape, -1))


def _plus(value: Tensor, shift: Tensor | None) -> Tensor:
    return value if shift is None else value + shift


def _joined(parts: Sequence[Jet]) -> Jet:
    """The jet of all points from those of some points each."""
    columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
    joined: dict[str, Any] = {n: None if column[0] is None else torch.cat(column) for n, column in columns.items()}
    return Jet(**joined)


def products(dphase: Float[Tensor, "*batch D N H"], second: Second) -> Float[Tensor, "*batch K N H"]:
    """d_d p d_e p for the pairs (d, e) that are carried, or their sum."""
    if second == "laplacian":
        return dphase.square().sum(-3, keepdim=True)
    if second == "diagonal":
        return dphase.square()
    columns = dphase.unbind(-3)
    return torch.stack([columns[d] * columns[e] for d, e in _pairs(len(columns))], dim=-3)


def _pairs(dimensions: int) -> list[tuple[int, int]]:
    """The pairs d <= e: a Hessian is symmetric."""
    return [(d, e) for d in range(dimensions) for e in range(d, dimensions)]


def _last(
    dh: Float[Tensor, "*batch K N H"], weight: Float[Tensor, "*b C H"], value: Float[Tensor, "*out N C"]
) -> Float[Tensor, "*out N C K"]:
    """Derivatives through the linear last layer; expanded, as a signal axis may come from its bias alone."""
    return linear_directions(dh, weight).movedim(-3, -1).expand(*value.shape, -1)


def _symmetric(found: Float[Tensor, "*batch N C K"], dimensions: int) -> Float[Tensor, "*batch N C D D"]:
    """The full Hessian from its pairs d <= e."""
    by_pair = dict(zip(_pairs(dimensions), found.unbind(-1), strict=True))
    entries = [by_pair[min(d, e), max(d, e)] for d in range(dimensions) for e in range(dimensions)]
    return torch.stack(entries, dim=-1).unflatten(-1, (dimensions, dimensions))
