"""The linear last layer of a SIREN as one matrix, for one field or for B.

Symbols: B signals, C channels, F features, G = F + 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.siren import Params, Siren


def last_layer(siren: Siren, params: Params) -> Float[Tensor, "*b G C"]:
    """The last layer of a field as one matrix, its bias in the last row."""
    weight, bias = (params.get(name, own) for name, own in siren.last().items())
    if weight.ndim != bias.ndim + 1:  # one of them is the same for all signals
        b = max(weight.shape[0] if weight.ndim == 3 else 1, bias.shape[0] if bias.ndim == 2 else 1)
        weight, bias = weight.expand(b, *weight.shape[-2:]), bias.expand(b, bias.shape[-1])
    return torch.cat([weight, bias.unsqueeze(-1)], dim=-1).mT


def with_last_layer(siren: Siren, params: Params, theta: Float[Tensor, "*b G C"]) -> Params:
    """The parameters with another last layer."""
    weight, bias = siren.last()
    return {**params, weight: theta[..., :-1, :].mT, bias: theta[..., -1, :]}


def without_last_layer(siren: Siren, params: Params) -> Params:
    """Those of the parameters that the last layer is not of."""
    return {name: p for name, p in params.items() if name not in siren.last()}


def last_width(siren: Siren) -> int:
    """F, the width of the last sine layer: the features that the last layer is linear in.

    Example:
        >>> last_width(Siren(2, 3, hidden_features=(8, 32)))
        32
    """
    return list(siren.shapes.values())[-2][1]
