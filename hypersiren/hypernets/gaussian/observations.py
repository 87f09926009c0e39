"""What is known of signals as equations that are linear in the last layer of a SIREN.

A known value is one equation, phi(x) theta = y with the features phi. A point of a surface with its normal n is 1 + D
of them, for the signed distance is 0 there and its gradient is n:

    phi(x) theta = 0,     l d_d phi(x) theta = l n_d,

with a length l that says how much an error of a normal counts beside one of the distance.

Symbols: B signals, S linear systems (B, or 1 where all are known at the same points), N equations, P points of a
raster, C channels, D coordinate dimensions, F features, G = F + 1, R columns.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from hypersiren.fields.coords import grid
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.linear_algebra import with_one


@dataclass(frozen=True)
class Known:
    """What is known of B signals.

    Attributes:
        features: (P, G) of a whole raster, or (S, N, G), a row for each equation.
        cells: Which of the raster's rows are known; None where features are those of the equations.
        mask: Which of the N equations there are.
        wrong: Their right-hand sides less what the mean says, 0 where there is no equation.
        alike: Whether the equations of all signals differ in their right-hand sides alone.
    """

    features: Float[Tensor, "*b P G"]
    cells: Int[Tensor, "S N"] | None
    mask: Bool[Tensor, "S N"]
    wrong: Float[Tensor, "B N C"]
    alike: bool

    __repr__ = by_shape

    def rows(self, points: Float[Tensor, "*b P R"]) -> Float[Tensor, "S N R"]:
        """Of values at the features' points those of the equations, 0 where there is none."""
        return (points if self.cells is None else points[self.cells]) * self.mask.unsqueeze(-1)


def equations(
    siren: Siren,
    params: Params,
    theta: Float[Tensor, "*b G C"],
    context: Context,
    length: float = 1.0,
    one_system: bool = False,
) -> Known:
    """The equations of a context, in the precision of theta.

    Args:
        siren: The hypo-SIREN.
        params: What is predicted of its weights; the last layer among them is not looked at.
        theta: The mean of the last layer.
        context: What is known of each signal.
        length: l, where the context is of surfaces.
        one_system: Whether signals that are known at the same points share the rows of their features: S is 1.

    Raises:
        ValueError: If a context of surfaces has no normal for each coordinate, or the field more than one value.

    Example:
        >>> siren = Siren(3, 1, hidden_features=(8, 16))
        >>> normals = torch.tensor([[[0.0, 0.0, 1.0]]])
        >>> context = Context(torch.zeros(1, 1, 3), normals, torch.ones(1, 1, dtype=torch.bool), surface=True)
        >>> equations(siren, {}, torch.zeros(17, 1), context, length=0.1).wrong.flatten().tolist()
        [0.0, 0.0, 0.0, 0.10000000149011612]
    """
    hidden = {name: p for name, p in params.items() if name not in siren.last()}
    alike = context.alike and not hidden
    systems = slice(0, 1) if one_system and alike else slice(None)
    signals, mask, every = len(context.mask), context.mask[systems], context.mask
    y = torch.where(every.unsqueeze(-1), context.y, 0).to(theta.dtype)
    if context.cells is not None and context.size is not None and not hidden and not context.surface:
        # One set of features for the whole batch: the raster's.
        features = with_one(siren.features(_raster(context.size, context.x.device, context.y.dtype)))
        features, cells = features.to(theta.dtype), torch.where(mask, context.cells[systems], 0)
        mean = (features @ theta).expand(signals, -1, -1)
        mean = mean.gather(1, cells.unsqueeze(-1).expand(signals, -1, mean.shape[-1]))
        return Known(features, cells, mask, torch.where(every.unsqueeze(-1), y - mean, 0), alike)
    x = torch.where(mask.unsqueeze(-1), context.x[systems], 0)
    if context.surface:
        d = x.shape[-1]
        if y.shape[-1] != d or siren.out_features != 1:
            raise ValueError(
                f"expected normals of {d} numbers and a field of 1 value for a context of surfaces, "
                f"got {y.shape[-1]} and {siren.out_features}"
            )
        features = _with_slopes(siren, x, hidden, length)
        y = torch.cat([torch.zeros_like(y[..., :1]), length * y], -1).mT.flatten(1).unsqueeze(-1)
        mask, every = mask.repeat(1, 1 + d), every.repeat(1, 1 + d)
    else:
        features = with_one(siren.features(x, hidden))
    features = features.to(theta.dtype)
    return Known(features, None, mask, torch.where(every.unsqueeze(-1), y - features @ theta, 0), alike)


@lru_cache(maxsize=4)
def _raster(size: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Float[Tensor, "P D"]:
    """The cells of a raster, the same in every step of a training; not to be written to."""
    with torch.inference_mode(False):  # a training may want them that were first asked for in inference
        return grid(size, device=device, dtype=dtype)


def _with_slopes(siren: Siren, x: Float[Tensor, "B N D"], hidden: Params, length: float) -> Tensor:
    """Features at N points, and below them their derivatives along each axis: (B, (1 + D) N, G)."""
    weight, bias = siren.last()
    identity = torch.eye(siren.shapes[weight][1]).to(x)
    found = siren.jet(x, {**hidden, weight: identity, bias: torch.zeros_like(identity[0])})
    assert found.gradient is not None
    slopes = length * pad(found.gradient.movedim(-1, -3), (0, 1))  # the constant has none
    return torch.cat([with_one(found.value).unsqueeze(-3), slopes], -3).flatten(-3, -2)
