"""The layers of a coordinate network as functions whose weights are arguments, one set or one set per signal.

Symbols: B signals, N points, K directions, I inputs and O outputs of a layer.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def linear(
    x: Float[Tensor, "*batch N I"], weight: Float[Tensor, "*b O I"], bias: Float[Tensor, "*b2 O"], omega: float = 1.0
) -> Float[Tensor, "*out N O"]:
    """omega (W x + b), for one set of weights or for one set per signal.

    Args:
        x: (N, I), or (B, N, I) for other points per signal.
        weight: (O, I), or (B, O, I) for other weights per signal: then one `baddbmm`.
        bias: (O,), or (B, O).

    Example:
        >>> linear(torch.ones(5, 2), torch.ones(3, 4, 2), torch.zeros(3, 4), omega=10.0).shape
        torch.Size([3, 5, 4])
    """
    if omega != 1.0:
        # Scaling the weights, not the values, spares one pass over all points.
        weight, bias = omega * weight, omega * bias
    if weight.ndim == 2:
        return F.linear(x, weight, bias) if bias.ndim == 1 else F.linear(x, weight) + bias.unsqueeze(-2)
    x = x.expand(weight.shape[0], -1, -1)
    return torch.baddbmm(bias.unsqueeze(-2), x, weight.mT)


def sine_layer(
    x: Float[Tensor, "*batch N I"], weight: Float[Tensor, "*b O I"], bias: Float[Tensor, "*b2 O"], omega: float
) -> Float[Tensor, "*out N O"]:
    """sin(omega (W x + b)); shapes as in `linear`.

    Example:
        >>> sine_layer(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([torch.pi / 2]), omega=1.0).item()
        1.0
    """
    return torch.sin(linear(x, weight, bias, omega))


def linear_directions(h: Float[Tensor, "*batch K N I"], weight: Float[Tensor, "*b O I"]) -> Float[Tensor, "*out K N O"]:
    """W h for K directions at every point, as one matrix product; without bias, as derivatives have none.

    Args:
        h: (K, N, I), or (B, K, N, I).
        weight: (O, I), or (B, O, I) for other weights per signal: then one `bmm`.

    Example:
        >>> linear_directions(torch.ones(2, 5, 3), torch.ones(4, 7, 3)).shape
        torch.Size([4, 2, 5, 7])
    """
    if weight.ndim == 2:
        return F.linear(h, weight)
    flat = h.flatten(-3, -2).expand(len(weight), -1, -1)
    return torch.bmm(flat, weight.mT).unflatten(-2, h.shape[-3:-1])
